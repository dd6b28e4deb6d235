"""Exact search by Euclidean distance, from a search by inner product of augmented vectors.

The inner product of a query and of a stored vector is ``(|q|^2 - |q - x|^2) / 2`` up to rounding,
which is too coarse for near neighbors. So candidates are ranked by their distances, computed as
such, and a bound of all rounding errors says whether a document that is no candidate could be
closer. Where one could be, the query is searched again for all documents within that distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .metrics import LANES, squared_lengths
from .range_search import Hits, all_hits, find_hits
from .running_search import RunningSearch
from .segment import Segment
from .segment_list import locate

# Candidates beyond k, so that most queries need no second search.
_MORE = 16
# Candidates whose distances are computed at once; 64 MB at 1,024 dimensions.
_AT_ONCE = 1 << 13
_ROUNDING, _SMALLEST = 2.0**-24, 2.0**-148


class _Bounds(NamedTuple):
    """Numbers of each query from which errors are bounded, all fp64.

    Attributes:
        squared: ``[n]`` squared lengths of the queries.
        error: ``[n]`` bound of the fp64 errors of an inner product and of the squared lengths.
    """

    squared: NDArray[np.float64]
    error: NDArray[np.float64]

    def of_rows(self, rows: NDArray[np.int64]) -> _Bounds:
        """Returns the numbers of some of the queries."""
        return _Bounds(self.squared[rows], self.error[rows])

    def farther_than(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns a lower bound of the squared distance of documents with at most these scores."""
        values = scores.astype(np.float64)
        with np.errstate(invalid="ignore"):  # NaN for a score of -inf, which bounds nothing
            return self.squared - 2 * (values + self.slack(values))

    def at_least(self, distances: NDArray[np.float64]) -> NDArray[np.float32]:
        """Returns scores that all documents within these squared distances reach."""
        values = (self.squared - _rounded_up(distances)) / 2
        lowest = (values - 2 * self.slack(values)).astype(np.float32)
        return np.nextafter(lowest, np.float32(-np.inf))

    def slack(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns a bound of the error of scores: one rounding to fp32 and the errors in fp64."""
        return 2 * _ROUNDING * np.abs(scores) + _SMALLEST + self.error


@dataclass(frozen=True)
class EuclideanSearch:
    """A search by distance over the segments of an index with ``metric="l2"``.

    Args:
        search: a running search of augmented queries, not begun, with filters of documents alone.
        segments: augmented documents.
        dim: of the vectors before they were augmented.
    """

    search: RunningSearch
    segments: Sequence[Segment]
    dim: int

    def nearest(self, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Finds the k nearest documents of every query.

        Returns:
            Minus squared distances ``[n, k]`` and ids ``[n, k]``, padded with -inf and -1.
        """
        n = len(self.search.queries)
        rows = self.search.searched_queries()
        first = self.search.restarted(rows, k + _MORE)
        for segment in self.segments:
            segment.fold_into(first)
        found = first.ids >= 0
        queries = rows[np.nonzero(found)[0]]
        hits = Hits(queries, self._scores(queries, first.ids[found]), first.ids[found])
        scores, ids = _best(hits, n, k)
        reached = -scores[:, -1].astype(np.float64)
        bounds = self._bounds()
        others = bounds.of_rows(rows).farther_than(first.scores[:, -1])
        # Without padding among the candidates, there may be documents that are none.
        again = rows[found[:, -1] & ~(others > _rounded_up(reached[rows]))]
        if len(again):
            hits = self._within(
                again, bounds.of_rows(again).at_least(reached[again]), reached[again]
            )
            best = _best(hits, n, k)
            scores[again], ids[again] = best[0][again], best[1][again]
        return scores, ids

    def within(self, min_score: NDArray[np.float32]) -> Hits:
        """Finds all documents with at least these scores ``[n]``, minus squared distances."""
        rows = self.search.searched_queries()
        distances = -min_score[rows].astype(np.float64)
        return self._within(rows, self._bounds().of_rows(rows).at_least(distances), distances)

    def _within(
        self,
        rows: NDArray[np.int64],
        min_inner_product: NDArray[np.float32],
        squared_distances: NDArray[np.float64],
    ) -> Hits:
        """Finds all documents within squared distances, which reach these inner products."""
        search = self.search.restarted(rows, 1).with_min_score(min_inner_product)
        places, _, ids = all_hits(find_hits(search, self.segments))
        scores = self._scores(rows[places], ids)
        near = -scores.astype(np.float64) <= squared_distances[places]
        return Hits(rows[places][near], scores[near], ids[near])

    def _scores(self, queries: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Computes minus the squared distance of pairs of a query and a document."""
        scores = np.empty(len(ids), np.float32)
        for begin in range(0, len(ids), _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            vectors = np.empty((len(ids[some]), self.dim), np.float32)
            places = locate(self.segments, ids[some], self.search.op)
            for segment, rows in zip(self.segments, places, strict=True):
                here = rows >= 0
                vectors[here] = segment.vectors[rows[here], : self.dim]
            left = self.search.queries[queries[some], : self.dim]
            scores[some] = negative_squared_distances(left, vectors)
        return scores

    def _bounds(self) -> _Bounds:
        squared = squared_lengths(self.search.queries[:, : self.dim])
        longest = max((_longest_squared(s, self.dim) for s in self.segments), default=0.0)
        # A sum of dim / 16 + 4 terms in fp64 and a few roundings beside it, and twice that.
        unit = 2 * (self.dim / LANES + 16) * 2.0**-53
        error = unit * (np.sqrt(squared * longest) + longest + squared) + _SMALLEST
        return _Bounds(squared, error)


def search_nearest(
    running: RunningSearch, segments: Sequence[Segment], dim: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Answers a search by distance.

    Args:
        running: queries, augmented; ``min_score`` of its filters is minus a squared distance.
        segments: documents, augmented.
        dim: of the vectors before they were augmented.

    Returns:
        Minus squared distances and ids ``[n, k]``, padded.
    """
    lowest = running.filters.min_score
    search = EuclideanSearch(running.without_score_filters(), segments, dim)
    scores, ids = search.nearest(running.k)
    if lowest is not None:
        below = scores < lowest[:, None]
        scores[below], ids[below] = -np.inf, -1
    return scores, ids


def hits_within(running: RunningSearch, segments: Sequence[Segment], dim: int) -> Hits:
    """Finds the documents whose scores, minus squared distances, are within the filters.

    Arguments are those of `search_nearest`.
    """
    lowest, highest = running.filters.min_score, running.filters.max_score
    assert lowest is not None  # check_min_score
    search = EuclideanSearch(running.without_score_filters(), segments, dim)
    hits = search.within(lowest)
    if highest is None:
        return hits
    kept = hits.scores <= highest[hits.queries]
    return Hits(hits.queries[kept], hits.scores[kept], hits.ids[kept])


def negative_squared_distances(
    left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Returns ``-sum((left - right)^2)`` of each row, rounded once to fp32.

    Differences and sums are fp64; `squared_lengths` has the order of the sum.
    """
    with np.errstate(over="ignore"):
        distances = squared_lengths(left.astype(np.float64) - right)
        return (-distances).astype(np.float32)


def _rounded_up(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns an upper bound of the exact squared distances behind those rounded to fp32."""
    return distances * (1 + 4 * _ROUNDING) + _SMALLEST


def _longest_squared(segment: Segment, dim: int) -> float:
    """Returns an upper bound of the squared lengths of finite vectors; computed once."""
    if "longest_squared" not in segment.__dict__:
        halves = segment.vectors[:, dim].astype(np.float64)
        longest = -2 * float(halves[np.isfinite(halves)].min(initial=0.0))
        segment.__dict__["longest_squared"] = longest * (1 + 2 * _ROUNDING) + _SMALLEST
    bound: float = segment.__dict__["longest_squared"]
    return bound


def _best(hits: Hits, n: int, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns the k best hits of each of n queries, padded."""
    order = np.lexsort((hits.ids, -hits.scores, hits.queries))
    queries = hits.queries[order]
    places = np.arange(len(order)) - np.searchsorted(queries, queries)
    kept = places < k
    scores, ids = np.full((n, k), -np.inf, np.float32), np.full((n, k), -1, np.int64)
    scores[queries[kept], places[kept]] = hits.scores[order][kept]
    ids[queries[kept], places[kept]] = hits.ids[order][kept]
    return scores, ids
