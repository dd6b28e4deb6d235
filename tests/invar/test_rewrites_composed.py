"""Composed rewrites: distinct, in turn from each family, and what is dropped is counted."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tilefold.data import read_rewrites, write_rewrites
from tilefold.data.rewrites import wording
from tilefold.invar import (
    RULE_FAMILIES,
    LMRewriter,
    TemplateRewriter,
    TypoRewriter,
    compose_rewrites,
    rule_rewriters,
)

QUERIES = [
    "Who wrote the song Fly Me to the Moon?",
    "where is the red barn",
    "Heart failure rates.",
]


class Listed:
    """A rewriter with the same list for every query; notes what it is asked."""

    def __init__(self, family: str, texts: Sequence[str]) -> None:
        self.family = family
        self.texts = texts
        self.calls: list[tuple[tuple[str, ...], int]] = []

    def rewrite(self, queries: Sequence[str], *, draw: int) -> list[str | None]:
        """The text with the number of the draw."""
        self.calls.append((tuple(queries), draw))
        text = self.texts[draw] if draw < len(self.texts) else None
        return [text] * len(queries)


def test_every_query_has_distinct_rewrites_that_differ_from_it():
    found = compose_rewrites(QUERIES, rule_rewriters(), n_rewrites=12)
    for query, texts, families in zip(QUERIES, found.texts, found.families, strict=True):
        assert len({wording(text) for text in [query, *texts]}) == 13
        assert len(families) == 12
        assert set(families) == set(RULE_FAMILIES)
    assert (found.n_short, found.n_rewrites) == (0, 12)


def test_rewriters_take_turns_in_the_order_given():
    found = compose_rewrites(QUERIES, rule_rewriters(["template", "redundancy"]), n_rewrites=5)
    assert found.families == [["template", "redundancy"] * 2 + ["template"]] * 3


def test_rewrites_of_a_query_do_not_depend_on_the_other_queries_nor_on_their_number():
    whole = compose_rewrites(QUERIES, rule_rewriters(seed=5), n_rewrites=9)
    for row, query in enumerate(QUERIES):
        alone = compose_rewrites([query], rule_rewriters(seed=5), n_rewrites=9)
        assert alone.texts == [whole.texts[row]]
        fewer = compose_rewrites([query], rule_rewriters(seed=5), n_rewrites=4)
        assert fewer.texts == [whole.texts[row][:4]]


def test_dropped_rewrites_are_counted_by_family_and_reason():
    first = Listed("one", ["Who?", "she", " ", "who ?"])
    second = Listed("two", ["SHE", "who?", "her"])
    with pytest.warns(UserWarning, match="fewer than 5 rewrites") as caught:
        found = compose_rewrites(["who?"], [first, second], n_rewrites=5)
    assert found.texts == [["SHE", "her", "who ?"]]
    assert found.equal_to_query == {"one": 1, "two": 1}
    assert found.repeated == {"one": 1}
    assert found.blank == {"one": 1}
    assert found.n_short == 1
    assert [str(each.message) for each in caught] == [
        "compose_rewrites: 1 of 1 queries have fewer than 5 rewrites; dropped: 2 equal to their "
        "query, 1 to another rewrite, 1 blank"
    ]
    assert caught[0].filename == __file__


def test_no_rewriter_is_asked_for_more_than_is_needed():
    first, second = Listed("one", ["a", "b"]), Listed("two", ["c", "d", "e"])
    found = compose_rewrites(["x", "a"], [first, second], n_rewrites=2)
    assert found.texts == [["a", "c"], ["c", "b"]]
    assert first.calls == [(("x", "a"), 0), (("a",), 1)]
    assert second.calls == [(("x", "a"), 0)]


def test_a_rewriter_that_repeats_itself_for_ever_does_not_hang():
    class Stuck(Listed):
        def rewrite(self, queries: Sequence[str], *, draw: int) -> list[str | None]:
            return ["again"] * len(queries)

    with pytest.warns(UserWarning, match="1 of 1 queries have fewer than 3 rewrites"):
        found = compose_rewrites(["x"], [Stuck("stuck", [])], n_rewrites=3)
    assert found.texts == [["again"]]
    assert found.repeated["stuck"] > 3


def test_typing_errors_alone_give_many_rewrites():
    found = compose_rewrites([QUERIES[0]], [TypoRewriter()], n_rewrites=30)
    assert len(found.texts[0]) == 30


def test_held_out_templates_share_no_rewrite_with_those_of_training():
    seen = compose_rewrites(QUERIES, [TemplateRewriter(["A: {query}", "B: {query}"])], n_rewrites=2)
    unseen = compose_rewrites(QUERIES, [TemplateRewriter(["C: {query}"])], n_rewrites=1)
    for one, other in zip(seen.texts, unseen.texts, strict=True):
        assert not set(one) & set(other)


def test_composed_rewrites_are_written_to_a_file_and_read_back(tmp_path: Path):
    ids, path = ["a", "b", "c"], tmp_path / "rewrites.jsonl"
    found = compose_rewrites(QUERIES, rule_rewriters(), n_rewrites=6)
    write_rewrites(path, ids, found.texts, found.families)
    assert read_rewrites(path, ids, QUERIES) == found.texts


def test_no_queries_have_no_rewrites():
    assert compose_rewrites([], rule_rewriters(), n_rewrites=2).texts == []


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"queries": "who"}, TypeError, "queries must be a list of strings, got the string 'who'"),
        ({"queries": ["a", None]}, TypeError, "queries[1] must be a string, got NoneType"),
        ({"queries": ["a", " "]}, ValueError, "queries[1] is blank"),
        ({"rewriters": []}, ValueError, "expected one rewriter or more, got none"),
        ({"n_rewrites": 0}, ValueError, "n_rewrites must be 1 or more, got 0"),
        ({"n_rewrites": 1.5}, TypeError, "n_rewrites must be an integer"),
    ],
)
def test_bad_arguments_are_errors_that_name_them(changes: Any, error: Any, problem: str):
    given: Any = {"queries": ["a"], "rewriters": rule_rewriters(), "n_rewrites": 1} | changes
    with pytest.raises(error, match=re.escape(f"compose_rewrites: {problem}")):
        compose_rewrites(given.pop("queries"), given.pop("rewriters"), **given)


def test_a_rewriter_that_loses_queries_is_an_error():
    class Lossy(Listed):
        def rewrite(self, queries: Sequence[str], *, draw: int) -> list[str | None]:
            return ["x"]

    with pytest.raises(ValueError, match="expected 2 rewrites of the family 'lossy', got 1"):
        compose_rewrites(["a", "b"], [Lossy("lossy", [])], n_rewrites=1)


# ---- language models -----------------------------------------------------------------------------


class Scripted:
    """A language model that answers from a list, and notes its prompts."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.prompts: list[str] = []
        self.max_new_tokens: set[int] = set()

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        """The next answers."""
        self.prompts += prompts
        self.max_new_tokens.add(max_new_tokens)
        return [self.answers.pop(0) for _ in prompts]


