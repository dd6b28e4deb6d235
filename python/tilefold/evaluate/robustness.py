"""Measures how much rankings, and measures of them, differ between views of the same queries.

Views are rewrites of a query, other context windows, or seeds of a training.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class ViewSpread(NamedTuple):
    """A measure of n queries over S views."""

    mean: FloatArray  # [n]
    deviation: FloatArray  # [n], that of a population (divided by S)
    worst: FloatArray  # [n], the lowest value


def view_spread(values: Any) -> ViewSpread:
    """Computes mean, standard deviation and lowest value of a measure over views.

    Args:
        values: ``[S, n]`` of a measure that is better where it is larger. A query with NaN in any
            view, as one without judgments, has NaN.

    Raises:
        ValueError: another shape, or no view.

    Example:
        >>> view_spread([[1.0, 0.5], [0.0, 0.5]])
        ViewSpread(mean=array([0.5, 0.5]), deviation=array([0.5, 0. ]), worst=array([0. , 0.5]))
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or not len(table):
        raise ValueError(f"view_spread: values must have shape [views, queries], got {table.shape}")
    return ViewSpread(table.mean(0), table.std(0), table.min(0))


def jaccard(rankings: Any, k: int | None = None) -> FloatArray:
    """Computes the overlap of the first k documents of two views, mean over pairs of views.

    The overlap is the number of documents in both over the number in either; 1 where both are
    empty.

    Args:
        rankings: ``[S, n, K]`` ids, best first, -1 where there is none; two views or more.
        k: documents that count; None for K.

    Returns:
        float64 ``[n]``.

    Raises:
        ValueError: another shape, a document twice in a ranking, k outside 1 to K.

    Example:
        >>> jaccard([[[1, 2]], [[2, 3]]])
        array([0.33333333])
    """
    table = _checked("jaccard", rankings, k)
    return _over_pairs(table, _jaccard)


def rank_biased_overlap(rankings: Any, *, p: float = 0.9, k: int | None = None) -> FloatArray:
    """Computes the rank-biased overlap of two views, mean over pairs of views.

    The extrapolated form: documents below the last rank are taken to agree as those above do. With
    X_d documents common to the first d of both, and s and l the lengths of the shorter and the
    longer ranking, it is ``(1 - p) / p * (sum over d to l of X_d / d * p^d + sum over d from s + 1
    to l of X_s (d - s) / (s d) * p^d) + ((X_l - X_s) / l + X_s / s) * p^l``. 1 for equal rankings
    and for two empty ones, 0 without a common document. Rankings have no ties.

    Args:
        rankings: ``[S, n, K]`` ids, best first, -1 behind the last one; two views or more.
        p: persistence; the first 10 ranks have 86 % of the weight at 0.9.
        k: depth of the evaluation; None for K.

    Returns:
        float64 ``[n]``.

    Raises:
        ValueError: as of `jaccard`; p outside 0 to 1; a document behind a missing one.

    Source: Webber, Moffat and Zobel, A Similarity Measure for Indefinite Rankings (TOIS 2010),
    eq. 32 for rankings of different lengths.

    Example:
        >>> rank_biased_overlap([[[1, 2, 3]], [[1, 3, 2]]], p=0.5)
        array([0.875])
    """
    if not 0 < p < 1:
        raise ValueError(f"rank_biased_overlap: p must be above 0 and below 1, got {p}")
    table = _checked("rank_biased_overlap", rankings, k)
    if ((table[:, :, :-1] < 0) & (table[:, :, 1:] >= 0)).any():
        raise ValueError("rank_biased_overlap: a ranking has a document behind a missing one, -1")
    return _over_pairs(table, lambda first, second: _extrapolated(first, second, p))


def decision_flips(decisions: Any) -> FloatArray:
    """Computes the share of pairs of views in which a decision differs.

    Args:
        decisions: ``[S, n]`` booleans or categories, such as whether the first passage is relevant,
            whether an answer is right, or the first passage itself; two views or more.

    Returns:
        float64 ``[n]``, 0 where all views agree.

    Raises:
        ValueError: another shape, or fewer than two views.

    Example:
        >>> decision_flips([[True, True], [False, True], [True, True]])
        array([0.66666667, 0.        ])
    """
    table = np.asarray(decisions)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(
            f"decision_flips: decisions must have shape [2 or more views, queries], got "
            f"{table.shape}"
        )
    pairs = list(itertools.combinations(table, 2))
    flips: FloatArray = np.mean([a != b for a, b in pairs], 0, dtype=np.float64)
    return flips


def _checked(op: str, rankings: Any, k: int | None) -> NDArray[np.int64]:
    table = np.asarray(rankings)
    if table.ndim != 3 or len(table) < 2 or (table.size and table.dtype.kind not in "iu"):
        raise ValueError(
            f"{op}: rankings must be integers [2 or more views, queries, documents], got "
            f"{table.dtype} {table.shape}"
        )
    if k is not None and not 1 <= k <= table.shape[2]:
        raise ValueError(f"{op}: k must be 1 to {table.shape[2]}, got {k}")
    kept: NDArray[np.int64] = table[:, :, :k].astype(np.int64)
    ordered = np.sort(kept, axis=2)
    if ((ordered[:, :, 1:] == ordered[:, :, :-1]) & (ordered[:, :, 1:] >= 0)).any():
        raise ValueError(f"{op}: a ranking has a document twice")
    return kept


def _over_pairs(table: NDArray[np.int64], measure: Any) -> FloatArray:
    found = [measure(first, second) for first, second in itertools.combinations(table, 2)]
    mean: FloatArray = np.mean(found, 0, dtype=np.float64)
    return mean


def _jaccard(first: NDArray[np.int64], second: NDArray[np.int64]) -> FloatArray:
    same = first[:, :, None] == second[:, None, :]
    common = (same & (first >= 0)[:, :, None]).sum((1, 2))
    either = (first >= 0).sum(1) + (second >= 0).sum(1) - common
    return np.where(either > 0, common / np.maximum(either, 1), 1.0)


def _extrapolated(first: NDArray[np.int64], second: NDArray[np.int64], p: float) -> FloatArray:
    """Computes eq. 32 of Webber et al. for each row of two tables of ids."""
    n, k = first.shape
    depth = np.arange(1, k + 1)
    # A document is common at depth d if both of its ranks are at most d.
    rows, i, j = np.nonzero((first[:, :, None] == second[:, None, :]) & (first >= 0)[:, :, None])
    common = np.zeros((n, k + 1))  # X_0 to X_k
    np.add.at(common, (rows, np.maximum(i, j) + 1), 1.0)
    common = common.cumsum(1)
    lengths = np.stack([(first >= 0).sum(1), (second >= 0).sum(1)])
    short, long = lengths.min(0)[:, None], lengths.max(0)[:, None]
    at_short, at_long = (np.take_along_axis(common, place, 1) for place in (short, long))
    beyond = at_short * np.maximum(depth - short, 0) / np.maximum(short, 1)
    terms = np.where(depth <= long, (common[:, 1:] + beyond) / depth * p**depth, 0.0)
    rest = (at_long - at_short) / np.maximum(long, 1) + at_short / np.maximum(short, 1)
    found = (1 - p) / p * terms.sum(1) + (rest * p**long)[:, 0]
    both_empty: FloatArray = np.where(long[:, 0] == 0, 1.0, found)
    return both_empty
