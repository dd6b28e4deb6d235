"""Answers from passages, in one prompt and by an average over passages, against plain loops."""

import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")
pytest.importorskip("peft", reason="peft is not installed: pip install tilefold[train]")

from unified_models import WORDS, disturb, save_base

from tilefold.evaluate.predictions import first_line
from tilefold.invar import UnifiedLM
from tilefold.invar.generation import TEMPLATES, AnswerGenerator, PassageEnsemble
from tilefold.models import CausalLM

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTIONS = ["which hen ?", "which fox runs over the barn ?", "the ?"]
PASSAGES = [
    ["the red hen runs .", "a blue fox sleeps over the barn and under the barn .", "the barn ."],
    ["a hen ."],
    [],
]
SCORES = [[0.3, -1.0, 2.0], [5.0], []]
OPTIONS = [["red hen", "fox", "a"], ["barn", "hen runs"], ["fox", "under the barn", "and", "hen"]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    return disturb(UnifiedLM.from_pretrained(save_base(tmp_path_factory.mktemp("m")))).generator


def tokens_of(model: CausalLM, text: str) -> list[int]:
    return model.tokenizer(text)["input_ids"][:-1]  # without the end that the tokenizer adds


@torch.inference_mode()
def written_alone(model: CausalLM, prompt: str, n: int) -> str:
    """Greedy decoding of the merged model, all tokens read again at each step."""
    merged, ids = model.merge().model, tokens_of(model, prompt)
    given = len(ids)
    while len(ids) < given + n:
        ids.append(int(merged(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == 3:
            break
    return first_line(model.tokenizer.decode(ids[given:], skip_special_tokens=True)).strip()


@torch.inference_mode()
def log_p(model: CausalLM, prompt: str, answer: str, *, eos: bool = True) -> np.ndarray:
    """Log-probabilities of the tokens of an answer and of the end, in float64."""
    merged, ids = model.merge().model.double(), tokens_of(model, prompt)
    own = tokens_of(model, answer)[1:] + [3] * eos
    logits = merged(torch.tensor([ids + own])).logits[0].log_softmax(-1)
    places = range(len(ids) - 1, len(ids) + len(own) - 1)
    return logits[list(places), own].numpy()


def prompt_of(row: int, passages, template=TEMPLATES.popqa) -> str:
    return template.prompt(QUESTIONS[row], passages)


@pytest.mark.parametrize("batches", [{}, {"batch_size": 1}, {"batch_tokens": 40}], ids=str)
@pytest.mark.parametrize("template", ["popqa", "author"])
def test_answers_are_those_of_a_plain_loop(model, batches, template):
    generator = AnswerGenerator(model, template=template, max_new_tokens=5, **batches)
    passages = [own[:1] for own in PASSAGES] if template == "author" else PASSAGES
    found = generator.answer(QUESTIONS, passages)
    chosen = getattr(TEMPLATES, template)
    assert found == [
        written_alone(model, prompt_of(row, passages[row], chosen), 5) for row in range(3)
    ]
    assert len(set(found)) > 1


def test_the_first_passages_are_read(model):
    short = AnswerGenerator(model, template="popqa", n_passages=1, max_new_tokens=5)
    whole = AnswerGenerator(model, template="popqa", max_new_tokens=5)
    cut = [own[:1] for own in PASSAGES]
    assert short.answer(QUESTIONS, PASSAGES) == whole.answer(QUESTIONS, cut)
    assert short.answer(QUESTIONS, PASSAGES) != whole.answer(QUESTIONS, PASSAGES)


def test_a_closed_book_is_none_or_empty_lists(model):
    generator = AnswerGenerator(model, max_new_tokens=5)
    closed = generator.answer(QUESTIONS)
    assert closed == generator.answer(QUESTIONS, [[], [], []])
    prompts = [f"Question: {question}\nAnswer:" for question in QUESTIONS]
    assert closed == [written_alone(model, prompt, 5) for prompt in prompts]
    assert generator.answer([]) == []


@pytest.mark.parametrize("append_eos", [True, False])
def test_choices_have_the_largest_mean_log_likelihood(model, append_eos):
    generator = AnswerGenerator(model, template="popqa", append_eos=append_eos, batch_size=2)
    by_sum = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        options = [[" ".join(rng.choice(WORDS[:12], n)) for n in (1, 2, 3)] for _ in QUESTIONS]
        scores = [
            [
                log_p(model, prompt_of(row, PASSAGES[row]), f" {option}", eos=append_eos)
                for option in own
            ]
            for row, own in enumerate(options)
        ]
        expected = [int(np.argmax([one.mean() for one in own])) for own in scores]
        by_sum += expected != [int(np.argmax([one.sum() for one in own])) for own in scores]
        found = generator.choose(QUESTIONS, options, PASSAGES)
        assert found.tolist() == expected
        assert found.dtype == np.int64
    assert by_sum > 0  # the options tell these rules apart


def test_passages_that_do_not_fit_are_left_out_and_counted(model):
    short = model.with_options(max_length=28)
    generator = AnswerGenerator(short, template="popqa", max_new_tokens=5)
    kept = [PASSAGES[0][:1], PASSAGES[1], []]
    message = r"AnswerGenerator\.answer: left out the last 2 passages of 1 of 3 questions"
    with pytest.warns(UserWarning, match=message):
        found = generator.answer(QUESTIONS, PASSAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found == generator.answer(QUESTIONS, kept)
    with pytest.warns(UserWarning, match=r"AnswerGenerator\.choose: left out the last 1 passages"):
        generator.choose(QUESTIONS, OPTIONS, PASSAGES)
    strict = AnswerGenerator(short, template="popqa", max_new_tokens=5, overflow="error")
    with pytest.raises(ValueError, match=r"AnswerGenerator\.answer: a question with 3 passages"):
        strict.answer(QUESTIONS, PASSAGES)
    with pytest.raises(ValueError, match="exceed max_length 28"):
        generator.answer(["hen " * 30])


# ---- an average over passages --------------------------------------------------------------------


def mixture(model, row: int, texts, temperature: float, likelihood: str, passages=None):
    """log Σ_d softmax(score)_d p(y | d, q), in float64, one pair at a time."""
    passages = passages or PASSAGES[row] or [None]
    scores = np.array(SCORES[row] or [0.0]) / temperature
    weights = np.exp(scores) / np.exp(scores).sum()
    found = []
    for text in texts:
        total = 0.0
        for weight, passage in zip(weights, passages, strict=True):
            own = log_p(model, prompt_of(row, [passage] if passage else []), f" {text}")
            total += weight * np.exp(getattr(own, likelihood)())
        found.append(np.log(total))
    return found


@pytest.mark.parametrize("likelihood", ["sum", "mean"])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_ensembled_choices_are_those_of_a_plain_loop(model, likelihood, temperature):
    generator = AnswerGenerator(model, template="popqa", batch_size=2)
    ensemble = PassageEnsemble(generator, temperature=temperature, likelihood=likelihood)
    found = ensemble.choose(QUESTIONS, OPTIONS, PASSAGES, SCORES)
    assert found.candidates == OPTIONS
    for row in range(3):
        expected = mixture(model, row, OPTIONS[row], temperature, likelihood)
        np.testing.assert_allclose(found.log_probabilities[row], expected, rtol=1e-4)
        assert found.answers[row] == OPTIONS[row][int(np.argmax(expected))]
    assert found.chosen.tolist() == [
        own.index(text) for own, text in zip(OPTIONS, found.answers, strict=True)
    ]


def test_ensembled_answers_are_the_best_of_those_from_each_passage(model):
    generator = AnswerGenerator(model, template="popqa", max_new_tokens=4)
    found = PassageEnsemble(generator).answer(QUESTIONS, PASSAGES, SCORES)
    several = 0
    for row in range(3):
        alone = [[passage] for passage in PASSAGES[row]] or [[]]
        texts = [written_alone(model, prompt_of(row, own), 4) for own in alone]
        assert found.candidates[row] == list(dict.fromkeys(texts))
        several += len(found.candidates[row]) > 1
        expected = mixture(model, row, found.candidates[row], 1.0, "sum")
        np.testing.assert_allclose(found.log_probabilities[row], expected, rtol=1e-4)
        assert found.answers[row] == found.candidates[row][int(np.argmax(expected))]
    assert several


def test_one_passage_is_no_mixture(model):
    generator = AnswerGenerator(model, template="popqa", n_passages=1, max_new_tokens=4)
    found = PassageEnsemble(generator).answer(QUESTIONS, PASSAGES, SCORES)
    assert found.answers == generator.answer(QUESTIONS, PASSAGES)
    assert PassageEnsemble(generator).answer([], [], []).answers == []


def test_empty_answers_are_no_candidates(model):
    class Silent(AnswerGenerator):
        def written(self, prompts, *, progress=False):
            return ["" if "hen" in prompt else "fox" for prompt in prompts]

    silent = Silent(model, template="popqa")
    found = PassageEnsemble(silent).answer(QUESTIONS, PASSAGES, SCORES)
    assert found.candidates == [[""], [""], ["fox"]]
    assert found.answers == ["", "", "fox"]
    assert found.log_probabilities[0].tolist() == [-np.inf]
    assert found.chosen.tolist() == [0, 0, 0]


def test_a_passage_that_does_not_fit_alone_leaves_its_weight_to_the_closed_book(model):
    short = model.with_options(max_length=24)
    ensemble = PassageEnsemble(AnswerGenerator(short, template="popqa", max_new_tokens=4))
    one = QUESTIONS[:1], PASSAGES[:1], SCORES[:1]
    with pytest.warns(UserWarning, match=r"PassageEnsemble\.answer: left out the last 1 passages"):
        found = ensemble.answer(*one)
    read = [PASSAGES[0][0], None, PASSAGES[0][2]]
    expected = mixture(model, 0, found.candidates[0], 1.0, "sum", read)
    np.testing.assert_allclose(found.log_probabilities[0], expected, rtol=1e-4)


# ---- fingerprints and errors ---------------------------------------------------------------------


def test_a_fingerprint_is_of_everything_that_answers_depend_on(model):
    found = {
        AnswerGenerator(model, **options).fingerprint()
        for options in (
            {},
            {"template": "popqa"},
            {"n_passages": 3},
            {"max_new_tokens": 4},
            {"first_line_only": False},
            {"overflow": "error"},
            {"append_eos": False},
        )
    }
    assert len(found) == 7
    assert AnswerGenerator(model, batch_size=1).fingerprint() in found
    other = model.with_options(adapter=())
    assert AnswerGenerator(other).fingerprint() not in found


def test_bad_arguments_are_refused(model, tmp_path: Path):
    generator = AnswerGenerator(model)
    with pytest.raises(TypeError, match=r"AnswerGenerator\.answer: questions is one string"):
        generator.answer("who?")
    with pytest.raises(ValueError, match="expected passages of 3 questions, got 2 lists"):
        generator.answer(QUESTIONS, PASSAGES[:2])
    with pytest.raises(TypeError, match="passages of question 0 is one string"):
        generator.answer(["who?"], ["a hen"])
    with pytest.raises(ValueError, match="expected options of each question, got none of 1"):
        generator.choose(QUESTIONS[:2], [["a"], []])
    with pytest.raises(ValueError, match="n_passages must be at least 1, got 0"):
        AnswerGenerator(model, n_passages=0)
    with pytest.raises(ValueError, match="overflow must be 'drop' or 'error', got 'cut'"):
        AnswerGenerator(model, overflow="cut")
    ensemble = PassageEnsemble(generator)
    with pytest.raises(ValueError, match="expected scores of 3 questions, got 1 lists"):
        ensemble.answer(QUESTIONS, PASSAGES, SCORES[:1])
    for scores in ([[1.0, 2.0]], [[1.0, 2.0, float("nan")]]):
        with pytest.raises(ValueError, match="scores of question 0 must be 3 finite numbers"):
            ensemble.answer(QUESTIONS[:1], PASSAGES[:1], scores)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature must be above 0"):
            PassageEnsemble(generator, temperature=temperature)
    with pytest.raises(ValueError, match="likelihood must be 'sum' or 'mean', got 'max'"):
        PassageEnsemble(generator, likelihood="max")
    endless = CausalLM.from_pretrained(save_base(tmp_path / "m", eos_token=None))
    with pytest.raises(ValueError, match="append_eos, but the tokenizer has no such token"):
        AnswerGenerator(endless)
    assert AnswerGenerator(endless, append_eos=False).choose(QUESTIONS, OPTIONS).shape == (3,)
