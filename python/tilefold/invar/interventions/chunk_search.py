"""Scores documents by their best chunk, so that all windows share one space of document ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...arrays import Vectors
from ...integers import as_integer
from ...retrieval.exact_search import search

_CHUNKS_PER_DOCUMENT = 2  # searched at first; neighbouring chunks are often near each other


def search_chunks(
    queries: Vectors, chunks: Vectors, owners: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Searches documents by the largest score of their chunks, exactly.

    Chunks are searched in the order of their documents, so that equal scores are ordered by
    document, too. The first chunks of a ranking then show the first documents, and more chunks are
    searched only where these are fewer than k. At most (k - 1) c + 1 are needed, with c chunks of
    the longest document, as only chunks of better documents precede the best one of the k-th.

    Args:
        queries: ``[n, dim]``.
        chunks: ``[chunks, dim]``.
        owners: the document of each chunk, from 0, in any order.
        k: documents of a query.

    Returns:
        Scores ``[n, k]`` and documents ``[n, k]``, best first; of equal scores the lower document
        first. -inf and -1 beyond the last document.

    Raises:
        TypeError: k is no integer.
        ValueError: another number of owners, a negative one, k below 1.

    Example:
        >>> chunks = np.eye(3, dtype=np.float32)
        >>> search_chunks(chunks[2:], chunks, np.array([0, 1, 1]), k=2)[1]
        array([[1, 0]])
    """
    owners = _checked_owners("search_chunks", owners, len(chunks))
    k = as_integer(k, "search_chunks", "k", at_least=1)
    if (np.diff(owners) < 0).any():
        order = np.argsort(owners, kind="stable")
        owners, chunks = owners[order], chunks[order]
    scores = np.full((len(queries), k), -np.inf, np.float32)
    documents = np.full((len(queries), k), -1, np.int64)
    most = int(np.bincount(owners).max()) if len(owners) else 0
    enough = min((k - 1) * most + 1, len(owners))
    depth = min(_CHUNKS_PER_DOCUMENT * k, enough)
    rows = np.arange(len(queries) if depth else 0)
    while len(rows):
        found = search(queries[rows], chunks, depth)
        short = []
        for row, own, places in zip(rows.tolist(), found.scores, found.ids, strict=True):
            # The first place of each document, in the order of places.
            first = np.sort(np.unique(owners[places], return_index=True)[1])[:k]
            scores[row, : len(first)] = own[first]
            documents[row, : len(first)] = owners[places[first]]
            short += [row] * (len(first) < k)
        if depth == enough:
            break
        rows = np.array(short, np.int64)
        depth = min(2 * depth, enough)
    return scores, documents


def listed_scores(
    queries: NDArray[Any], chunks: NDArray[Any], owners: NDArray[np.int64], documents: Any
) -> NDArray[np.float32]:
    """Computes scores of the documents listed for each query by their best chunk.

    Inner products are computed in fp64 and rounded to fp32.

    Args:
        queries: ``[n, dim]``.
        chunks: ``[chunks, dim]``.
        owners: the document of each chunk, from 0.
        documents: ``[n, k]`` int64, -1 for none.

    Returns:
        ``[n, k]``; -inf for no document, and for a document without a chunk.

    Raises:
        ValueError: another number of owners, or of rows of documents; a number below -1.

    Example:
        >>> chunks = np.eye(3, dtype=np.float32)
        >>> listed_scores(chunks[2:], chunks, np.array([0, 1, 1]), [[1, 0, -1]])
        array([[  1.,   0., -inf]], dtype=float32)
    """
    owners = _checked_owners("listed_scores", owners, len(chunks))
    listed = np.asarray(documents)
    if listed.ndim != 2 or listed.dtype.kind not in "iu" or len(listed) != len(queries):
        raise ValueError(
            f"listed_scores: documents must be integers [{len(queries)}, k], got {listed.dtype} "
            f"{listed.shape}"
        )
    if listed.size and listed.min() < -1:
        raise ValueError(f"listed_scores: documents must be -1 or more, got {listed.min()}")
    order = np.argsort(owners, kind="stable")
    ordered = owners[order]
    first, last = (np.searchsorted(ordered, listed, side) for side in ("left", "right"))
    scores = np.full(listed.shape, -np.inf, np.float32)
    for row, query in enumerate(np.asarray(queries, np.float64)):
        counts = np.where(listed[row] >= 0, last[row] - first[row], 0)
        there = np.flatnonzero(counts)
        if not len(there):
            continue
        places = [np.arange(first[row, at], last[row, at]) for at in there]
        own = chunks[order[np.concatenate(places)]].astype(np.float64) @ query
        starts = np.cumsum(counts[there]) - counts[there]
        scores[row, there] = np.maximum.reduceat(own, starts).astype(np.float32)
    return scores


def search_listed(
    queries: NDArray[Any], chunks: NDArray[Any], owners: NDArray[np.int64], documents: Any, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Ranks the documents listed for each query, as `search_chunks` ranks all.

    Scores are those of `listed_scores`.

    Args:
        queries: ``[n, dim]``.
        chunks: ``[chunks, dim]``.
        owners: the document of each chunk, from 0.
        documents: ``[n, c]`` int64, in any order, -1 for none; one listed twice counts once.
        k: documents of a ranking.

    Returns:
        Scores ``[n, k]`` and documents ``[n, k]``, best first; of equal scores the lower document
        first. -inf and -1 beyond the last document.

    Raises:
        ValueError: as `listed_scores`.

    Example:
        >>> chunks = np.eye(3, dtype=np.float32)
        >>> search_listed(chunks[2:], chunks, np.array([0, 1, 1]), [[0, 1, 0]], k=3)[1]
        array([[ 1,  0, -1]])
    """
    listed = np.sort(np.asarray(documents), axis=1)
    if listed.shape[1]:
        listed[:, 1:][listed[:, 1:] == listed[:, :-1]] = -1
    found = listed_scores(queries, chunks, owners, listed)
    # Ids ascend but for repeated ones, which have no score: a stable sort orders equal scores.
    best = np.argsort(-found, axis=1, kind="stable")[:, :k]
    scores = np.full((len(listed), k), -np.inf, np.float32)
    ids = np.full((len(listed), k), -1, np.int64)
    scores[:, : best.shape[1]] = np.take_along_axis(found, best, 1)
    ids[:, : best.shape[1]] = np.take_along_axis(listed, best, 1)
    ids[scores == -np.inf] = -1
    return scores, ids


def _checked_owners(op: str, owners: Any, n_chunks: int) -> NDArray[np.int64]:
    found = np.asarray(owners)
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) != n_chunks:
        raise ValueError(
            f"{op}: expected {n_chunks} owners, one integer for each chunk, got {found.dtype} "
            f"{found.shape}"
        )
    if n_chunks and found.min() < 0:
        raise ValueError(f"{op}: owners must be 0 or more, got {found.min()}")
    return found.astype(np.int64, copy=False)
