"""EM and F1 of SQuAD, PopQA's accuracy: by hand, and against plain definitions."""

import itertools
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.evaluate import (
    alias_match,
    evaluate_predictions,
    exact_match,
    f1,
    normalise_answer,
    paired_test,
    relaxed_alias_match,
)

WORDS = st.lists(st.sampled_from(["a", "The", "fox", "Fox!", "hen", "U.S.", "-"]), max_size=6)
ANSWERS = WORDS.map(" ".join)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Beatles", "beatles"),
        ("a theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("“quoted”", "“quoted”"),  # punctuation of ASCII only
        ("A-Team", "ateam"),  # punctuation goes before articles
        ("the", ""),
        ("line\nbreak\tand tab", "line break and tab"),
    ],
)
def test_answers_are_normalised_as_in_squad(text: str, normal: str):
    assert normalise_answer(text) == normal


def test_the_best_accepted_answer_counts():
    assert exact_match("Fox", ["hen", "the fox"])
    assert not exact_match("Fox", ["hen", "foxes"])
    assert f1("red fox", ["hen", "the red red fox"]) == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))


def test_words_count_as_often_as_they_occur():
    assert f1("fox fox", ["fox"]) == pytest.approx(2 / 3)


def test_where_nothing_is_left_only_nothing_matches():
    assert (f1("the", ["a"]), f1("", [""]), f1("", ["fox"]), f1("fox", ["the"])) == (1, 1, 0, 0)


@given(ANSWERS, ANSWERS)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(prediction: str, gold: str):
    left, right = normalise_answer(prediction).split(), normalise_answer(gold).split()
    same = sum((Counter(left) & Counter(right)).values())
    if left and right and same:
        precision, recall = same / len(left), same / len(right)
        assert f1(prediction, [gold]) == pytest.approx(
            2 * precision * recall / (precision + recall)
        )
    else:
        assert f1(prediction, [gold]) == (left == right)
    assert (f1(prediction, [gold]) == 1) >= exact_match(prediction, [gold])


@given(ANSWERS, st.lists(ANSWERS, min_size=1, max_size=3))
def test_order_and_punctuation_do_not_matter(prediction: str, golds: list[str]):
    marks = itertools.cycle(string.punctuation)
    noisy = "".join(f"{sign}{next(marks)}" for sign in prediction)
    assert f1(noisy, golds) == f1(prediction, golds) == f1(prediction, golds[::-1])
    assert exact_match(noisy, golds) == exact_match(prediction, golds)


# ---- PopQA ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prediction", "alias", "strict", "relaxed"),
    [
        ("He is a politician", "politician", True, True),
        ("Politician", "politician", True, True),
        ("politician", "Politician", True, True),
        ("POLITICIAN", "politician", False, True),
        ("new york", "New York", True, True),
        ("New york", "New York", True, True),
        ("artist", "art", True, False),
        ("smart", "art", True, False),
        ("the U.S.", "U.S.", True, True),
        ("\n\nBerlin\nParis", "Berlin", True, True),
        ("Berlin\nParis", "Paris", False, False),
        ("\nBerlin", "Berlin", False, False),
        ("anything", "", False, False),
    ],
)
def test_popqa_accepts_an_alias_in_the_first_line(
    prediction: str, alias: str, strict: bool, relaxed: bool
):
    assert alias_match(prediction, ["nothing like it", alias]) is strict
    assert relaxed_alias_match(prediction, ["nothing like it", alias]) is relaxed


# ---- many questions ------------------------------------------------------------------------------


def test_every_measure_gives_a_number_for_each_question():
    predictions, golds = ["the red fox", "Hens"], [["fox"], ["hen", "hens"]]
    values = evaluate_predictions(predictions, golds, ["EM", "F1", "PopQA", "PopQA-relaxed"])
    expected = {
        "EM": [0, 1],
        "F1": [2 / 3, 1],
        "PopQA": [1, 1],
        "PopQA-relaxed": [1, 1],
    }
    assert {name: row.tolist() for name, row in values.items()} == expected
    assert all(row.dtype == np.float64 for row in values.values())
    assert paired_test(values["F1"], values["EM"]).n == 2


def test_no_questions_give_empty_arrays():
    assert evaluate_predictions([], [])["EM"].shape == (0,)


@pytest.mark.parametrize(
    ("predictions", "golds", "measures", "complaint"),
    [
        (["a"], [["a"], ["b"]], ["EM"], "1 predictions but accepted answers of 2 questions"),
        (["a"], [["a"]], ["BLEU"], "unknown measure 'BLEU'"),
        (["a"], [[]], ["F1"], "f1: a question needs at least one accepted answer"),
    ],
)
def test_wrong_lists_are_errors(predictions, golds, measures, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        evaluate_predictions(predictions, golds, measures)


@pytest.mark.parametrize("measure", [exact_match, f1, alias_match, relaxed_alias_match])
def test_a_string_for_a_list_of_accepted_answers_is_an_error(measure):
    with pytest.raises(TypeError, match=f"{measure.__name__}: accepted answers must be a list"):
        measure("fox", "fox")
