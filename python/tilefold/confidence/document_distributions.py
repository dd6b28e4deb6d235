"""Distributions of queries over all documents, in tiles of documents and blocks of queries.

Scores are products in float32, softmaxes are in float64: see `probability_tiles`. Memory depends
neither on the number of documents nor of queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, xlogy

from ..ragged_lists import Lists
from ..retrieval.probability_tiles import (
    NUMBERS_OF_TILE,
    QUERIES_OF_BLOCK,
    probability_tiles,
)

FloatArray = NDArray[np.float64]


class View(NamedTuple):
    """Queries as one encoder reads them, with the documents of that encoder."""

    queries: NDArray[np.float32]  # [n, dim]
    documents: NDArray[np.float32]  # [m, dim]
    temperature: float  # scores are divided by it


class MeanDistribution(NamedTuple):
    """The mean over S views of the distributions of n queries over documents."""

    top_probability: FloatArray  # [n], the largest probability of the mean
    top_document: NDArray[np.int64]  # [n], the document that has it, the first of equal ones
    entropy: FloatArray  # [n], of the mean, in nats
    expected_entropy: FloatArray  # [n], the mean entropy of a view
    disagreement: FloatArray  # [n], the share of views with another first document than most have

    @property
    def mutual_information(self) -> FloatArray:
        """``[n]`` mutual information of document and view, in nats: 0 where all views agree.

        Source: Houlsby et al., Bayesian Active Learning for Classification (2011), eq. 2.
        """
        return np.maximum(self.entropy - self.expected_entropy, 0.0)


def mean_distribution(views: Sequence[View]) -> MeanDistribution:
    """Summarises the mean over views of softmax distributions over all documents.

    Args:
        views: S views of the same n queries and m documents, m of 1 or more.

    Returns:
        The largest probability of the mean distribution, and entropies. The disagreement is the
        variation ratio: one minus the share of views with the most frequent first document.

    Raises:
        ValueError: a score that is not finite.

    Example:
        >>> one, other = np.float32([[2, 0]]), np.float32([[0, 2]])
        >>> documents = np.eye(2, dtype=np.float32)
        >>> found = mean_distribution([View(one, documents, 1.0), View(other, documents, 1.0)])
        >>> found.top_probability, found.disagreement
        (array([0.5]), array([0.5]))
    """
    parts = [_mean_distribution(some) for some in _blocks(views)]
    if not parts:
        nothing = np.zeros(0)
        return MeanDistribution(nothing, np.zeros(0, np.int64), nothing, nothing, nothing)
    return MeanDistribution(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def probability_variances(views: Sequence[View]) -> FloatArray:
    """Computes the variance over views of the probability of a document, summed over documents.

    Args:
        views: S views of the same n queries and m documents.

    Returns:
        float64 ``[n]``; the variance is that of a population, 0 where all views agree.

    Raises:
        ValueError: a score that is not finite.
    """
    found = [
        sum((tile.var(0).sum(1) for _, tile in _tiles(some)), np.zeros(len(some[0].queries)))
        for some in _blocks(views)
    ]
    return np.concatenate([np.zeros(0), *found])


def probability_blocks(view: View) -> Iterator[tuple[slice, FloatArray]]:
    """Yields rows of queries and their probabilities of all documents, ``[rows, m]``.

    A block has one query or more, and else as many as fit into 32 MiB.

    Raises:
        ValueError: a score that is not finite.
    """
    size = max(1, NUMBERS_OF_TILE // max(1, len(view.documents)))
    for begin in range(0, len(view.queries), size):
        rows = slice(begin, begin + size)
        scores = _finite(view.queries[rows] @ view.documents.T) / view.temperature
        yield rows, np.exp(scores - logsumexp(scores, axis=1, keepdims=True))


def log_likelihoods(
    view: View, relevant: Lists, temperatures: Sequence[float] | FloatArray
) -> FloatArray:
    """Computes the log of the summed probability of relevant documents at several temperatures.

    Args:
        view: queries and documents; its own temperature is not read.
        relevant: documents of each query, one or more.
        temperatures: G of them.

    Returns:
        float64 ``[G, n]``, 0 or less.

    Raises:
        ValueError: a score that is not finite.
    """
    found = [np.zeros((len(temperatures), 0))]
    for begin in range(0, len(view.queries), QUERIES_OF_BLOCK):
        queries = view.queries[begin : begin + QUERIES_OF_BLOCK]
        offsets = relevant.offsets[begin : begin + QUERIES_OF_BLOCK + 1]
        own = Lists(offsets - offsets[0], relevant.indices[offsets[0] : offsets[-1]])
        found.append(_log_likelihoods(View(queries, view.documents, 1.0), own, temperatures))
    return np.concatenate(found, axis=1)


def _blocks(views: Sequence[View]) -> Iterator[Sequence[View]]:
    for begin in range(0, len(views[0].queries), QUERIES_OF_BLOCK):
        rows = slice(begin, begin + QUERIES_OF_BLOCK)
        yield [view._replace(queries=view.queries[rows]) for view in views]


def _mean_distribution(views: Sequence[View]) -> MeanDistribution:
    n, every = len(views[0].queries), np.arange(len(views[0].queries))
    top, first = np.full(n, -np.inf), np.zeros(n, np.int64)
    tops, firsts = np.full((len(views), n), -np.inf), np.zeros((len(views), n), np.int64)
    entropy, expected = np.zeros(n), np.zeros(n)
    for begin, tile in _tiles(views):
        mean = tile.mean(0)
        for best, place, own in ((top, first, mean), *zip(tops, firsts, tile, strict=True)):
            largest = own.argmax(1)
            better = own[every, largest] > best  # the first of equal ones stays
            place[better] = begin + largest[better]
            best[better] = own[every, largest][better]
        entropy -= xlogy(mean, mean).sum(1)
        expected -= xlogy(tile, tile).sum((0, 2)) / len(views)
    counts = (firsts[:, None] == firsts[None]).sum(0).max(0)
    return MeanDistribution(top, first, entropy, expected, 1 - counts / len(views))


def _log_likelihoods(
    view: View, relevant: Lists, temperatures: Sequence[float] | FloatArray
) -> FloatArray:
    totals = np.full((len(temperatures), len(view.queries)), -np.inf)
    # Scores of relevant documents come from the same products, so that no rounding makes them
    # larger than the sum of all.
    owners, picked = relevant.owners(), np.empty(len(relevant.indices))
    for begin, (scores,) in _scores([view]):
        for total, each in zip(totals, temperatures, strict=True):
            np.logaddexp(total, logsumexp(scores / each, axis=1), out=total)
        places = relevant.indices - begin
        here = (places >= 0) & (places < scores.shape[1])
        picked[here] = scores[owners[here], places[here]]
    sums = [np.logaddexp.reduceat(picked / each, relevant.offsets[:-1]) for each in temperatures]
    found: FloatArray = np.stack(sums) - totals
    return found


def _tiles(views: Sequence[View]) -> Iterator[tuple[int, FloatArray]]:
    """Yields the first document of a tile, and probabilities ``[S, n, documents of the tile]``."""
    return probability_tiles(lambda: _scores(views))


def _scores(views: Sequence[View]) -> Iterator[tuple[int, FloatArray]]:
    """Yields scores over temperatures, ``[S, n, documents of the tile]``."""
    n, m = len(views[0].queries), len(views[0].documents)
    size = max(1, NUMBERS_OF_TILE // (len(views) * n))
    for begin in range(0, m, size):
        tile = np.empty((len(views), n, min(size, m - begin)))
        for own, view in zip(tile, views, strict=True):
            own[:] = view.queries @ view.documents[begin : begin + size].T
            own /= view.temperature
        yield begin, _finite(tile)


def _finite(scores: NDArray[np.floating]) -> FloatArray:
    if not np.isfinite(scores).all():
        raise ValueError("scores of documents must be finite; embeddings have NaN or infinity")
    return scores.astype(np.float64, copy=False)