def test_a_language_model_gets_each_prompt_of_a_style_with_each_query():
    model = Scripted("one", "two")
    rewriter = LMRewriter(model, "typo", max_new_tokens=9)
    assert rewriter.rewrite(["who {is} it?"], draw=0) == ["one"]
    assert rewriter.rewrite(["who {is} it?"], draw=1) == ["two"]
    assert rewriter.rewrite(["who {is} it?"], draw=2) == [None]
    assert model.max_new_tokens == {9}
    assert len(set(model.prompts)) == 2
    for prompt in model.prompts:
        assert prompt.endswith("\n\nQuery: who {is} it?\nRewritten query:")
        assert "typing error" in prompt or "spelling mistake" in prompt


@pytest.mark.parametrize(
    ("answer", "rewrite"),
    [
        (' "who is it?"\nQuery: next', "who is it?"),
        ("\n\n  who is it? \n", "who is it?"),
        ("\u201cwho?\u201d", "who?"),
        ('who said "no"', 'who said "no"'),
        ("'", "'"),
        ("", ""),
    ],
)
def test_the_first_line_with_text_is_the_rewrite(answer: str, rewrite: str):
    assert LMRewriter(Scripted(answer), "style", ["{query}"]).rewrite(["q"], draw=0) == [rewrite]


