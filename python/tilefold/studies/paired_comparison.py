"""Paired comparisons of a model with its base: means, intervals and corrected p values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluate import Interval, bootstrap, holm, paired_test


@dataclass(frozen=True)
class PairedComparison:
    """One quantity of a model and of its base, over the same samples.

    Args:
        name: of the quantity.
        model, base: means and 95% bootstrap intervals.
        difference: of model minus base, the same.
        n: independent samples.
        p: of a two-sided paired randomisation test, corrected over the comparisons that were made
            together (Holm); NaN where nothing could be tested.
    """

    name: str
    model: Interval
    base: Interval
    difference: Interval
    n: int
    p: float


def group_means(values: NDArray[Any], groups: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Returns means of groups, then the values that are in no group.

    Texts of a group, such as paraphrases, are not independent: each group counts as one sample.

    Args:
        values: ``[n]``.
        groups: rows of each group.

    Example:
        >>> group_means(np.array([1.0, 3.0, 7.0]), [[0, 1]]).tolist()
        [2.0, 7.0]
    """
    array = np.asarray(values, np.float64)
    alone = np.setdiff1d(np.arange(len(array)), [row for group in groups for row in group])
    return np.concatenate([[array[list(group)].mean() for group in groups], array[alone]])


def compare_pairs(
    values: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
) -> tuple[PairedComparison, ...]:
    """Compares a model with its base under several names, with p corrected over all of them.

    Args:
        values: for each name ``[n]`` values of the model and ``[n]`` of its base.
    """
    compared = [_compared(name, *pair) for name, pair in values.items()]
    tested = [i for i, one in enumerate(compared) if one.p == one.p]  # p is NaN if n is 0
    for i, p in zip(tested, holm([compared[i].p for i in tested]), strict=True):
        compared[i] = dataclasses.replace(compared[i], p=float(p))
    return tuple(compared)


def _compared(name: str, model: NDArray[Any], base: NDArray[Any]) -> PairedComparison:
    ours, theirs = np.asarray(model, np.float64), np.asarray(base, np.float64)
    test = paired_test(ours, theirs)
    intervals = bootstrap(ours), bootstrap(theirs), bootstrap(ours - theirs)
    return PairedComparison(name, *intervals, test.n, float(test.p_value))
