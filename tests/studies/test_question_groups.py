"""Questions about the same documents count as one sample."""

import numpy as np
import pytest

from tilefold.evaluate import bootstrap
from tilefold.ragged_lists import Lists
from tilefold.studies.paired_comparison import compare_pairs
from tilefold.studies.question_groups import question_groups


def reachable(lists: list[list[int]]) -> np.ndarray:
    """Whether each question leads to each other one through shared documents."""
    table = np.array([[bool(set(own) & set(other)) for other in lists] for own in lists])
    table |= np.eye(len(lists), dtype=bool)
    for _ in lists:
        table = table @ table
    return table


def sizes(groups) -> list[int]:
    return sorted(map(len, groups.rows), reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_the_questions_that_shared_documents_connect(seed):
    rng = np.random.default_rng(seed)
    lists = [sorted(set(rng.integers(0, 80, rng.integers(0, 3)).tolist())) for _ in range(30)]
    groups = question_groups(Lists.pack(lists))
    table = reachable(lists)
    expected = {tuple(np.flatnonzero(row).tolist()) for row in table}
    assert {tuple(own) for own in groups.rows} == {own for own in expected if len(own) > 1}
    assert len(groups) == len(expected)
    assert groups.description == "groups of 30 questions that share a relevant passage"


def test_questions_are_connected_through_a_third_one():
    lists = [[1], [2], [7], [1, 2], [8], [9], [10]]
    groups = question_groups(Lists.pack(lists))
    assert groups.rows == [[0, 1, 3]]
    assert len(groups) == 5


def test_where_chains_connect_more_than_half_only_equal_sets_are_a_group():
    chain = [[row, row + 1] for row in range(4)]
    half = question_groups(Lists.pack([*chain, [11], [12], [13], [14]]))
    assert sizes(half) == [4]
    most = question_groups(Lists.pack([*chain, [1, 0], [11], [12], [], []]))
    assert most.rows == [[0, 4]]
    assert len(most) == 8
    assert most.description == "groups of 9 questions that have the same relevant passages"


def test_wordings_of_one_passage_are_one_sample_though_they_are_all_questions():
    groups = question_groups(Lists.pack([[5], [5], [5]]))
    assert len(groups) == 1
    assert groups.means({"RR": np.array([1.0, 0.0, 0.5])})["RR"].tolist() == [0.5]


def test_questions_about_passages_of_their_own_keep_their_values():
    groups = question_groups(Lists.pack([[3], [1, 2], [], []]))
    assert (groups.rows, len(groups), groups.description) == ([], 4, "questions")
    values = np.array([0.5, 0.25, 1.0, 0.0])
    assert groups.means({"RR": values})["RR"].tolist() == values.tolist()


def test_copies_of_questions_do_not_narrow_an_interval_nor_lower_p():
    rng = np.random.default_rng(0)
    ours, base = rng.random(20), rng.random(20)
    copied = question_groups(Lists.pack([[row] for row in range(20)] * 8))
    values = copied.means({"ours": np.tile(ours, 8), "base": np.tile(base, 8)})
    assert bootstrap(values["ours"]) == pytest.approx(bootstrap(ours))
    (found,) = compare_pairs({"RR": (values["ours"], values["base"])})
    (expected,) = compare_pairs({"RR": (ours, base)})
    assert (found.n, found.p) == (20, expected.p)


def test_values_of_another_number_of_questions_are_an_error():
    with pytest.raises(ValueError, match="expected 2 values of RR, got 3"):
        question_groups(Lists.pack([[1], [1]])).means({"RR": np.zeros(3)})
