"""Examples of questions with passages: which passages, where, and what templates make of them."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from unified_models import save_base

from tilefold.data import TrainingSet
from tilefold.invar.generation import (
    TEMPLATES,
    GoldShares,
    ReadingTemplate,
    example_counts,
    reading_examples,
    reading_template,
)
from tilefold.invar.generation.example_prompts import example_prompts
from tilefold.models import CausalLM
from tilefold.ragged_lists import Lists

N, M = 60, 40


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    """Query i has the positives i and, for even i, i + 1 of 40 documents."""
    positives = [[i % M] if i % 2 else sorted({i % M, (i + 1) % M}) for i in range(N)]
    return TrainingSet(
        [f"q{i}" for i in range(N)],
        [f"who is {i}?" for i in range(N)],
        [f"d{i}" for i in range(M)],
        [f"text {i} ." for i in range(M)],
        Lists.pack(positives),
        Lists.pack([[] for _ in range(N)]),
        [(f"answer {i}", "other") for i in range(N)],
        titles=[f"title {i}" for i in range(M)],
    )


@pytest.fixture(scope="module")
def ranking(data: TrainingSet) -> np.ndarray:
    """A gold passage is among the first four of about a third of the questions."""
    rng = np.random.default_rng(1)
    return np.stack([rng.permutation(M)[:10] for _ in range(N)])


def rows_of(example) -> list[int]:
    return [int(text.split()[-2]) for text in example.passages]


def test_gold_passages_are_kept_inserted_or_removed(data: TrainingSet, ranking: np.ndarray):
    examples = reading_examples(data, ranking, n_passages=4, shares=GoldShares(0.4, 0.3), seed=3)
    assert len(examples) == N
    retrieved = 0
    places = set()
    for row, example in enumerate(examples):
        found, golds = rows_of(example), set(data.positives.of(row).tolist())
        first = ranking[row, :4].tolist()
        assert (example.query, example.answer) == (row, f"answer {row}")
        assert example.question == data.queries[row]
        assert example.gold == tuple(p for p, document in enumerate(found) if document in golds)
        assert len(found) == len(set(found)) == 4
        has_gold = bool(golds & set(first))
        retrieved += has_gold
        if example.treatment == "removed":
            assert found == [d for d in ranking[row].tolist() if d not in golds][:4]
        elif example.treatment == "kept" or has_gold:
            assert found == first
        else:
            [place] = example.gold
            places.add(place)
            assert found[:place] + found[place + 1 :] == first[:3]
    assert 0 < retrieved < N
    assert places == {0, 1, 2, 3}
    counts = example_counts(examples)
    assert counts["examples"] == N
    assert counts["passages"] == 4 * N
    assert min(counts["kept"], counts["inserted"], counts["removed"]) > 10
    assert counts["with gold"] == sum(bool(example.gold) for example in examples) > 20


def test_shares_are_those_of_many_questions(data: TrainingSet):
    many = data.take(np.tile(np.arange(N), 50))
    ranking = np.tile(np.arange(5), (len(many), 1))
    counts = example_counts(reading_examples(many, ranking, shares=GoldShares(0.2, 0.5)))
    shares = {name: counts[name] / len(many) for name in ("kept", "inserted", "removed")}
    for name, expected in (("kept", 0.3), ("inserted", 0.2), ("removed", 0.5)):
        assert abs(shares[name] - expected) < 4 * (expected * (1 - expected) / len(many)) ** 0.5


def test_draws_are_functions_of_seed_and_row(data: TrainingSet, ranking: np.ndarray):
    options = {"n_passages": 4, "shares": GoldShares(0.7, 0.1)}
    found = reading_examples(data, ranking, seed=3, **options)
    assert found == reading_examples(data, ranking, seed=3, **options)
    assert found != reading_examples(data, ranking, seed=4, **options)
    assert found[:20] == reading_examples(data.take(slice(20)), ranking[:20], seed=3, **options)


def test_apart_gives_an_example_of_each_passage(data: TrainingSet, ranking: np.ndarray):
    options = {"n_passages": 3, "shares": GoldShares(0.5, 0.2), "title_format": "{title}: {text}"}
    together = reading_examples(data, ranking, **options)
    apart = reading_examples(data, ranking, form="apart", **options)
    assert len(apart) == 3 * N
    for row, whole in enumerate(together):
        parts = apart[3 * row : 3 * row + 3]
        assert tuple(part.passages[0] for part in parts) == whole.passages
        assert {(part.query, part.question, part.answer) for part in parts} == {
            (*whole[:2], whole[3])
        }
        assert tuple(place for place, part in enumerate(parts) if part.gold) == whole.gold
    assert together[0].passages[0].startswith("title ")


@pytest.mark.parametrize("form", ["together", "apart"])
def test_a_question_without_passages_is_closed_book(data: TrainingSet, form: str):
    one = data.take([1])
    for ranking in (np.array([[1]]), np.array([[-1]])):  # its gold passage alone, and no result
        [example] = reading_examples(one, ranking, n_passages=1, shares=GoldShares(0, 1), form=form)
        assert (example.passages, example.gold) == ((), ())
    closed = reading_examples(data)
    assert [example.passages for example in closed] == [()] * N
    assert [example.answer for example in closed] == [own[0] for own in data.answers]


def test_a_ranking_may_end_early(data: TrainingSet):
    ranking = np.full((N, 5), -1)
    ranking[:, 0] = (np.arange(N) + 7) % M
    examples = reading_examples(data, ranking, shares=GoldShares(1.0))
    assert {len(example.passages) for example in examples} == {2}
    assert {example.gold for example in examples} == {(0,), (1,)}


def test_passages_with_an_answer_can_be_gold(data: TrainingSet):
    texts = [f"text {i} . it is answer {i + 3}" for i in range(M)]
    one = replace(data, documents=texts).take([5])
    ranking = np.array([[2, 9]])
    [plain] = reading_examples(one, ranking, n_passages=2, shares=GoldShares(0, 0))
    [marked] = reading_examples(
        one, ranking, n_passages=2, shares=GoldShares(0, 0), answers_are_gold=True
    )
    assert (plain.gold, marked.gold) == ((), (0,))
    [removed] = reading_examples(
        one, ranking, n_passages=2, shares=GoldShares(0, 1), answers_are_gold=True
    )
    assert removed.passages == (texts[9],)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_passages": 11}, "n_passages is 11, but the ranking has 10 results"),
        ({"n_passages": 0}, "n_passages must be at least 1"),
        ({"form": "both"}, "form must be 'together' or 'apart', got 'both'"),
        ({"ranking": np.zeros((N, 10))}, r"ids must be \[n, k\] integers"),
        ({"ranking": np.full((N, 5), M)}, "ids must lie between -1 and 39"),
        ({"ranking": np.zeros((2, 5), int)}, "expected a ranking of 60 questions, got 2"),
        ({"ranking": np.zeros((N, 5), int)}, "the ranking of question 0 has document 0 twice"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_bad_arguments_are_refused(data, ranking, options, message):
    with pytest.raises(ValueError, match=message):
        reading_examples(data, **{"ranking": ranking, **options})


def test_questions_without_answers_are_refused(data, ranking):
    answers = [() if i in (3, 4) else own for i, own in enumerate(data.answers)]
    with pytest.raises(ValueError, match="2 of 60 questions have no answer, such as 'q3'; leave"):
        reading_examples(replace(data, answers=answers), ranking)


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.7, 0.4), (float("nan"), 0)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ValueError, match="GoldShares: inserted and removed must be at least 0"):
        GoldShares(*shares)


# ---- templates -----------------------------------------------------------------------------------


def test_prompts_of_the_author_and_of_popqa():
    assert TEMPLATES.author.prompt("who?", ["Hens.", "Cats."]) == (
        "You are a helpful assistant. Answer the question based on the given context.\n\n"
        "Context:\nDocument 1: Hens.\nDocument 2: Cats.\n\nQuestion: who?\n\nAnswer:"
    )
    assert TEMPLATES.author.prompt("who?", []) == "Question: who?\nAnswer:"
    assert TEMPLATES.popqa.prompt("who?", ["Hens.", "Cats."]) == "Hens.\n\nCats.\n\nQ: who? A:"
    assert TEMPLATES.popqa.prompt("who {}?", []) == "Q: who {}? A:"
    assert TEMPLATES.popqa.prompt("who?", ["{passages}"]) == "{passages}\n\nQ: who? A:"
    assert TEMPLATES.popqa.answer("cats") == " cats"


def test_any_template_with_passages_and_question_will_do():
    assert reading_template("author") is TEMPLATES.author
    template = reading_template("Read {passages} and say {question} =>")
    assert template.prompt("who?", ["a", "b"]) == "Read a\n\nb and say who? =>"
    assert reading_template(template) is template
    with pytest.raises(ValueError, match="expected author or popqa, or a text with the fields"):
        reading_template("pop")
    for text in ("{question} A:", "{passages} {question} {answer}"):
        with pytest.raises(ValueError, match=r"expected a template with the fields"):
            reading_template(text)
    with pytest.raises(ValueError, match="text ends with a blank, which most tokenizers join"):
        reading_template("{passages} {question} A: ")
    with pytest.raises(ValueError, match="closed_book ends with a blank"):
        ReadingTemplate("{passages} {question}", closed_book="{question} ")
    with pytest.raises(ValueError, match=r"passage: expected a template of \{number\} and"):
        ReadingTemplate("{passages} {question}", passage="{title}")


# ---- what fits -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> CausalLM:
    return CausalLM.from_pretrained(save_base(tmp_path_factory.mktemp("base")), max_length=24)


def an_example(data: TrainingSet, passages: int, gold: int):
    documents = ["the red hen runs .", "a blue fox .", "the fox sleeps over the barn .", "a hen ."]
    one = replace(
        data.take([0]),
        documents=documents,
        document_ids=list("abcd"),
        titles=[""] * 4,
        queries=["Q : which hen ?"],
        answers=[("red hen",)],
        positives=Lists.pack([[gold]]),
    )
    shares = GoldShares(0, 0)
    return reading_examples(one, [list(range(passages))], n_passages=passages, shares=shares)


def test_prompts_that_fit_have_all_passages(data, model):
    examples = an_example(data, 2, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = example_prompts(model, examples, TEMPLATES.popqa)
    assert found.prompts == [TEMPLATES.popqa.prompt(examples[0].question, examples[0].passages)]
    assert found.answers == [" red hen"]
    assert found.gold == [True]


def test_distractors_are_left_out_before_gold_passages(data, model):
    """The start, 9 tokens of the prompt, 2 of the answer and the end leave 11 of 24."""
    examples = an_example(data, 4, 3)
    with pytest.warns(UserWarning, match="example_prompts: left out the last 2 passages of 1 of 1"):
        found = example_prompts(model, examples, TEMPLATES.popqa)
    passages = examples[0].passages
    assert found.prompts == [
        TEMPLATES.popqa.prompt(examples[0].question, passages[:1] + passages[3:])
    ]
    assert found.gold == [True]
    lengths = [len(one["input_ids"]) for one in model.continuation_tokens(*found[:2])]
    assert max(lengths) <= 24
    with pytest.raises(ValueError, match=r"example_prompts: a question with 4 passages exceeds"):
        example_prompts(model, examples, TEMPLATES.popqa, overflow="error")


def test_gold_passages_that_are_lost_are_counted(data, model):
    short = model.with_options(max_length=14)
    examples = an_example(data, 2, 0)
    lost = "1 of 1 examples lost all of their gold passages, as they exceed max_length 14"
    with (
        pytest.warns(UserWarning, match=lost),
        pytest.warns(UserWarning, match="left out the last 2 passages of 1 of 1 questions"),
    ):
        found = example_prompts(short, examples, TEMPLATES.popqa)
    assert found.gold == [False]
    assert found.prompts == [TEMPLATES.popqa.prompt(examples[0].question, [])]
