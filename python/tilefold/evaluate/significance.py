"""Tests the difference of two systems over queries, paired, with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Flips = NDArray[np.uint8]

_CELLS = 1 << 21  # signs at a time: 16 MiB once they are fp64


class PairedTest(NamedTuple):
    """Result of a paired test."""

    difference: float  # mean of a - b
    p_value: float  # two-sided
    n: int  # queries that have both values


def paired_test(a: Any, b: Any, *, resamples: int = 10_000, seed: int = 0) -> PairedTest:
    """Tests the mean difference of two systems by a two-sided paired randomisation test.

    If the two systems were alike, each query's difference could as well have the other sign. The
    p-value is the share of assignments of signs that give a mean difference at least as far from 0
    as the one seen. All of them are tried if there are at most `resamples`; otherwise that many are
    drawn, and the one seen counts as one more, so that p is never 0.

    The interval of the difference is `bootstrap(a - b)`.

    Args:
        a, b: [n] of one measure for the same queries; a query with NaN in either is left out.
        resamples: assignments of signs to draw, at least 1.
        seed: the same seed gives the same p-value.

    Returns:
        `PairedTest` (difference, p_value, n); NaN, NaN and 0 where no query is left.

    Raises:
        ValueError: a and b have different shapes or more than one dimension; resamples < 1.

    Source: Smucker, Allan and Carterette, CIKM 2007; for the one more, Phipson and Smyth,
    Statistical Applications in Genetics and Molecular Biology 9(1), 2010.

    >>> paired_test([0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.5, 0.5])
    PairedTest(difference=0.25, p_value=0.125, n=4)
    """
    if resamples < 1:
        raise ValueError(f"paired_test: resamples must be at least 1, got {resamples}")
    differences = _differences(a, b)
    if not len(differences):
        return PairedTest(math.nan, math.nan, 0)
    # A difference of 0 has no sign, so the assignments that matter are fewer.
    p_value = _p_value(differences[differences != 0], resamples, seed)
    return PairedTest(float(differences.mean()), p_value, len(differences))


def holm(p_values: Any) -> FloatArray:
    """Adjusts p-values for m comparisons by Holm's step-down correction.

    Rejecting where the adjusted value is at most 0.05 keeps the chance of any false rejection at
    5%, however the comparisons depend on each other.

    Args:
        p_values: [m], each from 0 to 1.

    Returns:
        float64 [m], in the order given.

    Raises:
        ValueError: not one-dimensional, or a value that is no probability.

    Source: Holm, Scandinavian Journal of Statistics 6(2), 1979.

    >>> holm([0.25, 0.5, 0.125]).tolist()
    [0.5, 0.5, 0.375]
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1:
        raise ValueError(f"holm: p_values must be [m], got shape {p.shape}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("holm: p_values must lie between 0 and 1; leave NaN out")
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def _differences(a: Any, b: Any) -> FloatArray:
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(
            f"paired_test: a and b must be [n] for the same queries, "
            f"got shapes {left.shape} and {right.shape}"
        )
    differences = left - right
    return differences[~np.isnan(differences)]


def _p_value(differences: FloatArray, resamples: int, seed: int) -> float:
    total = differences.sum()
    # Sums that are equal on paper differ by rounding, whose bound is far below this.
    threshold = abs(total) - 1e-12 * np.abs(differences).sum()
    exact = 2 ** len(differences) <= resamples
    blocks = _all(len(differences)) if exact else _drawn(len(differences), resamples, seed)
    extreme = sum(
        int(
            np.count_nonzero(
                np.abs(total - 2 * (flips.astype(np.float64) @ differences)) >= threshold
            )
        )
        for flips in blocks
    )
    return extreme / 2 ** len(differences) if exact else (extreme + 1) / (resamples + 1)


def _all(n: int) -> Iterator[Flips]:
    """Yields every [n] of zeros and ones, a block of rows at a time."""
    for codes in _split(2**n, n):
        numbers = np.arange(codes.start, codes.stop)[:, None]
        yield (numbers >> np.arange(n) & 1).astype(np.uint8)


def _drawn(n: int, resamples: int, seed: int) -> Iterator[Flips]:
    rng = np.random.default_rng(seed)
    for rows in _split(resamples, n):
        yield rng.integers(2, size=(len(rows), n), dtype=np.uint8)


def _split(rows: int, columns: int) -> Iterator[range]:
    step = max(1, _CELLS // max(columns, 1))
    return (range(start, min(start + step, rows)) for start in range(0, rows, step))
