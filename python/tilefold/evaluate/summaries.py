"""Summarises values of queries: means and their confidence intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean over queries and its confidence interval."""

    mean: float
    low: float
    high: float


def mean(values: Any) -> float:
    """Computes the mean over queries that have judgments; NaN when none has."""
    scored = _scored(values)
    return float(scored.mean()) if len(scored) else float("nan")


def bootstrap(
    values: Any, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Computes the mean over queries and its percentile bootstrap interval.

    Args:
        values: [n] of one measure; NaN (a query without judgments) is left out.
        confidence: share of resampled means inside the interval.
        resamples: draws of n queries with replacement.
        seed: the same seed gives the same interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; for retrieval
    Sakai, SIGIR 2006.

    >>> bootstrap([0.5, 0.5, float("nan")])
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    scored = _scored(values)
    if not len(scored):
        return Interval(*[float("nan")] * 3)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, 2**21 // len(scored))  # 16 MiB of drawn indices at a time
    for start in range(0, resamples, step):
        block = means[start : start + step]
        block[:] = scored[rng.integers(len(scored), size=(len(block), len(scored)))].mean(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(scored.mean()), float(low), float(high))


def _scored(values: Any) -> FloatArray:
    array = np.asarray(values, np.float64)
    return array[~np.isnan(array)]
