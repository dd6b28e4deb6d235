"""The confidence below which another ranking replaces the dense one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class FallbackThreshold(NamedTuple):
    """A threshold of the confidence, and means of a measure over the queries that chose it."""

    confidence: float  # queries with a lower one fall back
    value: float  # mean of the measure with this threshold
    dense: float  # mean without falling back
    fallback: float  # mean if all queries fall back


def best_threshold(confidence: Any, dense: Any, fallback: Any) -> FallbackThreshold:
    """Finds the confidence below which falling back gives the largest mean of a measure.

    Thresholds between all neighbouring confidences are compared, and those by which no query or all
    of them fall back; of several best ones the lowest is taken, by which the fewest fall back.

    Args:
        confidence: ``[n]``, one query or more.
        dense: ``[n]`` values of the measure for the dense rankings.
        fallback: ``[n]`` values for the rankings that replace them.

    Returns:
        The threshold: 0 where no query falls back and infinity where all do, else the middle of two
        neighbouring confidences.

    Raises:
        ValueError: other shapes, no query, or a number that is not finite.

    Example:
        >>> best_threshold([0.9, 0.5, 0.1], dense=[1, 0, 0], fallback=[0, 1, 0])
        FallbackThreshold(confidence=0.7, value=0.6666666666666666, dense=0.3333333333333333,
                          fallback=0.3333333333333333)
    """
    sure, own, other = (np.asarray(each, np.float64) for each in (confidence, dense, fallback))
    if sure.ndim != 1 or not len(sure) or not sure.shape == own.shape == other.shape:
        raise ValueError(
            "best_threshold: confidence, dense and fallback must have one shape [n] with n of 1 or "
            f"more, got {sure.shape}, {own.shape} and {other.shape}"
        )
    if not np.isfinite([sure, own, other]).all():
        raise ValueError("best_threshold: confidence, dense and fallback must be finite")
    levels, groups = np.unique(sure, return_inverse=True)
    # Gain of letting the i lowest levels fall back.
    gains = np.cumsum([0.0, *np.bincount(groups, other - own)])
    # Sums of gains that cancel out differ by roundings.
    best = int(np.flatnonzero(gains >= gains.max() - 1e-12 * len(sure))[0])
    thresholds = [0.0, *(levels[:-1] + levels[1:]) / 2, np.inf]
    value = float(np.where(groups < best, other, own).mean())
    return FallbackThreshold(float(thresholds[best]), value, float(own.mean()), float(other.mean()))
