"""has_answer() and answer_hits(): DPR's rule as a plain loop over tokens, and real questions."""

import itertools
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.evaluate import answer_hits, bootstrap, has_answer, mean, top_k_accuracy
from tilefold.evaluate.tokens import spaced_tokens


def tokens(text: str) -> list[str]:
    regex = pytest.importorskip("regex", reason="regex is not installed")
    pattern = r"([\p{L}\p{N}\p{M}]+)|([^\p{Z}\p{C}])"
    flags = regex.IGNORECASE | regex.UNICODE | regex.MULTILINE
    found = regex.finditer(pattern, unicodedata.normalize("NFD", text), flags)
    return [match.group().lower() for match in found]


def by_loop(text: str, answers: Sequence[str]) -> bool:
    """A contiguous list of tokens, looked for at every place."""
    words = tokens(text)
    lists = [wanted for wanted in map(tokens, answers) if wanted]
    return any(
        words[start : start + len(wanted)] == wanted
        for wanted in lists
        for start in range(len(words))
    )


# letters of every kind of trouble: accents in both forms, final sigma, letters whose lower case is
# two, marks that stand alone, numbers and signs beyond the basic plane, blanks and controls
SIGNS = (
    "aAbB é\u0301Σ\u03c3ς\u0130\u01311²ⅣⓐÅ\u2019'-–.\u200b\u00a0\n東京\U0001d538𐐀🙂\u0345\u017fßǅ"
)
TEXTS = st.text(st.sampled_from(SIGNS), max_size=12)


# ---- tokens --------------------------------------------------------------------------------------


@given(TEXTS)
def test_tokens_are_those_of_the_published_pattern(text: str):
    assert spaced_tokens(text).split(" ")[1:-1] == tokens(text)


def test_every_character_is_a_word_a_sign_or_a_blank_as_published():
    """Those that this Python's Unicode knows; the regex module may know a later one."""
    known = [
        char
        for char in map(chr, range(0x110000))
        if unicodedata.category(char) not in {"Cn", "Co", "Cs"}
    ]
    assert len(known) > 140_000
    text = " ".join(known)
    assert spaced_tokens(text).split(" ")[1:-1] == tokens(text)


def test_a_text_without_tokens_is_a_blank():
    assert [spaced_tokens(text) for text in ("", " \n", "\u200b")] == [" "] * 3


# ---- has_answer ----------------------------------------------------------------------------------


@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_an_answer_is_a_contiguous_list_of_tokens(text: str, answers: list[str]):
    assert has_answer(text, answers) == by_loop(text, answers)


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("born in New  York, 1904", "new york", True),
        ("born in New York", "york new", False),
        ("the artist", "art", False),
        ("the U.S. army", "U.S", True),
        ("the U. S. army", "u.s.", True),
        ("the US army", "U.S.", False),
        ("caf\u00e9", "cafe\u0301", True),
        ("café", "cafe", False),
        ("São Paulo", "SÃO PAULO", True),
        ("ΟΔΟΣ", "οδος", True),
        ("new\nyork", "new york", True),
        ("well-known", "well known", False),
    ],
)
def test_strings_match_by_tokens_in_any_case(text: str, answer: str, found: bool):
    assert has_answer(text, [answer]) is found


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("Born in 1976.", r"19[67]\d", True),
        ("born in 1956.", r"19[67]\d", False),
        ("A\nRIVER runs", "^river", True),
        ("café", "caf\u00e9", True),
        ("a (broken pattern", "(broken", False),
        ("a river", "*", False),
    ],
)
def test_regular_expressions_ignore_case_and_invalid_ones_match_nothing(
    text: str, answer: str, found: bool
):
    assert has_answer(text, [answer], match="regex") is found


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("the artist", "art", True),
        ("the US army", "U.S.", True),
        ("well-known", "wellknown", True),
        ("in the  Hague", "In Hague", True),
        ("caf\u00e9", "cafe\u0301", False),
    ],
)
def test_kilt_looks_for_parts_of_normal_text(text: str, answer: str, found: bool):
    assert has_answer(text, [answer], match="kilt") is found


@pytest.mark.parametrize("match", ["string", "regex", "kilt"])
def test_an_empty_answer_matches_nothing(match):
    assert not has_answer("any text", [""], match=match)
    assert not has_answer("any text", [], match=match)
    assert has_answer("any text", ["", "text"], match=match)


@pytest.mark.parametrize(("match", "answer"), [("string", " \u200b"), ("kilt", "The !")])
def test_an_answer_of_which_nothing_is_left_matches_nothing(match, answer: str):
    assert not has_answer("the text !", [answer], match=match)


# ---- answer_hits and top_k_accuracy --------------------------------------------------------------


