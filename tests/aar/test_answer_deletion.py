"""Deleting answers from passages, and what it does to accuracy."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")

from tilefold.aar.baselines import (
    answer_deletion,
    compare_losses,
    delete_answers,
    delete_from_passages,
)
from tilefold.aar.tasks import MmluTask, PopqaTask
from tilefold.data import MultipleChoice, Question


@pytest.mark.parametrize(
    ("passage", "answers", "text", "n"),
    [
        ("Paris is in France.", ["paris"], "is in France.", 1),
        ("the artist of art", ["art"], "the artist of", 1),
        ("x art-house y", ["Art"], "x -house y", 1),
        ("in New\n York, now", ["new york"], "in , now", 1),
        ("New York York", ["York", "New York"], "", 2),
        ("New York city", ["New", "New York"], "city", 1),  # the longest that begins there
        ("a New New York York b", ["New York"], "a b", 2),  # another one arises, and goes too
        ("price 5.5 or 5x5", ["5.5"], "price or 5x5", 1),
        ("CAFÉ au lait", ["café"], "au lait", 1),
        ("C++ and C", ["C++"], "and C", 1),
        ("  kept  as it is ", ["gone"], "  kept  as it is ", 0),
        ("", ["a"], "", 0),
    ],
)
def test_answers_are_deleted_in_any_case_between_ends_of_words(passage, answers, text, n):
    assert delete_answers(passage, answers) == (text, n)


WORDS = st.lists(st.sampled_from(["new", "York", "NEW", "york", "newyork", "a"]), max_size=8)


@given(WORDS, st.lists(st.sampled_from(["new york", "York", "a new"]), min_size=1, max_size=3))
def test_no_answer_is_left_and_every_other_word_is(words, answers):
    text, n = delete_answers(" ".join(words), answers)
    left = text.split()
    for answer in answers:
        assert not re.search(rf"(?<!\w){answer}(?!\w)", text, re.IGNORECASE)
    kept = iter(words)
    assert all(word in kept for word in left)  # a subsequence
    assert (n == 0) == (left == words)
    assert n <= len(words) - len(left) <= 2 * n


def test_counts_are_of_passages_and_of_places():
    found = delete_from_passages(
        [["a hen, a hen", "a fox"], [], ["hen"]], [["hen"], ["x"], ["HEN"]]
    )
    assert found.passages == [["a , a", "a fox"], [], [""]]
    assert (found.n_passages, found.n_with_answer, found.n_deleted) == (3, 2, 3)


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        ("Paris", TypeError, "answers is one string"),
        ([1], TypeError, "answers must be strings, got int"),
        ([], ValueError, "one answer or more"),
        (["a", " \n"], ValueError, "an answer has no token"),
        ([""], ValueError, "an answer has no token"),
    ],
)
def test_answers_without_tokens_are_refused(answers, error, message):
    with pytest.raises(error, match=message):
        delete_answers("a text", answers)


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="1 lists and passages of 2 questions"):
        delete_from_passages([[], []], [["a"]])


class CopyingTarget:
    """Writes all it reads, so it is right where the answer is in a passage."""

    name = "copying"

    def answer(self, questions, passages=None, **options):
        return [" ".join([*own, "."]) for own in passages or [[] for _ in questions]]


def test_deletion_costs_what_the_answers_in_passages_gave():
    questions = tuple(Question(str(i), f"{i}?", (f"word{i}", f"other{i}")) for i in range(6))
    task = PopqaTask(questions)
    people = [[f"so WORD{i} it is", f"a word{i}"] if i < 4 else ["none", "x"] for i in range(6)]
    lm = [[f"a word{i}x", "x"] if i < 5 else [f"other{i}", "x"] for i in range(6)]
    found = answer_deletion(
        task, lambda passages: task.run(CopyingTarget(), passages, 2), {"people": people, "LM": lm}
    )
    assert found["people"].whole.values.tolist() == [1, 1, 1, 1, 0, 0]
    assert found["people"].loss.tolist() == [1, 1, 1, 1, 0, 0]
    # "word0x" has no answer as a word, but PopQA's measure finds it within the word.
    assert found["LM"].whole.values.tolist() == [1] * 6
    assert found["LM"].loss.tolist() == [0, 0, 0, 0, 0, 1]
    assert found["people"].share_with_answer == 8 / 12
    assert found["LM"].share_with_answer == 1 / 12
    assert found["people"].interval.mean == pytest.approx(4 / 6)
    assert compare_losses(found["people"], found["LM"]).difference == pytest.approx(3 / 6)


def test_the_answers_of_mmlu_are_the_texts_of_right_options():
    questions = tuple(
        MultipleChoice(str(i), "?", ("one", "two"), i % 2, "anatomy") for i in range(2)
    )
    task = MmluTask(questions)

    class First:
        name = "first"

        def choose(self, questions, options, passages=None, **others):
            return np.array([int("two" in " ".join(own)) for own in passages])

    found = answer_deletion(
        task, lambda passages: task.run(First(), passages, 1), {"both": [["one two"]] * 2}
    )
    assert found["both"].passages.passages == [["two"], ["one"]]
    assert found["both"].loss.tolist() == [0.0, 1.0]
