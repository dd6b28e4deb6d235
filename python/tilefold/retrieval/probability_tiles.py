"""Probabilities of documents by a softmax over all of them, in tiles of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
QUERIES_OF_BLOCK = 1024  # every tile of documents is read once for each block
NUMBERS_OF_TILE = 1 << 22  # of all views: 32 MiB


def probability_tiles(
    score_tiles: Callable[[], Iterable[tuple[int, FloatArray]]],
) -> Iterator[tuple[int, FloatArray]]:
    """Yields the softmax over all documents, a tile of documents at a time.

    Documents are scored twice: once for the sum of the softmax, once for the probabilities. So
    memory does not depend on their number.

    Args:
        score_tiles: begins a pass over all documents, as pairs of the first document of a tile and
            float64 scores ``[..., documents of the tile]``, divided by a temperature.

    Yields:
        The first document of a tile, and probabilities in the shape of its scores.

    Raises:
        ValueError: a score that is not finite.

    Example:
        >>> tiles = [(0, np.log([[1.0, 2.0]])), (2, np.log([[1.0]]))]
        >>> [(begin, tile.round(2).tolist()) for begin, tile in probability_tiles(lambda: tiles)]
        [(0, [[0.25, 0.5]]), (2, [[0.25]])]
    """
    totals: FloatArray | None = None
    for _, scores in score_tiles():
        if not np.isfinite(scores).all():
            raise ValueError("scores of documents must be finite; embeddings have NaN or infinity")
        sums = _log_sums(scores)
        totals = sums if totals is None else np.logaddexp(totals, sums)
    if totals is not None:
        for begin, scores in score_tiles():
            yield begin, np.exp(scores - totals)


def _log_sums(scores: FloatArray) -> FloatArray:
    """Computes the logsumexp of the last axis, which stays as one of length 1."""
    largest = scores.max(-1, keepdims=True)
    sums: FloatArray = largest + np.log(np.exp(scores - largest).sum(-1, keepdims=True))
    return sums
