"""Measures how far the positives of two annotators overlap (AAR, eq. 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate import Interval, bootstrap
from ...ragged_lists import ListsLike
from .candidate_lists import SameTexts, as_document_lists, n_queries

_OP = "preference_overlap"


def preference_overlap(
    one: ListsLike, other: ListsLike, *, groups: Any = None
) -> NDArray[np.float64]:
    """Computes the overlap of two sets of positives for each query.

    ``O = |intersection(D_1, D_2)| / |union(D_1, D_2)|``, the Jaccard index. `bootstrap` of
    `tilefold.evaluate` gives the mean over queries and its interval, `paired_test` compares two.

    Args:
        one, other: documents of n queries: those that a source LM prefers, or those of people.
        groups: ``[m]`` integers, equal for documents with equal title and text, which count as one;
            None if no two documents are equal.

    Returns:
        ``[n]`` float64 from 0 to 1; NaN where both sets are empty.

    Raises:
        TypeError: no lists of integers.
        ValueError: lists of different numbers of queries, or documents that groups lacks.

    Source: Yu et al., ACL 2023, eq. (8); figure 6 shows it for language models and people.

    Example:
        >>> preference_overlap([[4, 7], [1]], [[7, 9], [1]]).round(3)
        array([0.333, 1.   ])
    """
    n = n_queries(one, _OP, "one")
    lists = [
        as_document_lists(some, _OP, name, n, groups)
        for name, some in (("one", one), ("other", other))
    ]
    same = SameTexts(_OP, groups, *(some.indices for some in lists))
    keys = [np.unique(same.keys(some)) for some in lists]
    both = np.intersect1d(keys[0], keys[1], assume_unique=True)
    first, second, common = (
        np.bincount(some // same.m, minlength=n).astype(np.float64) for some in (*keys, both)
    )
    union = first + second - common
    overlaps: NDArray[np.float64] = np.full(n, np.nan)
    np.divide(common, union, out=overlaps, where=union > 0)
    return overlaps


@dataclass(frozen=True)
class OverlapMatrix:
    """Mean overlaps between annotators, with intervals.

    Attributes:
        names: of the annotators.
        means: ``[a, a]`` float64, symmetric; 1 on the diagonal.
        low, high: ``[a, a]`` float64, bounds of the intervals.
        n_queries: ``[a, a]`` int64, queries for which one of the two has a positive.
    """

    names: tuple[str, ...]
    means: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_queries: NDArray[np.int64]

    def between(self, one: str, other: str) -> Interval:
        """Returns the mean overlap of two annotators and its interval.

        Raises:
            ValueError: an unknown name.
        """
        for name in (one, other):
            if name not in self.names:
                raise ValueError(f"OverlapMatrix: expected one of {self.names}, got {name!r}")
        place = self.names.index(one), self.names.index(other)
        return Interval(*(float(part[place]) for part in (self.means, self.low, self.high)))


def overlap_matrix(
    annotators: Mapping[str, ListsLike],
    *,
    groups: Any = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> OverlapMatrix:
    """Computes the mean overlap of every two annotators, with bootstrap intervals over queries.

    Args:
        annotators: documents of the same n queries by name: what each language model prefers
            (`preferred_passages`), and the positives of people under a name of their own.
        groups: as of `preference_overlap`.
        confidence, resamples, seed: of `tilefold.evaluate.bootstrap`.

    Raises:
        ValueError: fewer than two annotators, or lists of different numbers of queries.

    Example:
        >>> lists = {"human": [[4]], "t5": [[4, 7]]}
        >>> overlap_matrix(lists).between("human", "t5")
        Interval(mean=0.5, low=0.5, high=0.5)
    """
    names = tuple(annotators)
    if len(names) < 2:
        raise ValueError(f"overlap_matrix: expected two annotators or more, got {list(names)}")
    n = n_queries(annotators[names[0]], "overlap_matrix", f"annotators[{names[0]!r}]")
    for name in names:
        argument = f"annotators[{name!r}]"
        as_document_lists(annotators[name], "overlap_matrix", argument, n, groups)
    shape = (len(names), len(names))
    means, low, high = (np.full(shape, np.nan) for _ in range(3))
    counts = np.zeros(shape, np.int64)
    for i, one in enumerate(names):
        for j, other in enumerate(names[: i + 1]):
            values = preference_overlap(annotators[one], annotators[other], groups=groups)
            found = bootstrap(values, confidence=confidence, resamples=resamples, seed=seed)
            for row, column in ((i, j), (j, i)):
                means[row, column], low[row, column], high[row, column] = found
                counts[row, column] = int((~np.isnan(values)).sum())
    return OverlapMatrix(names, means, low, high, counts)