@given(
    st.lists(TEXTS, min_size=1, max_size=4),
    st.lists(st.lists(TEXTS, max_size=2), max_size=4),
    st.sampled_from(["string", "kilt"]),
    st.data(),
)
def test_hits_are_those_of_every_pair(passages, answers, match, data: st.DataObject):
    n, k = len(answers), 3
    cells = st.integers(-1, len(passages) - 1)
    ids = np.array(data.draw(st.lists(cells, min_size=n * k, max_size=n * k)), int).reshape(n, k)
    hits = answer_hits(ids, passages, answers, match=match)
    assert hits.dtype == np.bool_
    for row, column in itertools.product(range(n), range(k)):
        found = ids[row, column] >= 0 and has_answer(
            passages[ids[row, column]], answers[row], match=match
        )
        assert hits[row, column] == found


def test_accuracy_is_that_of_the_first_hit():
    hits = np.zeros((4, 100), bool)
    hits[0, 0] = hits[1, 4] = hits[2, 20] = hits[2, 99] = True
    accuracy = top_k_accuracy(hits)
    assert {name: mean(values) for name, values in accuracy.items()} == {
        "Accuracy@1": 0.25,
        "Accuracy@5": 0.5,
        "Accuracy@20": 0.5,
        "Accuracy@100": 0.75,
    }
    assert bootstrap(accuracy["Accuracy@100"]).mean == 0.75


def test_each_passage_is_read_once_and_the_others_never():
    class Passages(Sequence):
        """Texts that count how often they are read."""

        def __init__(self, n: int):
            self.read = [0] * n

        def __len__(self) -> int:
            return len(self.read)

        def __getitem__(self, index: int) -> str:
            self.read[index] += 1
            return f"passage {index}"

    passages = Passages(10)
    hits = answer_hits([[3, 5], [5, 3]], passages, [["3"], ["3"]])
    assert hits.tolist() == [[True, False], [False, True]]
    assert passages.read == [0, 0, 0, 1, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        ([[0, 1]], r"must be \[2, k\] integers"),
        ([[0.0], [1.0]], r"must be \[2, k\] integers"),
        ([0, 1], r"must be \[2, k\] integers"),
        ([[0], [2]], "below 2, the number of passages, got 2"),
    ],
)
def test_ids_that_are_no_rankings_of_the_passages_are_errors(ids, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        answer_hits(ids, ["a", "b"], [["a"], ["b"]])


def test_a_string_for_a_list_of_answers_is_an_error():
    with pytest.raises(TypeError, match="has_answer: the answers of a question must be a list"):
        has_answer("a red fox", "fox")
    with pytest.raises(TypeError, match="answer_hits: the answers of a question must be a list"):
        answer_hits([[0]], ["a red fox"], ["fox"])


def test_an_unknown_rule_is_an_error():
    with pytest.raises(ValueError, match=r"match must be one of .*, got 'fuzzy'"):
        has_answer("a", ["a"], match="fuzzy")


@pytest.mark.parametrize(
    ("hits", "ks", "complaint"),
    [
        ([[0, 1]], [1], "must be bool"),
        ([True], [1], "must be bool"),
        ([[True]], [5], "between 1 and the 1 passages of a question, got 5"),
        ([[True]], [0], "got 0"),
    ],
)
def test_what_is_no_table_of_hits_is_an_error(hits, ks, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        top_k_accuracy(hits, ks)


# ---- real questions ------------------------------------------------------------------------------


def natural_questions(folder: Path) -> tuple[list[str], list[list[str]], list[int], list[str]]:
    """Passages without titles, answers, gold passages and questions of Natural Questions."""
    names, passages = zip(
        *((row["_id"], row["text"]) for row in records(folder / "beir" / "corpus.jsonl")),
        strict=True,
    )
    answers = {row["_id"]: row["answers"] for row in records(folder / "answers.jsonl")}
    texts = {row["_id"]: row["text"] for row in records(folder / "beir" / "queries.jsonl")}
    judged = (folder / "beir" / "qrels" / "nq.tsv").read_text().splitlines()[1:]
    number = {name: index for index, name in enumerate(names)}
    pairs = {query: number[document] for query, document, _ in map(str.split, judged)}
    known = [query for query in pairs if query in answers]
    return (
        list(passages),
        [answers[query] for query in known],
        [pairs[query] for query in known],
        [texts[query] for query in known],
    )


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_gold_passages_of_natural_questions_hold_their_answers(data_folder: Path):
    passages, answers, gold, _ = natural_questions(data_folder / "wiki_mix")
    hits = answer_hits(np.array(gold)[:, None], passages, answers)
    assert hits.mean() > 0.95
    strings = [has_answer(passages[i], row) for i, row in zip(gold, answers, strict=True)]
    assert (
        hits[:, 0].tolist() == strings == list(map(by_loop, (passages[i] for i in gold), answers))
    )


@pytest.mark.slow
def test_bm25_finds_answers_of_natural_questions(data_folder: Path):
    pytest.importorskip("bm25s", reason="bm25s is not installed: pip install tilefold[demo]")
    from tilefold.retrieval.bm25 import Bm25

    passages, answers, _, questions = natural_questions(data_folder / "wiki_mix")
    ids = Bm25(passages).search(questions[:300], 20).ids
    accuracy = top_k_accuracy(answer_hits(ids, passages, answers[:300]), ks=[1, 5, 20])
    means = [mean(values) for values in accuracy.values()]
    assert means == sorted(means)
    assert 0.8 < means[-1] < 1
