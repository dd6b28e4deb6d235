"""choice_accuracy(): micro and macro means, and the groups of MMLU."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.evaluate import MMLU_GROUPS, choice_accuracy, mean

SUBJECTS = ["virology", "astronomy", "anatomy", "sociology"]


def test_micro_counts_questions_and_macro_subjects():
    scores = [[2.0, 1.0]] * 4
    found = choice_accuracy(scores, [0, 0, 0, 1], ["a", "a", "a", "b"])
    assert found.overall == (0.75, 0.5)
    assert found.by_subject == {"a": 1.0, "b": 0.0}
    assert found.by_group == {}
    assert found.correct.tolist() == [1, 1, 1, 0]


@given(st.data())
def test_means_are_those_of_a_plain_loop(data: st.DataObject):
    subjects = data.draw(st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=12))
    rows = st.lists(st.floats(-9, 9), min_size=1, max_size=5)
    scores = [data.draw(rows) for _ in subjects]
    answers = [data.draw(st.integers(0, len(row) - 1)) for row in scores]
    found = choice_accuracy(scores, answers, subjects, groups=MMLU_GROUPS)
    right = [row.index(max(row)) == a for row, a in zip(scores, answers, strict=True)]
    accuracy = {
        name: np.mean([hit for hit, own in zip(right, subjects, strict=True) if own == name])
        for name in set(subjects)
    }
    assert found.by_subject == pytest.approx(accuracy)
    assert list(found.by_subject) == sorted(accuracy)
    assert found.overall == pytest.approx((np.mean(right), np.mean(list(accuracy.values()))))
    assert mean(found.correct) == pytest.approx(found.overall.micro)
    for group, members in MMLU_GROUPS.items():
        own = [hit for hit, name in zip(right, subjects, strict=True) if name in members]
        if own:
            macro = np.mean([accuracy[name] for name in set(subjects) & set(members)])
            assert found.by_group[group] == pytest.approx((np.mean(own), macro))
        else:
            assert group not in found.by_group


def test_questions_may_differ_in_how_many_options_they_have():
    found = choice_accuracy([[0.1, 0.2], [0.3, 0.2, 0.9, 0.1]], np.array([1, 2]), ["a", "a"])
    assert found.overall.micro == 1


def test_of_equal_scores_the_first_option_is_taken():
    assert choice_accuracy([[1.0, 1.0]], [0], ["a"]).overall.micro == 1
    assert choice_accuracy([[1.0, 1.0]], [1], ["a"]).overall.micro == 0


def test_no_questions_have_no_mean():
    found = choice_accuracy([], [], [])
    assert np.isnan(found.overall).all()
    assert found.by_subject == {}


def test_mmlu_has_57_subjects_in_four_groups(data_folder: Path):
    sizes = {group: len(members) for group, members in MMLU_GROUPS.items()}
    assert sizes == {"Humanities": 13, "Social sciences": 12, "STEM": 18, "Other": 14}
    listed = sorted(subject for members in MMLU_GROUPS.values() for subject in members)
    files = (data_folder / "mmlu" / "orig" / "dev").glob("*_dev.csv")
    assert listed == sorted(path.stem.removesuffix("_dev") for path in files)


@pytest.mark.parametrize(
    ("scores", "answers", "subjects", "complaint"),
    [
        ([[1.0, 2.0]], [0, 1], ["virology"], r"answers must be \[1\] integers"),
        ([[1.0, 2.0]], [0.0], ["virology"], r"answers must be \[1\] integers"),
        ([[1.0, 2.0]], [0], ["virology", "virology"], "1 questions but subjects of 2"),
        ([[1.0, 2.0]], [2], ["virology"], "question 0 has 2 options but answer 2"),
        ([[1.0, 2.0]], [-1], ["virology"], "question 0 has 2 options but answer -1"),
        ([[]], [0], ["virology"], "question 0 must have a number for each option"),
        ([[1.0, np.nan]], [0], ["virology"], "question 0 must have a number for each option"),
        ([[1.0, 2.0]], [0], ["alchemy"], "'alchemy' is in none of the groups"),
    ],
)
def test_wrong_questions_are_errors(scores, answers, subjects, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        choice_accuracy(scores, answers, subjects, groups=MMLU_GROUPS)
