"""Measures how well a confidence says which results are right: calibration and selective risk."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..integers import as_integer

FloatArray = NDArray[np.float64]


def expected_calibration_error(
    confidence: Any, correct: Any, *, bins: int = 10, equal_mass: bool = False
) -> float:
    """Computes the expected calibration error, the mean gap of confidence and accuracy over bins.

    Bins weigh as many queries as they have. A confidence at the border of two bins belongs to the
    lower one, and equal confidences always to the same one, so the order of queries plays no part.

    Args:
        confidence: ``[n]`` probabilities of being right, 0 to 1.
        correct: ``[n]`` booleans, or numbers from 0 (wrong) to 1 (right).
        bins: number of bins.
        equal_mass: bins between quantiles of the confidence, with as many queries each; by default
            bins are of equal width.

    Raises:
        ValueError: other shapes or values, no query, or fewer than one bin.

    Source: Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian
    Binning (AAAI 2015); Guo et al., On Calibration of Modern Neural Networks (ICML 2017), eq. 3.
    Bins of equal mass as in Nixon et al., Measuring Calibration in Deep Learning (2019).

    Example:
        >>> round(expected_calibration_error([0.9, 0.9, 0.2], [1, 0, 0]), 3)
        0.333
    """
    op = "expected_calibration_error"
    bins = as_integer(bins, op, "bins", at_least=1)
    sure, right = _checked(op, confidence, correct)
    if sure.min() < 0 or sure.max() > 1:
        raise ValueError(
            f"{op}: confidence must be 0 to 1, got {sure.min():.6g} to {sure.max():.6g}"
        )
    edges = np.arange(1, bins) / bins
    if equal_mass:
        # Quantiles that are confidences themselves; interpolated ones could be off by a rounding.
        edges = np.quantile(sure, edges, method="inverted_cdf")
    places = np.searchsorted(edges, sure, side="left")
    gaps = np.bincount(places, sure - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(sure))


class RiskCoverage(NamedTuple):
    """Risk among the queries that are accepted, from the most certain one to all."""

    coverage: FloatArray  # [n], the share of queries that are accepted: 1/n, 2/n, ..., 1
    risk: FloatArray  # [n], the share of these that are wrong
    area: float  # mean of the risk over coverages (AURC)


def risk_coverage(confidence: Any, correct: Any) -> RiskCoverage:
    """Computes the risk among accepted queries, and the area under its curve over coverage.

    Queries are accepted from the most certain one on. The order of queries with equal confidences
    is open: risks and the area are exact means over all their orders, so that a constant confidence
    has the same risk at every coverage.

    Args:
        confidence: ``[n]`` finite numbers of any scale, larger for more certain.
        correct: ``[n]`` booleans, or numbers from 0 (wrong) to 1 (right); the risk is one minus
            their mean.

    Raises:
        ValueError: other shapes or values, or no query.

    Source: Geifman and El-Yaniv, Selective Classification for Deep Neural Networks (NeurIPS 2017);
    the area as in Geifman, Uziel and El-Yaniv (ICLR 2019).

    Example:
        >>> risk_coverage([3.0, 2.0, 2.0, 1.0], [True, True, False, False]).risk
        array([0. , 0.25 , 0.33333333, 0.5 ])
    """
    sure, right = _checked("risk_coverage", confidence, correct)
    order = np.argsort(-sure, kind="stable")
    # Within a group of ties, each place is taken by any of its queries with the same probability.
    starts = np.flatnonzero(np.diff(sure[order], prepend=np.inf))
    sizes = np.diff(starts, append=len(sure))
    means = np.add.reduceat(1 - right[order], starts) / sizes
    accepted = np.arange(1, len(sure) + 1)
    risk = np.cumsum(np.repeat(means, sizes)) / accepted
    return RiskCoverage(accepted / len(sure), risk, float(risk.mean()))


def _checked(op: str, confidence: Any, correct: Any) -> tuple[FloatArray, FloatArray]:
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    if sure.ndim != 1 or sure.shape != right.shape or not len(sure):
        raise ValueError(
            f"{op}: confidence and correct must have one shape [n] with n of 1 or more, got "
            f"{sure.shape} and {right.shape}"
        )
    if not np.isfinite(sure).all():
        raise ValueError(f"{op}: confidence must be finite, got {sure[~np.isfinite(sure)][0]}")
    wrong = ~((right >= 0) & (right <= 1))  # NaN, too
    if wrong.any():
        raise ValueError(f"{op}: correct must be 0 to 1, got {right[wrong][0]}")
    return sure, right
