"""The result of mining: negatives of every query, their scores, and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ragged_lists import Integers, Lists

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Mined:
    """Negatives of n queries.

    Attributes:
        negatives: rows of documents, the hardest of each query first.
        scores: ``[negatives]`` float32, of each of them.
        n_negatives: number requested for each query.
        positive_scores: ``[positives]`` float32, in the order in which positives were given; None
            from BM25, which scores only what it finds.
        removed: how many documents within the rank window each option rejected; one that several
            options reject counts for each. Documents that a search never returns are not counted:
            without `range_max`, those outside the score window.
    """

    negatives: Lists
    scores: Scores
    n_negatives: int
    positive_scores: Scores | None = None
    removed: Mapping[str, int] = field(default_factory=dict)

    @property
    def short(self) -> Integers:
        """Returns the rows of the queries with fewer than `n_negatives`.

        >>> Mined(Lists(np.array([0, 2, 3]), np.array([7, 4, 5])), np.float32([3, 2, 4]), 2).short
        array([1])
        """
        return np.flatnonzero(np.diff(self.negatives.offsets) < self.n_negatives)


def listed(ids: NDArray[np.int64]) -> Lists:
    """Converts a matrix ``[n, k]`` padded with -1 into lists."""
    there = ids >= 0
    return Lists(np.concatenate([[0], np.cumsum(there.sum(axis=1))]), ids[there])


def joined(parts: Sequence[Lists]) -> Lists:
    """Concatenates the lists of all parts, one part's queries after another's."""
    counts = [np.zeros(1, np.int64), *(np.diff(part.offsets) for part in parts)]
    indices = [np.empty(0, np.int64), *(part.indices for part in parts)]
    return Lists(np.cumsum(np.concatenate(counts)), np.concatenate(indices))


def part(lists: Lists, begin: int, end: int) -> Lists:
    """Returns the lists of queries [begin, end)."""
    offsets = lists.offsets[begin : end + 1]
    return Lists(offsets - offsets[0], lists.indices[offsets[0] : offsets[-1]])
