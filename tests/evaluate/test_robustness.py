"""Robustness over views against loops over pairs and depths."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tilefold.evaluate import decision_flips, jaccard, rank_biased_overlap, view_spread


@st.composite
def rankings(draw, padded: bool = False):
    """``[S, n, k]``, without a document twice; perhaps with -1 at the end of some."""
    views, n, k = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = np.stack([[rng.permutation(9)[:k] for _ in range(n)] for _ in range(views)])
    if padded:
        table[rng.integers(0, k + 1, (views, n))[:, :, None] <= np.arange(k)] = -1
    return table


def naive_overlap(first, second, p: float) -> float:
    """The limit of the agreement of longer and longer rankings, by sets.

    Beyond its end, the shorter ranking goes on to agree as at its end: a part of a document at each
    rank. Beyond the end of the longer one, the agreement stays what it is there.
    """
    short, long = sorted(([x for x in own if x >= 0] for own in (first, second)), key=len)
    s, n = len(short), len(long)
    if not n:
        return 1.0
    total, agreement = 0.0, 0.0
    for d in range(1, 4000):
        if d <= n:
            common = len(set(short[:d]) & set(long[:d]))
            if d > s and s:
                common += len(set(short) & set(long[:s])) / s * (d - s)
            agreement = common / d
        total += (1 - p) * p ** (d - 1) * agreement
    return total


@given(rankings(padded=True), st.floats(0.1, 0.95))
def test_rank_biased_overlap_is_the_mean_over_pairs_of_views(table, p):
    expected = [
        np.mean([naive_overlap(a.tolist(), b.tolist(), p) for a, b in itertools.combinations(q, 2)])
        for q in table.swapaxes(0, 1)
    ]
    np.testing.assert_allclose(rank_biased_overlap(table, p=p), expected, rtol=1e-9, atol=1e-12)


def test_rank_biased_overlap_of_rankings_of_different_lengths_by_hand():
    # X_1 = X_2 = 1, s = 1, l = 2: (1 - p) / p (p + (1 + 1) / 2 p^2) + (0 / 2 + 1) p^2 is 1.
    assert rank_biased_overlap([[[1, -1]], [[1, 2]]], p=0.5) == pytest.approx(1)
    # X_1 = 0, X_2 = 1: (1 - p) / p (0 + 1 / 2 p^2) + 1 / 2 p^2 is p / 2.
    assert rank_biased_overlap([[[2, -1]], [[1, 2]]], p=0.5) == pytest.approx(0.25)
    np.testing.assert_array_equal(rank_biased_overlap([[[-1]], [[-1]]]), 1)
    np.testing.assert_array_equal(rank_biased_overlap([[[-1]], [[3]]]), 0)


@given(rankings(padded=True))
def test_jaccard_is_the_mean_over_pairs_of_views(table):
    expected = []
    for query in table.swapaxes(0, 1):
        sets = [set(own.tolist()) - {-1} for own in query]
        pairs = itertools.combinations(sets, 2)
        expected.append(np.mean([len(a & b) / len(a | b) if a | b else 1.0 for a, b in pairs]))
    np.testing.assert_allclose(jaccard(table), expected, rtol=1e-12)


@given(rankings())
def test_only_the_first_k_count(table):
    for k in range(1, table.shape[2] + 1):
        np.testing.assert_array_equal(jaccard(table, k), jaccard(table[:, :, :k]))
        np.testing.assert_array_equal(
            rank_biased_overlap(table, k=k), rank_biased_overlap(table[:, :, :k])
        )


def test_equal_rankings_overlap_wholly_and_disjoint_ones_not_at_all():
    same = np.tile(np.arange(5), (3, 2, 1))
    np.testing.assert_allclose(rank_biased_overlap(same), 1, rtol=1e-12)
    np.testing.assert_array_equal(jaccard(same), 1)
    apart = np.stack([same[0], same[0] + 5])
    np.testing.assert_array_equal(rank_biased_overlap(apart), 0)
    np.testing.assert_array_equal(jaccard(apart), 0)


def test_an_exchange_at_the_top_costs_more_than_one_at_the_end():
    base = np.arange(6)
    top, end = base[[1, 0, 2, 3, 4, 5]], base[[0, 1, 2, 3, 5, 4]]
    first, last = (rank_biased_overlap([[base], [other]])[0] for other in (top, end))
    assert first < last < 1
    assert jaccard([[base], [top]])[0] == 1


def test_flips_are_pairs_of_views_that_decide_differently():
    decisions = [[True, 3], [False, 3], [False, 4], [False, 5]]
    np.testing.assert_allclose(decision_flips(decisions), [3 / 6, 5 / 6])


def test_spread_is_of_a_population_and_a_missing_value_stays_missing():
    found = view_spread([[1.0, 0.2, np.nan], [0.5, 0.2, 1.0]])
    np.testing.assert_allclose(found.mean, [0.75, 0.2, np.nan])
    np.testing.assert_allclose(found.deviation, [0.25, 0.0, np.nan])
    np.testing.assert_allclose(found.worst, [0.5, 0.2, np.nan])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaccard([[[1, 2]]]), "2 or more views"),
        (lambda: jaccard([[[1, 1]], [[1, 2]]]), "a document twice"),
        (lambda: jaccard([[[1, 2]], [[1, 2]]], 3), "k must be 1 to 2, got 3"),
        (lambda: jaccard([[[0.5]], [[1.0]]]), "rankings must be integers"),
        (lambda: rank_biased_overlap([[[-1, 1]], [[1, 2]]]), "a document behind a missing one"),
        (lambda: rank_biased_overlap([[[1]], [[2]]], p=1.0), "p must be above 0 and below 1"),
        (lambda: decision_flips([[True]]), "2 or more views"),
        (lambda: view_spread([1.0]), "must have shape"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
