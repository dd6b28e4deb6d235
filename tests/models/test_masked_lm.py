"""MaskedLM: words at a mask have the probabilities that a plain forward pass gives them."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)

from tilefold.models import MaskedLM
from tilefold.models.masked_lm import mask_logits
from tilefold.testing import assert_as_close_as_torch
from tiny_language_models import build, save

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = ["the [MASK] fox", "[MASK]", "the hen runs over the [MASK] and under a blue barn"]
WORDS = ["red", "a", "barn"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("BertForMaskedLM", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def model(folder: Path) -> MaskedLM:
    return MaskedLM.from_pretrained(folder)


@pytest.fixture(scope="module")
def alone(folder):
    """Logits at the masks, one text at a time: in float32, and in float64."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for dtype in (torch.float32, torch.float64):
        kind = transformers.AutoModelForMaskedLM
        plain = kind.from_pretrained(folder, dtype=dtype).eval()
        rows = []
        for text in TEXTS:
            tokens = tokenizer(text, return_tensors="pt")
            place = (tokens["input_ids"][0] == tokenizer.mask_token_id).nonzero().item()
            with torch.inference_mode():
                rows.append(plain(**tokens).logits[0, place])
        found.append(torch.stack(rows))
    return found


@pytest.mark.parametrize("options", [{}, {"batch_size": 1}, {"batch_tokens": 10}], ids=str)
def test_logits_are_those_of_single_texts(model, alone, options):
    found = model.logits(TEXTS, **options)
    assert_as_close_as_torch(found, *alone)
    assert found.std() > 0.3


def test_probabilities_are_the_softmax_of_the_logits(model, alone):
    ids = torch.from_numpy(model.word_ids(WORDS))[:, None]
    expected = (logits.softmax(1).gather(1, ids)[:, 0] for logits in alone)
    assert_as_close_as_torch(model.probabilities(TEXTS, WORDS), *expected)


def test_among_candidates_probabilities_sum_to_one(model, alone):
    candidates = ["barn", "a", "red"]
    found = [model.probabilities(TEXTS, [word] * 3, candidates=candidates) for word in candidates]
    np.testing.assert_allclose(sum(found), 1, rtol=1e-6)
    chosen = torch.from_numpy(model.word_ids(candidates))
    expected = [logits[:, chosen].softmax(1)[:, 2] for logits in alone]
    assert_as_close_as_torch(found[2], *expected)


def test_logits_at_masks_of_a_plain_model_are_differentiable():
    plain = build("BertForMaskedLM")
    ids = torch.tensor([[2, 4, 7, 3], [2, 8, 4, 3]])
    tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    logits = mask_logits(plain, tokens, 4)
    assert torch.equal(logits, plain(**tokens).logits[[0, 1], [1, 2]])
    logits.sum().backward()
    assert plain.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0


def test_no_text_has_no_logits(model):
    assert model.logits([]).shape[0] == 0
    assert model.probabilities([], []).shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.logits(["fox"]), r"a text must have one \[MASK\], got 0: 'fox'"),
        (lambda m: m.logits(["[MASK] [MASK]"]), r"must have one \[MASK\], got 2"),
        (lambda m: m.logits(["[MASK] " + "a " * 30]), "33 tokens, more than max_length 24"),
        (lambda m: m.word_ids(["zebra"]), r"'zebra' is not one token but 1: \[1\]"),
        (lambda m: m.word_ids(["red fox"]), r"'red fox' is not one token but 2"),
        (lambda m: m.probabilities(TEXTS, ["a"]), "as many words as texts, got 1 and 3"),
        (
            lambda m: m.probabilities(TEXTS, WORDS, candidates=["a", "red"]),
            "'barn' is not among the candidates",
        ),
        (
            lambda m: m.probabilities(TEXTS, ["a"] * 3, candidates=["a", "a"]),
            "two of the candidates are the same token",
        ),
    ],
)
def test_wrong_input_is_an_error(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


def test_a_tokenizer_without_a_mask_is_an_error(model, tmp_path):
    folder = save("GPT2LMHeadModel", tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with pytest.raises(ValueError, match="MaskedLM: the tokenizer has no mask token"):
        MaskedLM(model.model, tokenizer)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.probabilities("[MASK]", ["a"]), "texts is one string"),
        (lambda m: m.probabilities(["[MASK]"], "a"), "words is one string"),
        (lambda m: m.probabilities("a", "b"), "texts is one string"),
        (
            lambda m: m.probabilities(["[MASK]"], ["a"], candidates="ab"),
            "candidates is one string",
        ),
        (lambda m: m.probabilities(["[MASK]"], [1]), "words must be strings, got int at 0"),
        (lambda m: m.probabilities(["[MASK]"], ["a"], batch_size="2"), "batch_size must be an int"),
        (lambda m: m.with_options(max_length="8"), "MaskedLM: max_length must be an integer"),
    ],
)
def test_arguments_of_another_type_are_named(model, call, message):
    with pytest.raises(TypeError, match=message):
        call(model)
    with pytest.raises(TypeError, match=r"MaskedLM\.word_ids: words is one string"):
        model.word_ids("fox")
