"""Variance over interventions of the probabilities of all documents, in tiles of documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...retrieval.probability_tiles import (
    NUMBERS_OF_TILE,
    QUERIES_OF_BLOCK,
    probability_tiles,
)

FloatArray = NDArray[np.float64]


class EncodedView(NamedTuple):
    """Queries in one wording and documents in one window."""

    queries: NDArray[np.float32]  # [n, dim]
    chunks: NDArray[np.float32]  # [chunks, dim]
    owners: NDArray[np.int64]  # [chunks], the document of each chunk: rising, and none left out


def probability_variances(
    views: Sequence[EncodedView], temperature: float, selections: Sequence[Sequence[int]]
) -> FloatArray:
    """Computes the variance of probabilities over selected views, summed over documents.

    Each document has the score of its best chunk, in float32, and the softmax over all documents is
    in float64. Documents are scored twice, a tile at a time: once for the sum of the softmax, once
    for the probabilities. So memory depends neither on the number of documents nor of queries.

    Args:
        views: S views of the same n queries and m documents.
        temperature: scores are divided by it.
        selections: places in `views` that each variance is over.

    Returns:
        float64 ``[len(selections), n]``; variances are those of a population.

    Raises:
        ValueError: a score that is not finite.
    """
    n = len(views[0].queries)
    found = np.zeros((len(selections), n))
    for begin in range(0, n, QUERIES_OF_BLOCK):
        rows = slice(begin, begin + QUERIES_OF_BLOCK)
        some = [view._replace(queries=view.queries[rows]) for view in views]
        for probabilities in _tiles(some, temperature):
            for own, places in zip(found[:, rows], selections, strict=True):
                own += probabilities[list(places)].var(0).sum(1)
    return found


def _tiles(views: Sequence[EncodedView], temperature: float) -> Iterator[FloatArray]:
    """Yields probabilities ``[S, n, documents of the tile]``."""
    n, m = len(views[0].queries), int(views[0].owners.max(initial=-1)) + 1
    size = max(1, NUMBERS_OF_TILE // (len(views) * n))

    def score_tiles() -> Iterator[tuple[int, FloatArray]]:
        for begin in range(0, m, size):
            yield begin, _scores(views, begin, begin + size) / temperature

    return (tile for _, tile in probability_tiles(score_tiles))


def _scores(views: Sequence[EncodedView], begin: int, end: int) -> FloatArray:
    """Scores documents `begin` to `end` by their best chunks, ``[S, n, documents]``."""
    found = []
    for queries, chunks, owners in views:
        first, last = np.searchsorted(owners, (begin, end))
        own = queries @ chunks[first:last].T
        starts = np.unique(owners[first:last], return_index=True)[1]
        found.append(own if len(starts) == last - first else np.maximum.reduceat(own, starts, 1))
    return np.stack(found).astype(np.float64)
