"""EncoderDecoderLM: results are those of a plain loop over single prompts without padding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)

from tilefold.models import EncoderDecoderLM
from tilefold.testing import assert_as_close_as_torch
from tiny_language_models import build, save, save_words

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = ["the red fox", "a", "the hen runs over the barn and under a blue barn", "the red"]
CONTINUATIONS = ["sleeps", "blue hen runs", "and", "fox sleeps"]
BATCHES = [{}, {"batch_size": 1}, {"batch_size": 2}, {"batch_tokens": 16}, {"batch_tokens": 1}]
KIND = "T5ForConditionalGeneration"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(KIND, tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def model(folder: Path) -> EncoderDecoderLM:
    return EncoderDecoderLM.from_pretrained(folder)


def each_alone(folder: Path, dtype: Any) -> Any:
    """The plain model, and the tokens of every prompt."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=dtype).eval()
    return model, tokenizer, [torch.tensor([tokenizer(text)["input_ids"]]) for text in PROMPTS]


def scored_alone(folder: Path, dtype: Any, end: list[int]) -> np.ndarray:
    model, tokenizer, prompts = each_alone(folder, dtype)
    sums = []
    for ids, continuation in zip(prompts, CONTINUATIONS, strict=True):
        written = tokenizer(continuation, add_special_tokens=False)["input_ids"] + end
        with torch.inference_mode():
            logits = model(ids, decoder_input_ids=torch.tensor([[0, *written[:-1]]])).logits[0]
        log_p = logits.log_softmax(-1)
        sums.append(sum(log_p[i, token] for i, token in enumerate(written)))
    return torch.stack(sums).numpy()


@pytest.mark.parametrize("options", BATCHES, ids=str)
@pytest.mark.parametrize("append_eos", [False, True])
def test_log_likelihoods_are_those_of_single_texts(folder, model, options, append_eos):
    found = model.log_likelihood(PROMPTS, CONTINUATIONS, append_eos=append_eos, **options)
    end = [3] if append_eos else []
    expected, truth = (scored_alone(folder, dtype, end) for dtype in (torch.float32, torch.float64))
    assert found.tokens.tolist() == [n + append_eos for n in (1, 3, 1, 2)]
    assert_as_close_as_torch(found.sum, expected, truth)
    counts = found.tokens
    assert_as_close_as_torch(found.mean, expected / np.float32(counts), truth / counts)
    assert truth.std() > 1


@pytest.mark.parametrize("options", BATCHES, ids=str)
def test_greedy_texts_are_those_of_single_prompts(folder, model, options):
    plain, tokenizer, prompts = each_alone(folder, torch.float32)
    expected = []
    for ids in prompts:
        written = [0]
        while len(written) < 9 and written[-1] != 3:
            with torch.inference_mode():
                logits = plain(ids, decoder_input_ids=torch.tensor([written])).logits
            written.append(int(logits[0, -1].argmax()))
        expected.append(tokenizer.decode(written[1:], skip_special_tokens=True))
    assert model.generate(PROMPTS, max_new_tokens=8, **options) == expected
    assert len(set(expected)) > 1


def test_samples_depend_on_the_seed_and_not_on_the_batch(model):
    options = {"max_new_tokens": 8, "greedy": False}
    found = model.generate(PROMPTS, **options, seed=1)
    assert found == model.generate(PROMPTS, **options, seed=1, batch_size=1)
    assert found != model.generate(PROMPTS, **options, seed=2)


@pytest.mark.parametrize("options", BATCHES, ids=str)
def test_states_are_those_of_single_texts(folder, model, options):
    found = model.last_hidden_states(PROMPTS, **options)
    states = {}
    for dtype in (torch.float32, torch.float64):
        plain, _, prompts = each_alone(folder, dtype)
        with torch.inference_mode():
            outputs = [
                plain(ids, decoder_input_ids=torch.tensor([[0]]), output_hidden_states=True)
                for ids in prompts
            ]
        states[dtype] = torch.cat([out.decoder_hidden_states[-1][:, 0] for out in outputs]).numpy()
    assert_as_close_as_torch(found, states[torch.float32], states[torch.float64])


