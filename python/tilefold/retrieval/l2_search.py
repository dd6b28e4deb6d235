"""Exact search by L2 distance: inner products of longer vectors filter, distances decide.

With ``s = <q, x> - |x|^2 / 2``, the squared distance is ``|q|^2 - 2 s``. An index therefore stores
``(x, -|x|^2 / 2 * 2^-e)``, queries become ``(q, 2^e)``, and the canonical score of the two is `s`
but for its rounding. That may be far more than a small distance, so `s` decides nothing: it finds a
few documents more than k, whose distances are computed directly. The k-th of these distances, and a
bound of the rounding, give the lowest score that a document at least as near can have. Where scores
that low were left out, a range search finds the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Vectors, as_queries, check_dim, kind_of, widened
from ..integers import as_integer
from .document_fold import finite_rows, nonfinite_error
from .filters import Filters
from .metric import sort_keys, squared_distances, squared_norms
from .running_range import CertifiedRangeResult, RangeResult, RunningRange
from .running_search import (
    Certificate,
    CertifiedResult,
    RunningSearch,
    SearchResult,
    checked_k,
)
from .search_options import SearchOptions
from .segment import Segment, gathered, make_segment
from .segment_list import locate

# Squared norms below this have squared distances of at most 2^126, which fit in float32.
_MAX_SQUARED_NORM = 2.0**124
_MAX_EXPONENT = 60
# Documents beyond k that the first search takes, so that a second one is rare.
_SPARE = 16
# Queries of one range search. With few, many documents at one distance do not fill the memory.
_TIED_QUERIES = 16
_RANGE_QUERIES = 4096
# What is lost at most where subnormal numbers are rounded, or flushed to zero.
_FLUSHED = 2.0**-123
_GATHERED_BYTES = 32 << 20


def chosen_exponent(vectors: Vectors) -> int:
    """Chooses e such that the last column of stored vectors is about as large as their norms.

    Any e gives the same answers; this one makes the filter narrow.
    """
    norms = np.sqrt(squared_norms(vectors[:1024]))
    norms = norms[np.isfinite(norms) & (norms > 0)]
    if not len(norms):
        return 0
    return int(np.clip(np.rint(np.log2(np.median(norms))), -_MAX_EXPONENT, _MAX_EXPONENT))


def checked_exponent(value: Any) -> int | None:
    """Checks the exponent that a saved index has."""
    if value is None:
        return None
    number = as_integer(value, "load", "exponent")
    if abs(number) > _MAX_EXPONENT:
        raise ValueError(f"exponent must be -{_MAX_EXPONENT} to {_MAX_EXPONENT}, got {number}")
    return number


def augmented(vectors: Vectors, exponent: int) -> NDArray[np.float32]:
    """Returns documents ``[rows, dim + 1]`` as an index stores them."""
    column = -squared_norms(vectors) / 2 * 2.0**-exponent
    # A larger score than the true one only makes a document a candidate. NaN stays NaN.
    column = np.maximum(column, np.finfo(np.float32).min)
    return np.concatenate([widened(vectors), column.astype(np.float32)[:, None]], axis=1)


def check_norms(vectors: Vectors, op: str, name: str) -> None:
    """Raises for a finite row whose distances might not fit in float32."""
    norms = squared_norms(vectors)
    large = (norms >= _MAX_SQUARED_NORM) & finite_rows(vectors)
    if large.any():
        raise ValueError(
            f"{op}: row {np.argmax(large)} of {name} has a norm of 2^62 or more, whose squared "
            'distances do not fit in float32; metric="l2" takes smaller ones'
        )


class L2Search:
    """One search of an index with metric "l2".

    Args:
        segments: documents as `augmented` returns them.
        exponent: that of the documents.
        dim: dimensions of the vectors.
        queries: ``[n, dim]``, or ``[dim]`` for a single one.
        options: checked options.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        exponent: int,
        dim: int,
        queries: Array,
        options: SearchOptions,
    ) -> None:
        self._op, self._segments, self._options = options.op, segments, options
        if options.min_score is not None:
            raise ValueError(
                f'{self._op}: metric="l2" takes max_score, the largest squared distance; '
                "min_score is not possible"
            )
        rows, self._single = as_queries(queries, self._op)
        check_dim(self._op, "queries", rows.shape[1], "documents have", dim)
        check_norms(rows, self._op, "queries")
        self._kind = kind_of(queries)
        self._dim, self._exponent = dim, exponent
        self._vectors = widened(rows)
        power = np.full((len(rows), 1), 2.0**exponent, np.float32)
        self._augmented = np.concatenate([self._vectors, power], axis=1)
        self._filters = options.filters(len(rows))
        self._limit = self._filters.max_score
        self._total = sum(len(segment.ids) for segment in segments)

    def nearest(self, k: int) -> SearchResult | CertifiedResult:
        """Returns the k nearest documents of each query."""
        n = len(self._vectors)
        limit = np.full(n, np.inf, np.float32) if self._limit is None else self._limit
        certain = self._lowest_scores(np.arange(n), limit)
        k = checked_k(k, self._op)
        options = replace(self._options, min_score=certain, max_score=None, return_certificate=True)
        running = RunningSearch(self._augmented, k + _SPARE, options, total=self._total)
        for segment in self._segments:
            segment.fold_into(running)
        found = running.result()
        assert isinstance(found, CertifiedResult)
        refined, bound = found.certificate.refined, found.certificate.bound
        distances, ids = self._sorted(found.ids, limit)
        # The k-th distance, or the limit where fewer than k documents are within it.
        reach = np.minimum(distances[:, k - 1], limit)
        lowest = np.maximum(self._lowest_scores(np.arange(n), reach), certain)
        truncated = found.ids[:, -1] >= 0
        lowest = np.where(truncated, lowest, certain)
        distances, ids = distances[:, :k].copy(), ids[:, :k].copy()
        pending = np.flatnonzero(truncated & (found.scores[:, -1] >= lowest))
        for group, hits in self._ranges(pending, lowest, limit, _TIED_QUERIES):
            for place, query in enumerate(group):
                own = slice(
                    hits.offsets[place], min(hits.offsets[place + 1], hits.offsets[place] + k)
                )
                count = own.stop - own.start
                distances[query, :count], ids[query, :count] = hits.scores[own], hits.ids[own]
            refined[group] += hits.certificate.refined
            bound[group] = hits.certificate.bound
        scores, names = (self._kind(a[0] if self._single else a) for a in (distances, ids))
        if not self._options.return_certificate:
            return SearchResult(scores, names)
        certificate = replace(found.certificate, threshold=lowest, refined=refined, bound=bound)
        return CertifiedResult(scores, names, certificate)

    def within(self) -> RangeResult | CertifiedRangeResult:
        """Returns every document within the options' max_score of each query."""
        if self._limit is None:
            raise TypeError(
                f'{self._op}: max_score must be the largest squared distance for metric="l2", '
                "got None"
            )
        n = len(self._vectors)
        lowest = self._lowest_scores(np.arange(n), self._limit)
        parts = [
            hits for _, hits in self._ranges(np.arange(n), lowest, self._limit, _RANGE_QUERIES)
        ]
        counts = np.concatenate([np.zeros(1, np.int64), *(np.diff(p.offsets) for p in parts)])
        arrays = (
            np.cumsum(counts),
            np.concatenate([np.empty(0, np.float32), *(p.scores for p in parts)]),
            np.concatenate([np.empty(0, np.int64), *(p.ids for p in parts)]),
        )
        offsets, distances, ids = (self._kind(array) for array in arrays)
        if not self._options.return_certificate:
            return RangeResult(offsets, distances, ids)
        proofs = [p.certificate for p in parts]
        certificate = Certificate(
            np.concatenate([np.empty(0, np.int64), *(p.refined for p in proofs)]),
            lowest,
            np.concatenate([np.empty(0, np.float32), *(p.bound for p in proofs)]),
            sum(p.nonfinite_queries for p in proofs),
            max((p.nonfinite_documents for p in proofs), default=0),
        )
        return CertifiedRangeResult(offsets, distances, ids, certificate)

    def _lowest_scores(
        self, queries: NDArray[np.int64], distances: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Computes the lowest score that a document within a squared distance can have.

        With r the distance, such a document has ``|x| <= |q| + r = b``, and every term of its score
        is at most ``m = |q| b + b^2``. Rounding the last column and the score to fp32 takes at most
        ``2^-24 m`` each, the sums in fp64 ``dim 2^-52 m``, and what underflows in the last column
        ``2^(e - 126)``. The constants below are at least twice that.
        """
        dim = self._dim + 32
        with np.errstate(invalid="ignore", over="ignore"):
            norms = squared_norms(self._vectors[queries])
            reach = np.maximum(distances.astype(np.float64), 0)
            # The distance was rounded to fp32 itself.
            reach = reach * (1 + 2.0**-22 + dim * 2.0**-50) + _FLUSHED
            within = (np.sqrt(norms) + np.sqrt(reach)) * (1 + 2.0**-20)
            largest = np.sqrt(norms) * within + within * within
            slack = largest * (2.0**-21 + dim * 2.0**-49) + _FLUSHED * 2.0**self._exponent
            lowest = (norms - reach) / 2 - slack - _FLUSHED
            lowest = np.where(np.isinf(distances), -np.inf, lowest).astype(np.float32)
        lowest = np.where(np.abs(lowest) < 2.0**-120, np.float32(-(2.0**-120)), lowest)
        lowest[np.isnan(lowest)] = -np.inf  # of queries that are not finite, which get no answers
        return np.nextafter(lowest, np.float32(-np.inf))

    def _ranges(
        self,
        queries: NDArray[np.int64],
        lowest: NDArray[np.float32],
        limit: NDArray[np.float32],
        size: int,
    ) -> Iterator[tuple[NDArray[np.int64], CertifiedRangeResult]]:
        """Yields groups of queries, and their documents of the lowest score or more."""
        for begin in range(0, len(queries), size):
            group = queries[begin : begin + size]
            running = RunningRange(
                self._augmented[group],
                replace(
                    self._options,
                    exclude=_exclusions(self._filters.of_queries(group)),
                    min_score=lowest[group],
                    max_score=None,
                    progress=None,
                    return_certificate=True,
                ),
            )
            for segment in self._segments:
                segment.fold_into(running)
            hits = running.result()
            assert isinstance(hits, CertifiedRangeResult)
            pairs = np.repeat(np.arange(len(group)), np.diff(hits.offsets))
            distances = self._distances(group[pairs], hits.ids)
            kept = sort_keys(distances) <= sort_keys(limit)[group[pairs]]
            pairs, distances, ids = pairs[kept], distances[kept], hits.ids[kept]
            order = np.lexsort((ids, sort_keys(distances), pairs))
            counts = np.bincount(pairs, minlength=len(group))
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
            yield group, hits._replace(offsets=offsets, scores=distances[order], ids=ids[order])

    def _sorted(
        self, ids: NDArray[np.int64], limit: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns distances and ids of candidates ``[n, k]`` within the limit, nearest first."""
        found = ids >= 0
        pairs = np.nonzero(found)[0]
        distances = np.full(ids.shape, np.inf, np.float32)
        distances[found] = self._distances(pairs, ids[found])
        left_out = sort_keys(distances) > sort_keys(limit)[:, None]
        ids = np.where(left_out, -1, ids)
        distances[left_out] = np.inf
        order = np.lexsort((ids, sort_keys(distances)), axis=-1)
        return np.take_along_axis(distances, order, 1), np.take_along_axis(ids, order, 1)

    def _distances(self, queries: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        result = np.empty(len(ids), np.float32)
        step = max(1, _GATHERED_BYTES // (4 * self._dim))
        for begin in range(0, len(ids), step):
            rows = slice(begin, begin + step)
            places = locate(self._segments, ids[rows], self._op)
            documents = gathered(self._segments, places)[:, : self._dim]
            result[rows] = squared_distances(self._vectors, documents, queries[rows])
        return result


def _exclusions(filters: Filters) -> Any:
    if filters.exclude_offsets is None:
        return None
    return filters.exclude_offsets, filters.exclude_ids


def l2_search_of_array(queries: Array, documents: Vectors, options: SearchOptions) -> L2Search:
    """Returns a search of documents ``[rows, dim]``, whose ids are their row numbers.

    Raises:
        ValueError: a row is not finite, if the policy is to raise, or too large.
    """
    rows, dim = documents.shape
    check_norms(documents, options.op, "documents")
    exponent = chosen_exponent(documents)
    segments = []
    if rows:
        vectors = augmented(documents, exponent)
        segments.append(make_segment(vectors, np.arange(rows, dtype=np.int64), options.threads))
    bad = segments[0].nonfinite if segments else None
    if bad is not None and options.nonfinite == "error":
        raise nonfinite_error(options.op, "documents", int(np.argmax(bad)))
    return L2Search(segments, exponent, dim, queries, options)
