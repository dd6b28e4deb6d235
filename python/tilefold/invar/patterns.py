"""Finds invariant patterns: the documents that stay probable under interventions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..integers import as_integer

FloatArray = NDArray[np.float64]
_OP = "ranking_patterns"


class RankingPatterns(NamedTuple):
    """Candidates of n queries under S interventions."""

    mean: FloatArray  # [n, k] of the probability over interventions
    variance: FloatArray  # [n, k], that of a population (divided by S)
    invariant: NDArray[np.bool_]  # [n, k]: the invariant candidates; the others are variant

    @property
    def mass(self) -> FloatArray:
        """Mean probability of the invariant candidates of each query, ``[n]``."""
        mass: FloatArray = np.where(self.invariant, self.mean, 0.0).sum(1)
        return mass

    @property
    def uncertainty(self) -> FloatArray:
        """Variance over interventions, summed over the candidates of each query, ``[n]``.

        0 where every intervention leads to the same distribution.
        """
        total: FloatArray = self.variance.sum(1)
        return total


class PatternChange(NamedTuple):
    """What changed between two models, such as before and after a training; after minus before."""

    uncertainty: FloatArray  # [n] variance over interventions; negative where rankings agree more
    mass: FloatArray  # [n] mean probability of the invariant candidates
    kept: FloatArray  # [n] share of the invariant candidates before that still are; NaN of none


def pattern_change(before: RankingPatterns, after: RankingPatterns) -> PatternChange:
    """Compares the patterns of the same candidates of the same queries in two models.

    Args:
        before, after: of `ranking_patterns`.

    Returns:
        Values of each query, for `tilefold.evaluate.bootstrap` and `paired_test`.

    Raises:
        ValueError: patterns of other numbers of queries or candidates.

    Example:
        >>> before = ranking_patterns([[[0.9, 0.1]], [[0.1, 0.9]]], r=1)
        >>> after = ranking_patterns([[[0.8, 0.2]], [[0.8, 0.2]]], r=1)
        >>> change = pattern_change(before, after)
        >>> change.uncertainty.round(2), change.mass.round(2), change.kept
        (array([-0.32]), array([0.3]), array([1.]))
    """
    if before.mean.shape != after.mean.shape:
        raise ValueError(
            f"pattern_change: before and after must have the same queries and candidates, got "
            f"{before.mean.shape} and {after.mean.shape}"
        )
    counts = before.invariant.sum(1)
    common = (before.invariant & after.invariant).sum(1)
    kept = np.where(counts > 0, common / np.maximum(counts, 1), np.nan)
    return PatternChange(after.uncertainty - before.uncertainty, after.mass - before.mass, kept)


def ranking_patterns(probabilities: Any, r: int, *, beta: float = 1.0) -> RankingPatterns:
    """Splits candidates into invariant and variant ones by mean and variance over interventions.

    The invariant candidates of a query are the r with the largest ``mean - beta * sqrt(variance)``;
    of equal ones the first. A candidate that has probability 0 in every intervention, as padding
    has, is never invariant.

    Args:
        probabilities: ``[S, n, k]``: P_s of the k candidates of each query, the same documents in
            every intervention. See `view_probabilities`.
        r: invariant candidates of a query.
        beta: how much variance counts; 0 for none.

    Raises:
        ValueError: another shape, values outside 0 to 1, r below 1, beta negative or not finite.

    Example:
        >>> found = ranking_patterns([[[0.6, 0.4, 0.0]], [[0.6, 0.0, 0.4]]], r=1)
        >>> found.invariant.tolist(), found.mass.tolist()
        ([[True, False, False]], [0.6])
    """
    table = np.asarray(probabilities, np.float64)
    if table.ndim != 3 or not len(table):
        raise ValueError(
            f"{_OP}: probabilities must have shape [interventions, queries, candidates], got "
            f"{table.shape}"
        )
    if not ((table >= 0) & (table <= 1 + 1e-9)).all():
        raise ValueError(f"{_OP}: probabilities must be 0 to 1")
    if as_integer(r, _OP, "r") < 1:
        raise ValueError(f"{_OP}: r must be 1 or more, got {r}")
    if not 0 <= beta < np.inf:
        raise ValueError(f"{_OP}: beta must be finite and 0 or more, got {beta}")
    mean, variance = table.mean(0), table.var(0)
    score = np.where(mean > 0, mean - beta * np.sqrt(variance), -np.inf)
    order = np.argsort(-score, axis=1, kind="stable")[:, :r]
    invariant = np.zeros(mean.shape, np.bool_)
    np.put_along_axis(invariant, order, True, axis=1)
    return RankingPatterns(mean, variance, invariant & (mean > 0))


def view_probabilities(scores: Any, temperature: float = 1.0) -> FloatArray:
    """Computes the softmax over the candidates of each query, in every intervention.

    Args:
        scores: ``[S, n, k]``; -inf for padding.
        temperature: scores are divided by it.

    Returns:
        float64 ``[S, n, k]``; zeros for a query whose scores are all -inf.

    Raises:
        ValueError: another shape, NaN or +inf, a temperature that is not above 0.

    Example:
        >>> view_probabilities([[[1.0, 1.0]]]).tolist()
        [[[0.5, 0.5]]]
    """
    table = np.asarray(scores, np.float64)
    if table.ndim != 3:
        raise ValueError(f"view_probabilities: expected [S, n, k] scores, got {table.shape}")
    if np.isnan(table).any() or (table == np.inf).any():
        raise ValueError("view_probabilities: scores must be finite, or -inf for padding")
    if not 0 < temperature < np.inf:
        raise ValueError(f"view_probabilities: temperature must be above 0, got {temperature}")
    largest = table.max(2, keepdims=True, initial=-np.inf)
    shifted = np.exp((table - np.where(np.isfinite(largest), largest, 0.0)) / temperature)
    total = shifted.sum(2, keepdims=True)
    found: FloatArray = shifted / np.where(total > 0, total, 1.0)
    return found