def test_what_a_language_model_copies_or_leaves_blank_is_counted():
    model = Scripted("who?", "", "WHO IS IT?", "who is it?")
    rewriter = LMRewriter(model, "own", ["{query} 1", "{query} 2"])
    with pytest.warns(UserWarning, match="2 of 2 queries have fewer than 2 rewrites"):
        found = compose_rewrites(["who?", "why?"], [rewriter], n_rewrites=2)
    assert found.texts == [["WHO IS IT?"], ["who is it?"]]
    assert (found.equal_to_query, found.blank) == ({"own": 1}, {"own": 1})
    assert model.prompts == ["who? 1", "why? 1", "who? 2", "why? 2"]


def test_a_causal_language_model_writes_rewrites(tmp_path: Path):
    pytest.importorskip("transformers")
    from tilefold.models import CausalLM
    from tiny_language_models import save

    model = CausalLM.from_pretrained(save("LlamaForCausalLM", tmp_path))
    rewriter = LMRewriter(model, "own", ["the {query}"], max_new_tokens=4)
    queries = ["red hen", "blue fox sleeps"]
    first = rewriter.rewrite(queries, draw=0)
    expected = model.generate([f"the {query}" for query in queries], max_new_tokens=4)
    assert first == [text.strip() for text in expected]
    assert any(first)


@pytest.mark.parametrize(
    ("make", "error", "problem"),
    [
        (lambda: LMRewriter(object()), TypeError, "model must have a method generate or answer"),  # type: ignore[arg-type]
        (lambda: LMRewriter(Scripted(), "rhyme"), ValueError, "family must be one of paraphrase"),
        (lambda: LMRewriter(Scripted(), " ", ["{query}"]), ValueError, "family must be a name"),
        (lambda: LMRewriter(Scripted(), "x", []), ValueError, "expected one or more prompts"),
        (lambda: LMRewriter(Scripted(), "x", "{query}"), TypeError, "prompts must be a list of"),
        (lambda: LMRewriter(Scripted(), "x", ["{text}"]), ValueError, "prompts have '{text}'"),
        (lambda: LMRewriter(Scripted(), max_new_tokens=0), ValueError, "max_new_tokens must be 1"),
    ],
)
def test_bad_arguments_of_an_lm_rewriter_are_errors(make: Any, error: Any, problem: str):
    with pytest.raises(error, match=re.escape(f"LMRewriter: {problem}")):
        make()


def test_a_model_that_only_answers_is_asked_for_answers():
    class Target:
        def answer(self, questions: Sequence[str], passages: None = None) -> list[str]:
            return [f" {question.split(': ')[-1].upper()}\nMore." for question in questions]

    rewriter = LMRewriter(Target(), "own", ["Query: {query}"])
    assert rewriter.rewrite(["who?", "why?"], draw=0) == ["WHO?", "WHY?"]
    with pytest.raises(ValueError, match="Target has only answer, which takes no max_new_tokens"):
        LMRewriter(Target(), "own", ["{query}"], max_new_tokens=8)


def test_a_language_model_that_loses_prompts_is_an_error():
    class Lossy(Scripted):
        def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
            return []

    with pytest.raises(ValueError, match="expected the model to return 1 texts, got 0"):
        LMRewriter(Lossy()).rewrite(["q"], draw=0)
