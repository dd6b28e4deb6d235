"""Invariant patterns against a loop over candidates."""

import numpy as np
import pytest
import torch

from tilefold.invar import pattern_change, ranking_patterns, view_probabilities
from tilefold.losses import invariance_loss, invariant_candidates


def test_patterns_are_the_candidates_with_the_largest_lower_bound():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 5, 7))
    scores[:, 2, 4:] = -np.inf  # padding
    table = view_probabilities(scores, 0.5)
    for beta, r in ((0.0, 3), (1.0, 2), (5.0, 4), (1.0, 7)):
        found = ranking_patterns(table, r, beta=beta)
        for n in range(5):
            bounds = {}
            for k in range(7):
                values = table[:, n, k]
                mean = sum(values) / 4
                variance = sum((value - mean) ** 2 for value in values) / 4
                assert found.mean[n, k] == pytest.approx(mean)
                assert found.variance[n, k] == pytest.approx(variance, abs=1e-15)
                if mean > 0:
                    bounds[k] = mean - beta * variance**0.5
            best = sorted(bounds, key=lambda k: -bounds[k])[:r]
            assert np.flatnonzero(found.invariant[n]).tolist() == sorted(best)
            assert found.mass[n] == pytest.approx(sum(found.mean[n, k] for k in best))


def test_uncertainty_is_the_variance_of_the_invariance_loss():
    rng = np.random.default_rng(1)
    queries, documents = rng.normal(size=(3, 4, 6)), rng.normal(size=(9, 6))
    found = ranking_patterns(view_probabilities(queries @ documents.T, 0.7), 2)
    loss = invariance_loss(torch.tensor(queries), torch.tensor(documents), temperature=0.7)
    np.testing.assert_allclose(found.uncertainty, loss.variance.numpy(), rtol=1e-9)


def test_invariant_candidates_are_those_that_the_loss_is_trained_on():
    rng = np.random.default_rng(2)
    queries, documents = rng.normal(size=(3, 6, 4)), rng.normal(size=(11, 4))
    for r, beta in ((1, 0.0), (3, 1.0), (5, 4.0)):
        found = ranking_patterns(view_probabilities(queries @ documents.T, 0.7), r, beta=beta)
        tensors = torch.tensor(queries), torch.tensor(documents)
        offsets, kept = invariant_candidates(*tensors, top=r, beta=beta, temperature=0.7)
        rows, columns = np.nonzero(found.invariant)
        assert kept.tolist() == columns.tolist()
        assert offsets.tolist() == [0, *np.bincount(rows).cumsum().tolist()]


def test_changes_are_after_minus_before_of_each_query():
    rng = np.random.default_rng(4)
    before, after = (
        ranking_patterns(view_probabilities(rng.normal(size=(3, 5, 6))), 2) for _ in range(2)
    )
    change = pattern_change(before, after)
    np.testing.assert_allclose(change.uncertainty, after.uncertainty - before.uncertainty)
    np.testing.assert_allclose(change.mass, after.mass - before.mass)
    for n in range(5):
        own, other = (set(np.flatnonzero(one.invariant[n])) for one in (before, after))
        assert change.kept[n] == len(own & other) / 2
    same = pattern_change(before, before)
    assert (same.kept == 1).all()
    assert not np.concatenate([same.uncertainty, same.mass]).any()


def test_changes_of_nothing_are_missing_and_of_other_queries_an_error():
    none = ranking_patterns(view_probabilities(np.full((2, 1, 3), -np.inf)), 2)
    assert np.isnan(pattern_change(none, none).kept).all()
    other = ranking_patterns(view_probabilities(np.zeros((2, 1, 4))), 2)
    with pytest.raises(ValueError, match=r"got \(1, 3\) and \(1, 4\)"):
        pattern_change(none, other)


def test_equal_views_have_no_uncertainty():
    table = np.tile(view_probabilities(np.arange(6.0).reshape(1, 2, 3)), (3, 1, 1))
    np.testing.assert_allclose(ranking_patterns(table, 1).uncertainty, 0, atol=1e-30)


def test_a_query_without_candidates_has_no_patterns():
    table = view_probabilities(np.full((2, 1, 3), -np.inf))
    assert not ranking_patterns(table, 2).invariant.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "r must be 1 or more, got 0"),
        ({"r": 1, "beta": -1.0}, "beta must be finite and 0 or more"),
        ({"r": 1, "probabilities": [[0.5]]}, "must have shape"),
        ({"r": 1, "probabilities": [[[1.5]]]}, "must be 0 to 1"),
        ({"r": 1, "probabilities": [[[np.nan]]]}, "must be 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ranking_patterns(**{"probabilities": [[[0.5, 0.5]]], **options})


def test_scores_must_be_numbers():
    with pytest.raises(ValueError, match="finite, or -inf"):
        view_probabilities([[[np.nan]]])
    with pytest.raises(ValueError, match="temperature must be above 0"):
        view_probabilities([[[1.0]]], 0.0)
