"""Overlap of positives: equation (8) against sets, intervals, the matrix of annotators."""

import numpy as np
import pytest

from tilefold.ragged_lists import Lists

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")

from tilefold.aar.positives import overlap_matrix, preference_overlap
from tilefold.evaluate import bootstrap


def naive_overlap(one, other, groups):
    first, second = ({groups[d] for d in documents} for documents in (one, other))
    return len(first & second) / len(first | second) if first | second else float("nan")


def some_lists(rng, n, m=9):
    return [rng.permutation(m)[: rng.integers(0, 5)] for _ in range(n)]


@pytest.mark.parametrize("grouped", [False, True])
def test_overlaps_are_those_of_python_sets(grouped):
    rng = np.random.default_rng(1)
    one, other = some_lists(rng, 400), some_lists(rng, 400)
    groups = rng.integers(0, 5, 9) if grouped else np.arange(9)
    found = preference_overlap(
        Lists.pack(one), Lists.pack(other), groups=groups if grouped else None
    )
    expected = [naive_overlap(a, b, groups) for a, b in zip(one, other, strict=True)]
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(found).any()
    assert len(np.unique(found)) > 5


def test_equal_and_disjoint_sets_are_the_ends_of_the_scale():
    one, other = Lists.pack([[3, 1], [2], []]), Lists.pack([[1, 3], [4], [5]])
    np.testing.assert_array_equal(preference_overlap(one, other), [1.0, 0.0, 0.0])


def test_the_matrix_has_every_pair_with_the_interval_of_its_queries():
    rng = np.random.default_rng(2)
    annotators = {name: Lists.pack(some_lists(rng, 60)) for name in ("human", "small", "large")}
    matrix = overlap_matrix(annotators, resamples=200, seed=4)
    assert matrix.names == ("human", "small", "large")
    np.testing.assert_array_equal(matrix.means, matrix.means.T)
    np.testing.assert_array_equal(np.diag(matrix.means), 1)
    values = preference_overlap(annotators["human"], annotators["large"])
    assert matrix.between("large", "human") == bootstrap(values, resamples=200, seed=4)
    assert matrix.between("human", "large") == matrix.between("large", "human")
    assert matrix.n_queries[0, 2] == (~np.isnan(values)).sum() < 60
    assert (matrix.low <= matrix.means).all()
    assert (matrix.means <= matrix.high).all()
    assert matrix.low[0, 1] < matrix.high[0, 1]


def test_lists_of_lists_are_compared_as_packed_ones_are():
    one, other = [[1], [2, 7], [3]], [[1], [7], [4]]
    packed = preference_overlap(Lists.pack(one), Lists.pack(other))
    np.testing.assert_array_equal(preference_overlap(one, other), packed)


@pytest.mark.parametrize("large", [2**40, 2**62 - 1, 2**63 - 1])
def test_ids_may_be_digests(large: int):
    one, other = [[0], [], [3, 5], [], [1]], [[1], [9], [5, 9], [], [0]]
    digests = [[large if document == 9 else document for document in own] for own in other]
    expected = preference_overlap(one, other)
    np.testing.assert_array_equal(preference_overlap(one, digests), expected)
    np.testing.assert_array_equal(preference_overlap(digests, digests), [1, 1, 1, np.nan, 1])
    with pytest.raises(ValueError, match=f"other of query 1 name document {large} twice"):
        preference_overlap([[1], [2]], [[1], [large, 3, large]])


def test_annotators_are_named():
    with pytest.raises(ValueError, match=r"overlap_matrix: annotators\['t5'\] must have 1 lists"):
        overlap_matrix({"human": [[1]], "t5": [[1], [2]]})


def test_annotators_that_cannot_be_compared_are_refused():
    one = Lists.pack([[1], [2]])
    with pytest.raises(ValueError, match="other must have 3 offsets for 2 queries, got 2"):
        preference_overlap(one, Lists.pack([[1]]))
    with pytest.raises(TypeError, match=r"one must be a list of lists of documents, .*got dict"):
        preference_overlap({0: [1], 1: [2]}, one)
    with pytest.raises(ValueError, match="offsets of one must have one element more than"):
        preference_overlap(Lists(*np.empty((2, 0), np.int64)), one)
    with pytest.raises(ValueError, match="of query 0 name document 1 twice"):
        preference_overlap(one, Lists.pack([[1, 1], [2]]))
    with pytest.raises(ValueError, match=r"expected two annotators or more, got \['human'\]"):
        overlap_matrix({"human": one})
    matrix = overlap_matrix({"human": one, "t5": one}, resamples=10)
    with pytest.raises(ValueError, match=r"expected one of \('human', 't5'\), got 'gpt'"):
        matrix.between("human", "gpt")