def test_an_untied_head_survives_loading_and_saving(tmp_path):
    """Flan-T5 has one, though transformers 5 configures every T5 as tied."""
    whole = build(KIND)
    whole.lm_head.weight = torch.nn.Parameter(torch.randn(32, 32))
    whole.save_pretrained(tmp_path / "untied")
    save_words(KIND, tmp_path / "untied")
    model = EncoderDecoderLM.from_pretrained(tmp_path / "untied")
    assert torch.equal(model.model.lm_head.weight, whole.lm_head.weight)
    model.save_pretrained(tmp_path / "again")
    again = EncoderDecoderLM.from_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(
        again.log_likelihood(PROMPTS, CONTINUATIONS).sum,
        model.log_likelihood(PROMPTS, CONTINUATIONS).sum,
    )


def test_other_models_and_empty_texts_are_errors(model, folder, tmp_path):
    bert = build("BertForMaskedLM")
    with pytest.raises(ValueError, match=r"expected an encoder-decoder model .* BertForMaskedLM"):
        EncoderDecoderLM(bert, model.tokenizer)
    with pytest.raises(ValueError, match="a continuation has no token"):
        model.log_likelihood(["a"], [" "])
    model.save_pretrained(tmp_path / "saved")
    save_words(KIND, tmp_path / "saved", around="$A")
    bare = EncoderDecoderLM.from_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="a text has no token"):
        bare.generate([""], max_new_tokens=1)
    with pytest.raises(ValueError, match="27 tokens, more than max_length 24"):
        model.tokenize(["a " * 26])


def test_t5_reads_texts_beyond_the_limit_of_its_tokenizer_where_that_is_chosen(model):
    """Its positions are relative; 24 is the tokenizer's limit."""
    longer = model.with_options(max_length=30)
    (found,) = longer.tokenize(["a " * 26])
    assert len(found["input_ids"]) == 27
    expected = longer.log_likelihood(["a " * 20], ["sleeps"]).sum
    np.testing.assert_array_equal(model.log_likelihood(["a " * 20], ["sleeps"]).sum, expected)


def test_a_tokenizer_does_not_warn_of_what_is_an_error(model):
    with pytest.raises(ValueError, match="more than max_length"):
        model.tokenize(["a " * 26])
    warned = "sequence-length-is-longer-than-the-specified-maximum"
    assert not model.tokenizer.deprecation_warnings.get(warned)


@pytest.mark.parametrize("asked", [False, True])
def test_states_of_the_decoder_are_those_of_a_patched_model(tmp_path, asked):
    """In either order of patch and the first request for hidden states."""
    from tilefold.activations import patch

    model = EncoderDecoderLM.from_pretrained(save("T5ForConditionalGeneration", tmp_path / "model"))
    plain = model.last_hidden_states(["the red fox"]) if asked else None
    with patch(model, {"model.decoder.block.0": lambda x: 2 * x + 1}):
        found = model.last_hidden_states(["the red fox"])
        again = model.last_hidden_states(["the red fox"])
    np.testing.assert_array_equal(found, again)
    unpatched = model.last_hidden_states(["the red fox"])
    assert abs(found - unpatched).max() > 1e-3
    assert plain is None or (plain == unpatched).all()


@pytest.mark.parametrize("layers", [(2, 3), (3, 1), (2, 2)])
def test_generation_does_not_depend_on_how_many_layers_each_side_has(tmp_path, layers):
    encoder, decoder = layers
    save(KIND, tmp_path, num_layers=encoder, num_decoder_layers=decoder)
    found = EncoderDecoderLM.from_pretrained(tmp_path).generate(PROMPTS, max_new_tokens=6)
    plain, tokenizer, prompts = each_alone(tmp_path, torch.float32)
    for ids, text in zip(prompts, found, strict=True):
        options = {"max_new_tokens": 6, "do_sample": False, "use_cache": False}
        written = plain.generate(input_ids=ids, **options)[0, 1:]
        assert text == tokenizer.decode(written, skip_special_tokens=True)
