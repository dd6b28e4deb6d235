"""CausalLM: scores, texts and states are those of a plain loop over single unpadded texts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install tilefold[train]"
)

from tilefold.models import CausalLM
from tilefold.testing import assert_as_close_as_torch
from tiny_language_models import save, save_words

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPTS = ["the red fox", "a", "", "the hen runs over the barn and under a blue barn", "the red"]
CONTINUATIONS = [" sleeps", " blue hen runs", " fox", " and", " fox sleeps"]
BATCHES = [{}, {"batch_size": 1}, {"batch_size": 2}, {"batch_tokens": 14}, {"batch_tokens": 1}]


@pytest.fixture(scope="module", params=["GPT2LMHeadModel", "LlamaForCausalLM"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(request.param, tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def model(folder: Path) -> CausalLM:
    return CausalLM.from_pretrained(folder)


def plain(folder: Path, dtype: Any) -> tuple[Any, Any]:
    kind = transformers.AutoModelForCausalLM
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return kind.from_pretrained(folder, dtype=dtype).eval(), tokenizer


def ids_of(tokenizer: Any, prompt: str) -> list[int]:
    """A prompt as it is continued: [BOS] before it, and no [EOS]."""
    return [2, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]


def scored_alone(folder: Path, dtype: Any, end: list[int]) -> np.ndarray:
    """Sums of log-probabilities, one pair at a time."""
    model, tokenizer = plain(folder, dtype)
    sums = []
    for prompt, continuation in zip(PROMPTS, CONTINUATIONS, strict=True):
        given = ids_of(tokenizer, prompt)
        added = tokenizer(continuation, add_special_tokens=False)["input_ids"] + end
        with torch.inference_mode():
            logits = model(torch.tensor([given + added])).logits[0]
        log_p = logits.log_softmax(-1)
        sums.append(sum(log_p[len(given) + i - 1, token] for i, token in enumerate(added)))
    return torch.stack(sums).numpy()


@pytest.mark.parametrize("options", BATCHES, ids=str)
@pytest.mark.parametrize("append_eos", [False, True])
def test_log_likelihoods_are_those_of_single_texts(folder, model, options, append_eos):
    found = model.log_likelihood(PROMPTS, CONTINUATIONS, append_eos=append_eos, **options)
    end = [3] if append_eos else []
    expected, truth = (scored_alone(folder, dtype, end) for dtype in (torch.float32, torch.float64))
    assert found.tokens.tolist() == [n + append_eos for n in (1, 3, 1, 1, 2)]
    assert_as_close_as_torch(found.sum, expected, truth)
    counts = found.tokens
    assert_as_close_as_torch(found.mean, expected / np.float32(counts), truth / counts)
    assert truth.std() > 1  # no uniform distribution, which every error would leave alone


def test_options_that_sum_to_one_do(model):
    words = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "the", "red", "fox"]
    found = model.log_likelihood(["the hen"] * len(words), [f" {word}" for word in words])
    assert 0 < np.exp(found.sum).sum() < 1
    with torch.inference_mode():
        logits = model.model(torch.tensor([[2, 4, 8]])).logits[0, -1]
    ids = [0, 1, 2, 3, 4, 6, 9]
    np.testing.assert_allclose(np.exp(found.sum), logits.softmax(0)[ids], rtol=1e-4)


def continued_alone(folder: Path, n: int) -> list[str]:
    model, tokenizer = plain(folder, torch.float32)
    texts = []
    for prompt in PROMPTS:
        ids = ids_of(tokenizer, prompt)
        for _ in range(n):
            with torch.inference_mode():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == 3:
                break
        new = ids[len(ids_of(tokenizer, prompt)) :]
        texts.append(tokenizer.decode(new, skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("options", BATCHES, ids=str)
def test_greedy_texts_are_those_of_single_prompts(folder, model, options):
    found = model.generate(PROMPTS, max_new_tokens=8, **options)
    assert found == continued_alone(folder, 8)
    assert len(set(found)) > 2


def test_a_models_own_defaults_of_decoding_do_not_matter(folder, model, tmp_path):
    expected = model.generate(PROMPTS, max_new_tokens=8)
    model.save_pretrained(tmp_path / "saved")
    defaults = {"do_sample": True, "temperature": 3.0, "top_k": 2, "repetition_penalty": 5.0}
    others = {"min_new_tokens": 8, "no_repeat_ngram_size": 1, "num_beams": 3, "max_length": 4}
    transformers.GenerationConfig(**defaults, **others, eos_token_id=3).save_pretrained(
        tmp_path / "saved"
    )
    again = CausalLM.from_pretrained(tmp_path / "saved")
    assert again.generate(PROMPTS, max_new_tokens=8) == expected
    assert again.model.generation_config.num_beams == 3  # which is left as it was


def test_samples_depend_on_the_seed_and_not_on_the_batch(model):
    options = {"max_new_tokens": 8, "greedy": False}
    found = model.generate(PROMPTS, **options, seed=1)
    assert found == model.generate(PROMPTS, **options, seed=1, batch_tokens=30)
    assert found != model.generate(PROMPTS, **options, seed=2)
    assert found != model.generate(PROMPTS, max_new_tokens=8)
    cold = model.generate(PROMPTS, **options, temperature=1e-6)
    assert cold == model.generate(PROMPTS, max_new_tokens=8)


def test_samples_follow_the_softmax(model):
    prompts = ["the red fox"] * 2000
    found = model.generate(prompts, max_new_tokens=1, greedy=False, batch_size=500)
    options = sorted(set(found))
    shares = np.array([found.count(word) for word in options]) / len(found)
    with torch.inference_mode():
        logits = model.model(torch.tensor([[2, *ids_of(model.tokenizer, prompts[0])[1:]]])).logits
    expected = logits[0, -1].softmax(0)
    ids = [model.tokenizer.convert_tokens_to_ids(word) for word in options if word]
    for word, share in zip(options, shares, strict=True):
        if word:
            p = float(expected[model.tokenizer.convert_tokens_to_ids(word)])
            assert abs(share - p) < 5 * (p * (1 - p) / len(found)) ** 0.5 + 1e-9
    assert len(ids) > 2


@pytest.mark.parametrize("options", BATCHES, ids=str)
def test_states_are_those_of_single_texts(folder, model, options):
    found = model.last_hidden_states(PROMPTS, **options)
    states = {}
    for dtype in (torch.float32, torch.float64):
        alone, tokenizer = plain(folder, dtype)
        rows = []
        for prompt in PROMPTS:
            ids = torch.tensor([ids_of(tokenizer, prompt)])
            with torch.inference_mode():
                rows.append(alone(ids, output_hidden_states=True).hidden_states[-1][0, -1])
        states[dtype] = torch.stack(rows).numpy()
    assert_as_close_as_torch(found, states[torch.float32], states[torch.float64])


def test_padding_on_the_left_would_not_change_logits_of_generation(model):
    """GPT-2 has absolute positions: they must count from the first token."""
    seen = []
    handle = model.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    model.generate(PROMPTS, max_new_tokens=1)
    handle.remove()
    assert seen[0]["attention_mask"][-1].tolist()[0] == 0
    assert seen[0]["position_ids"].max() < 13


def test_bfloat16_is_near_float32(folder, model):
    half = CausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert next(half.parameters()).dtype == torch.bfloat16
    exact, near = (one.log_likelihood(PROMPTS, CONTINUATIONS).mean for one in (model, half))
    assert near.dtype == np.float32
    assert 0 < abs(near - exact).max() < 0.15 * abs(exact).max()
    assert half.last_hidden_states(PROMPTS).dtype == np.float32


def test_a_special_token_in_a_text_stays_and_one_that_the_tokenizer_adds_goes(model):
    tokens = [one["input_ids"] for one in model.tokenize(["fox", "fox [EOS]", ""])]
    assert tokens == [[2, 9], [2, 9, 3], [2]]


def test_modes_and_flags_of_the_model_are_left_alone(model):
    model.train()
    model.generate(PROMPTS[:1], max_new_tokens=1)
    assert model.training
    model.eval()


def test_nothing_gives_nothing(model):
    assert model.generate([], max_new_tokens=1) == []
    assert model.log_likelihood([], []).sum.shape == (0,)
    assert model.last_hidden_states([]).shape == (0, 32)


def test_a_missing_padding_token_is_the_end_of_sequence(folder, model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    save_words("GPT2", tmp_path / "saved", pad_token=None)
    again = CausalLM.from_pretrained(tmp_path / "saved")
    assert again.tokenizer.pad_token == "[EOS]"
    np.testing.assert_array_equal(
        again.log_likelihood(PROMPTS, CONTINUATIONS).sum,
        model.log_likelihood(PROMPTS, CONTINUATIONS).sum,
    )
    assert again.generate(PROMPTS, max_new_tokens=8) == model.generate(PROMPTS, max_new_tokens=8)
    save_words("GPT2", tmp_path / "saved", pad_token=None, eos_token=None)
    with pytest.raises(ValueError, match="CausalLM: the tokenizer has neither a padding token nor"):
        CausalLM.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.log_likelihood("a", ["b"]), TypeError, "prompts is one string; pass a list"),
        (lambda m: m.log_likelihood(["a"], "b"), TypeError, "continuations is one string"),
        (lambda m: m.generate("a", max_new_tokens=1), TypeError, "prompts is one string"),
        (
            lambda m: m.log_likelihood(["a"], ["a"], batch_size="2"),
            TypeError,
            "CausalLM.log_likelihood: batch_size must be an integer, got str",
        ),
        (
            lambda m: m.log_likelihood(["a"], []),
            ValueError,
            "one continuation for each prompt, got 0 and 1",
        ),
        (lambda m: m.log_likelihood(["a"], [" "]), ValueError, "a continuation has no token: ' '"),
        (
            lambda m: m.log_likelihood(["a " * 20], ["red " * 10]),
            ValueError,
            "31 tokens, more than max_length 24",
        ),
        (
            lambda m: m.log_likelihood(["a"], ["a"], batch_tokens=0),
            ValueError,
            "CausalLM.log_likelihood: batch_tokens must be at least 1 or None, got 0",
        ),
        (
            lambda m: m.generate(["a"], max_new_tokens=23),
            ValueError,
            "CausalLM.generate: a prompt of length 2 and max_new_tokens 23 exceed max_length 24",
        ),
        (lambda m: m.generate(["a"], max_new_tokens=0), ValueError, "must be at least 1, got 0"),
        (
            lambda m: m.generate(["a"], max_new_tokens=1, temperature=0.5),
            ValueError,
            "temperature 0.5 needs greedy=False",
        ),
        (
            lambda m: m.generate(["a"], max_new_tokens=1, greedy=False, temperature=0.0),
            ValueError,
            "temperature must be above 0",
        ),
        (lambda m: m.tokenize(["a " * 30]), ValueError, "31 tokens, more than max_length 24"),
    ],
)
def test_wrong_input_is_an_error(model, call, error, message):
    with pytest.raises(error, match=message):
        call(model)


def test_a_prompt_without_any_token_has_nothing_to_continue(folder, tmp_path):
    CausalLM.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    save_words("GPT2", tmp_path / "saved", around="$A")
    model = CausalLM.from_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="a prompt has no token, and nothing else precedes"):
        model.log_likelihood([""], ["fox"])
    with pytest.raises(ValueError, match=r"CausalLM.generate: a prompt has no token"):
        model.generate([""], max_new_tokens=1)


def test_another_dtype_is_an_error(folder):
    with pytest.raises(ValueError, match=r"dtype must be torch.float32 or torch.bfloat16, got"):
        CausalLM.from_pretrained(folder, dtype=torch.float16)


@pytest.mark.parametrize("append_eos", [False, True])
def test_batches_of_tokens_have_the_scores_of_texts(model, append_eos):
    tokens = model.continuation_tokens(PROMPTS, CONTINUATIONS, append_eos=append_eos)
    starts = torch.tensor([row["start"][0] for row in tokens])
    log_p, mask = model.continuation_log_probabilities(model.pad(tokens), starts)
    expected = model.log_likelihood(PROMPTS, CONTINUATIONS, append_eos=append_eos)
    sums = log_p.masked_fill(~mask, 0).sum(1)
    np.testing.assert_allclose(sums.detach(), expected.sum, rtol=1e-5)
    assert mask.sum(1).tolist() == expected.tokens.tolist()


def test_only_places_of_continuations_have_logits(model):
    """Between the end of a short text and that of a long prompt, there are none."""
    prompts, continuations = ["the red", "the red fox " * 5], [" fox sleeps", " runs"]
    tokens = model.continuation_tokens(prompts, continuations, append_eos=False)
    starts = torch.tensor([row["start"][0] for row in tokens])
    kept = []
    hook = model.model.get_output_embeddings().register_forward_hook(
        lambda _module, _args, logits: kept.append(logits.shape[1])
    )
    log_p, mask = model.continuation_log_probabilities(model.pad(tokens), starts)
    hook.remove()
    assert log_p.shape == mask.shape == (2, int(mask.sum()))
    assert kept == [int(mask.sum())] or not model._takes("logits_to_keep")
    pairs = zip(prompts, continuations, strict=True)
    alone = [model.log_likelihood([prompt], [text]).sum[0] for prompt, text in pairs]
    np.testing.assert_allclose(log_p.masked_fill(~mask, 0).sum(1).detach(), alone, rtol=1e-5)


@pytest.mark.parametrize("eos", [None, 5, [5, 6]])
def test_texts_end_at_the_tokenizers_end_token(folder, tmp_path, eos):
    """Also where the configuration of the model names no such token, or others."""
    save("LlamaForCausalLM", tmp_path, eos_token_id=eos)
    found = CausalLM.from_pretrained(tmp_path)
    state = torch.from_numpy(found.last_hidden_states(["the red"]))[0]
    found.model.get_output_embeddings().weight.data[3] = 100 * state
    assert found.generate(["the red"], max_new_tokens=4) == [""]
    assert found.model.generation_config.eos_token_id == eos
