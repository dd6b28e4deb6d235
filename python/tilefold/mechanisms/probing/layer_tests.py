"""Tests whether probes of a layer are more accurate on one model than on another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Correct = NDArray[np.bool_]


class Comparison(NamedTuple):
    """Accuracies of a model and of the base, with p-values of two tests of their difference."""

    accuracy: float
    base: float
    t_test: float  # p, two-tailed and unpaired, times the number of comparisons (Bonferroni)
    mcnemar: float  # p, exact and paired, times the same


def compare_with_base(correct: Correct, base: Correct, *, comparisons: int = 1) -> Comparison:
    """Tests whether two models differ in accuracy, by an unpaired and by a paired test.

    The study has the unpaired t-test (`scipy.stats.ttest_ind`), as if samples were different.
    McNemar's test (1947) is of the samples that only one model has right, and has more power.

    Args:
        correct: ``[n]`` whether the model is right.
        base: the same for the base model.
        comparisons: number of comparisons in all, such as layers.

    Raises:
        ValueError: of different lengths.

    Example:
        >>> right = np.ones(40, bool)
        >>> compare_with_base(right, np.arange(40) < 30, comparisons=2).mcnemar < 0.01
        True
    """
    if len(correct) != len(base):
        raise ValueError(
            f"compare_with_base: expected as many answers of both, got {len(correct)} and "
            f"{len(base)}"
        )
    one, other = correct.astype(float), base.astype(float)
    # From moments: scipy.stats.ttest_ind warns where all answers of one are right.
    moments = [part for x in (one, other) for part in (x.mean(), x.std(ddof=1), len(x))]
    p = 1.0 if np.array_equal(one, other) else float(stats.ttest_ind_from_stats(*moments).pvalue)
    alone, lost = int((correct & ~base).sum()), int((base & ~correct).sum())
    exact = 1.0 if alone + lost == 0 else float(stats.binomtest(alone, alone + lost).pvalue)
    bounded = (min(1.0, value * comparisons) for value in (p, exact))
    return Comparison(float(one.mean()), float(other.mean()), *bounded)
