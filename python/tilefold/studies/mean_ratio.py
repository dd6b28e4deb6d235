"""Ratios of two means over the same samples, with bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..evaluate import Interval

_CELLS = 1 << 21  # drawn indices at a time: 16 MiB


def ratio_of_means(
    numerator: Any,
    denominator: Any,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Computes the ratio of two means of paired samples, and its percentile bootstrap interval.

    Unlike the mean of ratios it exists where the denominator of a single sample is 0, and small
    denominators do not dominate it.

    Args:
        numerator, denominator: ``[n]``, for the same samples.
        confidence: share of resampled ratios inside the interval.
        resamples: draws of n samples with replacement.
        seed: the same seed gives the same interval.

    Returns:
        The ratio with its interval; NaN where the denominators sum to 0. Draws whose denominators
        sum to 0 are left out.

    Raises:
        ValueError: not two vectors of one length.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 10.4 and 13.

    Example:
        >>> ratio_of_means([1.0, 1.0], [2.0, 2.0])
        Interval(mean=0.5, low=0.5, high=0.5)
    """
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if top.ndim != 1 or top.shape != bottom.shape:
        raise ValueError(
            f"ratio_of_means: expected two vectors of one length, got shapes {top.shape} and "
            f"{bottom.shape}"
        )
    if not len(top) or bottom.sum() == 0:
        return Interval(*[float("nan")] * 3)
    rng = np.random.default_rng(seed)
    sums = np.empty((2, resamples))
    step = max(1, _CELLS // len(top))
    for start in range(0, resamples, step):
        rows = rng.integers(len(top), size=(min(step, resamples - start), len(top)))
        sums[:, start : start + step] = top[rows].sum(1), bottom[rows].sum(1)
    drawn = sums[0, sums[1] != 0] / sums[1, sums[1] != 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(top.sum() / bottom.sum()), float(low), float(high))
