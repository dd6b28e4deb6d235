"""Reciprocal rank fusion: several rankings of the same documents made into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .running_search import SearchResult

IdArray = NDArray[np.int64]


def fuse(rankings: Sequence[Any], k: int, *, constant: float = 60) -> SearchResult:
    """The k best documents by the sum of 1 / (constant + rank) over the rankings.

    Scores of the rankings are not used, so dense and lexical ones mix without calibration. A
    document that a ranking lacks gets nothing from it. The order of the rankings does not matter.

    Args:
        rankings: arrays of ids, [n, k_r], best first, -1 where there is no result.
        k: answers per query.
        constant: damps the first ranks; 60 is the paper's.

    Returns:
        scores float32 and ids int64, [n, k]: score descending, then id ascending; ending in -inf
        and -1 where the rankings hold fewer documents.

    Source: Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and
    individual Rank Learning Methods", SIGIR 2009.

    >>> fuse([[[3, 7]], [[7, 9]]], k=3).ids
    array([[7, 3, 9]])
    """
    if k < 1 or not rankings:
        raise ValueError(f"fuse: k must be at least 1 and rankings not empty, got k={k}")
    ids = np.concatenate([np.asarray(ranking, np.int64) for ranking in rankings], axis=1)
    ranks = np.concatenate([np.arange(1, np.shape(ranking)[1] + 1) for ranking in rankings])
    rows, columns = np.nonzero(ids >= 0)
    found = _add_up(rows, ids[rows, columns], 1 / (constant + ranks[columns]))
    return _take(*found, n=len(ids), k=k)


def _add_up(
    rows: NDArray[np.intp], ids: IdArray, parts: NDArray[np.float64]
) -> tuple[NDArray[np.intp], IdArray, NDArray[np.float32]]:
    """(row, id, sum of parts), once for every row and id, in that order."""
    # The parts of a document are added in increasing order: equal parts give equal sums, and so
    # ties, whichever ranking they come from.
    order = np.lexsort((parts, ids, rows))
    rows, ids, parts = rows[order], ids[order], parts[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (ids[1:] != ids[:-1])
    starts = np.flatnonzero(first)
    sums = np.add.reduceat(parts, starts) if len(starts) else parts
    return rows[starts], ids[starts], sums.astype(np.float32)


def _take(
    rows: NDArray[np.intp], ids: IdArray, sums: NDArray[np.float32], *, n: int, k: int
) -> SearchResult:
    order = np.lexsort((ids, -sums, rows))
    rows, ids, sums = rows[order], ids[order], sums[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)  # within its row
    kept = place < k
    scores = np.full((n, k), -np.inf, np.float32)
    best = np.full((n, k), -1, np.int64)
    scores[rows[kept], place[kept]] = sums[kept]
    best[rows[kept], place[kept]] = ids[kept]
    return SearchResult(scores, best)
