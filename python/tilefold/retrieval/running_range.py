"""RunningRange: every document that reaches a query's minimum score, folded part by part.

Documents are searched a chunk at a time for the k best above the threshold. A query for which k
documents of a chunk reach it may have more there, so it is searched again with a larger k, at most
the rows of the chunk. The k that was enough is remembered for the next chunk, so that a query with
many hits is searched about once. No choice of k changes the answer: each is the exact search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..arrays import Array, Vectors
from .document_fold import HostFold
from .metric import sort_keys
from .packing import BLOCK_ROWS, Packed, bitmap, kernel_arguments
from .running_search import Certificate
from .search_options import SearchOptions

# Answers per query and chunk that are tried in turn. The last is a chunk's number of rows, beyond
# which there is nothing.
LEVELS = (64, 512, 4096, 32_768)
_CHUNK_ROWS = LEVELS[-1]
# Scores and ids of one call of the kernel: 6 MB, whatever the number of queries and hits.
BUFFER_SLOTS = 1 << 19


class RangeResult(NamedTuple):
    """Hits of a range search: those of query i are at ``offsets[i]`` to ``offsets[i + 1]``.

    Attributes:
        offsets: ``[n + 1]`` int64, from 0 to the number of hits.
        scores: ``[hits]`` float32, best first within each query, then by id.
        ids: ``[hits]`` int64.
    """

    offsets: Any
    scores: Any
    ids: Any


class CertifiedRangeResult(NamedTuple):
    """A `RangeResult` with its `Certificate`."""

    offsets: Any
    scores: Any
    ids: Any
    certificate: Certificate


@dataclass(frozen=True)
class _Chunk:
    """Documents of one chunk, as the kernel takes them."""

    documents: Vectors
    packed: Packed | None
    ids: NDArray[np.int64] | None
    first_id: int
    allowed: NDArray[np.uint32] | None


@dataclass(frozen=True)
class _Hits:
    """Hits of some queries in one chunk: `counts` of each, one query after the other."""

    queries: NDArray[np.int64]
    counts: NDArray[np.int64]
    scores: NDArray[np.float32]
    ids: NDArray[np.int64]


class RunningRange(HostFold):
    """The documents folded in so far that score at least `options.min_score`.

    Args:
        queries: ``[n, dim]``, or ``[dim]`` for a single one.
        options: checked options, with min_score.
        total: number of documents, for the progress.

    Raises:
        TypeError: options have no min_score.
    """

    def __init__(self, queries: Array, options: SearchOptions, *, total: int = 0) -> None:
        if options.min_score is None:
            raise TypeError(f"{options.op}: min_score must be a number or an array, got None")
        super().__init__(queries, options, total=total)
        n = len(self.queries)
        self._hits: list[_Hits] = []
        self._expected = np.zeros(n, np.int64)  # hits of each query in the next chunk
        self._certified = options.return_certificate
        self._refined = np.zeros(n, np.int64)
        self._bound = np.full(n, -np.inf, np.float32)

    def fold(
        self,
        documents: Vectors,
        *,
        packed: Packed | None = None,
        ids: NDArray[np.int64] | None = None,
        first_id: int = 0,
        live: NDArray[np.bool_] | None = None,
    ) -> None:
        """Folds documents in; arguments as in `HostFold.fold`."""
        live = self._allowed_rows(len(documents), ids, first_id, live)
        for begin in range(0, len(documents), _CHUNK_ROWS):
            end = min(begin + _CHUNK_ROWS, len(documents))
            blocks = begin // BLOCK_ROWS, -(-end // BLOCK_ROWS)
            chunk = _Chunk(
                documents[begin:end],
                None if packed is None else packed.blocks(*blocks),
                None if ids is None else ids[begin:end],
                first_id + begin,
                None if live is None else bitmap(live[begin:end]),
            )
            self._fold_chunk(chunk)
            self._advance(end - begin)

    @property
    def batches(self) -> list[tuple[int, int]]:
        """The largest batch of each level."""
        return [(min(len(self.queries), BUFFER_SLOTS // k), k) for k in LEVELS]

    def result(self) -> RangeResult | CertifiedRangeResult:
        """Returns the hits in the kind of array that the queries have; folding ends with it."""
        arrays = _assembled(self._hits, len(self.queries))
        offsets, scores, ids = (self._kind(array) for array in arrays)
        if not self._certified:
            return RangeResult(offsets, scores, ids)
        assert self.filters.min_score is not None
        certificate = Certificate(
            self._refined,
            self.filters.min_score.copy(),
            self._bound,
            int(self._bad_queries.sum()),
            self.nonfinite_documents,
        )
        return CertifiedRangeResult(offsets, scores, ids, certificate)

    def _fold_chunk(self, chunk: _Chunk) -> None:
        pending = np.flatnonzero(~self._bad_queries)
        for level in LEVELS:
            ready = self._expected[pending] <= level
            now, pending = pending[ready], pending[~ready]
            size = BUFFER_SLOTS // level
            unfinished = [
                self._fold_level(chunk, now[begin : begin + size], level)
                for begin in range(0, len(now), size)
            ]
            pending = np.concatenate([pending, *unfinished])

    def _fold_level(self, chunk: _Chunk, chosen: NDArray[np.int64], level: int) -> Any:
        """Searches a chunk for the level's number of hits; returns queries that have more."""
        k = min(level, len(chunk.documents))
        scores = np.full((len(chosen), k), -np.inf, np.float32)
        ids = np.full((len(chosen), k), -1, np.int64)
        bound = np.full(len(chosen), -np.inf, np.float32)
        refined = np.zeros(len(chosen), np.int64)
        filters = self.filters.of_queries(chosen)
        _native.search(
            self.queries[chosen],
            chunk.documents,
            scores,
            ids,
            k,
            **kernel_arguments(chunk.packed),
            document_ids=chunk.ids,
            first_id=chunk.first_id,
            allowed=chunk.allowed,
            exclude_offsets=filters.exclude_offsets,
            exclude_ids=filters.exclude_ids,
            min_score=filters.min_score,
            max_score=filters.max_score,
            refined=refined,
            pruned_bound=bound,
            num_threads=self.num_threads,
        )
        found = ids >= 0
        counts = np.count_nonzero(found, axis=1)
        done = (counts < k) | (k == len(chunk.documents))
        found[~done] = False
        if found.any():
            self._hits.append(_Hits(chosen[done], counts[done], scores[found], ids[found]))
        self._expected[chosen] = counts
        self._refined[chosen] += refined
        self._bound[chosen[done]] = np.maximum(self._bound[chosen[done]], bound[done])
        return chosen[~done]


def _assembled(
    parts: list[_Hits], n_queries: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Returns offsets, scores and ids of all hits, sorted within each query; empties `parts`."""
    counts = np.zeros(n_queries, np.int64)
    chunks = np.zeros(n_queries, np.int64)
    for part in parts:
        counts[part.queries] += part.counts
        chunks[part.queries] += part.counts > 0
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    scores, ids = np.empty(offsets[-1], np.float32), np.empty(offsets[-1], np.int64)
    free = offsets[:-1].copy()
    while parts:  # removed one by one, so that hits are not in memory twice
        part = parts.pop(0)
        first = np.cumsum(part.counts) - part.counts
        places = np.repeat(free[part.queries] - first, part.counts) + np.arange(len(part.ids))
        scores[places], ids[places] = part.scores, part.ids
        free[part.queries] += part.counts
    for query in np.flatnonzero(chunks > 1):
        own = slice(offsets[query], offsets[query + 1])
        order = np.lexsort((ids[own], -sort_keys(scores[own])))
        scores[own], ids[own] = scores[own][order], ids[own][order]
    return offsets, scores, ids
