"""Reciprocal rank fusion: merges several rankings of the same documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .running_search import SearchResult

IdArray = NDArray[np.int64]


def fuse(rankings: Sequence[Any], k: int, *, constant: float = 60) -> SearchResult:
    """Merges rankings by reciprocal rank fusion: sums 1 / (constant + rank) per document.

    Scores are not used, so dense and lexical rankings combine without calibration. A ranking adds
    nothing for a document that it lacks. The order of the rankings does not matter.

    Args:
        rankings: arrays of ids ``[n, k_r]``, best first, -1 where there is no result.
        k: answers per query.
        constant: reduces the weight of the first ranks; the paper uses 60.

    Returns:
        `SearchResult` of scores float32 and ids int64, ``[n, k]``: score descending, then id
        ascending; padded with -inf and -1 where the rankings have fewer documents.

    Raises:
        ValueError: k is below 1, or rankings is empty.

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
    found = _sum_by_document(rows, ids[rows, columns], 1 / (constant + ranks[columns]))
    return _top_k(*found, n=len(ids), k=k)


def _sum_by_document(
    rows: NDArray[np.intp], ids: IdArray, parts: NDArray[np.float64]
) -> tuple[NDArray[np.intp], IdArray, NDArray[np.float32]]:
    """Sums the parts of each document: returns rows, ids and sums, ordered by row, then id."""
    # Parts are added in increasing order, so that equal parts have equal sums, hence are ties,
    # whichever ranking they come from.
    order = np.lexsort((parts, ids, rows))
    rows, ids, parts = rows[order], ids[order], parts[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (ids[1:] != ids[:-1])
    starts = np.flatnonzero(first)
    sums = np.add.reduceat(parts, starts) if len(starts) else parts
    return rows[starts], ids[starts], sums.astype(np.float32)


def _top_k(
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
