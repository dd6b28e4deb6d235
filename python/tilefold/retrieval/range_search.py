"""Range search: every document that scores at least a bound, without the matrix of scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Vectors, as_vectors, check_dim
from ..progress import Progress
from .packing import BLOCK_ROWS, QUERIES_WORTH_PACKING
from .running_search import RunningSearch, finite_rows, nonfinite_error
from .search_options import SearchOptions
from .segment import Segment, make_segment

# Most queries have few hits, which a search for as many documents finds. The others are searched
# again for more, and the rest is searched block by block, where every document may be a hit.
_DEPTHS = (64, 2048)
_BLOCK = 256 * BLOCK_ROWS
# Bytes of the results of one search of a block: scores and ids.
_BUFFER_BYTES = 64 << 20
_HIT_BYTES = 12
# Bytes of vectors that become a segment at once.
_CHUNK_BYTES = 256 << 20


class RangeResult(NamedTuple):
    """Hits of a range search in CSR form, those of a query best first.

    Attributes:
        offsets: ``[n + 1]`` int64: the hits of query i are ``offsets[i]`` to ``offsets[i + 1]``.
        scores: ``[hits]`` float32; score descending, then id ascending, for each query.
        ids: ``[hits]`` int64.
    """

    offsets: Any
    scores: Any
    ids: Any


class Hits(NamedTuple):
    """Some hits in any order: the query, the score and the id of each."""

    queries: NDArray[np.int64]
    scores: NDArray[np.float32]
    ids: NDArray[np.int64]


def range_search(
    queries: Array,
    documents: Array,
    min_score: Any,
    *,
    allowed: Array | None = None,
    exclude: Any = None,
    max_score: Any = None,
    nonfinite: str = "error",
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> RangeResult:
    """All documents whose inner product with a query is at least a bound, exactly.

    Equals ``(queries @ documents.T >= min_score).nonzero()`` computed in fp64 and rounded to fp32,
    without forming the matrix; memory grows with the number of hits. The same documents, scores and
    order as those of `search` with a k that is large enough, and as independent of instruction set,
    threads and split.

    Args:
        queries: ``[n, dim]``, or ``[dim]`` for a single one, as in `search`.
        documents: ``[m, dim]``; a document's id is its row number.
        min_score: number or ``[n]``: lowest score of a hit, rounded to fp32 like scores.
        max_score: number or ``[n]``: highest score of a hit.
        allowed, exclude, nonfinite, num_threads, progress: as in `search`.

    Returns:
        `RangeResult` ``(offsets [n + 1], scores [hits], ids [hits])``, of the same kind of array as
        the queries.

    Raises:
        TypeError, ValueError: as in `search`; min_score is None.

    Example:
        >>> import numpy as np
        >>> documents = np.eye(4, dtype=np.float32)
        >>> found = range_search(np.float32([[0.5, 2, 0, 1], [0, 0, 3, 0]]), documents, 1)
        >>> found.offsets, found.ids
        (array([0, 2, 3]), array([1, 3, 2]))
    """
    vectors = as_vectors(documents, "range_search", "documents")
    options = SearchOptions(
        op="range_search",
        allowed=allowed,
        exclude=exclude,
        min_score=min_score,
        max_score=max_score,
        nonfinite=nonfinite,
        num_threads=num_threads,
        progress=progress,
    )
    check_min_score(options)
    running = RunningSearch(queries, 1, options, total=len(vectors))
    dim = running.queries.shape[1]
    check_dim("range_search", "queries", dim, "documents have", vectors.shape[1])
    return range_result(running, find_hits(running, _segments_of(running, vectors)))


def check_min_score(options: SearchOptions) -> None:
    """Raises TypeError where a range search has no lowest score."""
    if options.min_score is None:
        raise TypeError(f"{options.op}: min_score must be a number or an array of them, got None")


def find_hits(search: RunningSearch, segments: Iterable[Segment]) -> Iterator[Hits]:
    """Yields the hits of each segment, in parts.

    Args:
        search: queries and filters; its own answers stay as they are.
        segments: documents with disjoint ids.
    """
    for segment in segments:
        yield from _hits_of_segment(search, segment)
        search.advance(len(segment.ids))


def range_result(search: RunningSearch, found: Iterable[Hits]) -> RangeResult:
    """Sorts hits by query, then score descending, then id ascending."""
    queries, scores, ids = all_hits(found)
    order = np.lexsort((ids, -scores, queries))
    counts = np.bincount(queries, minlength=len(search.queries))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return RangeResult(*(search.as_kind(a) for a in (offsets, scores[order], ids[order])))


def all_hits(found: Iterable[Hits]) -> Hits:
    """Joins hits."""
    none = Hits(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))
    return Hits(*(np.concatenate(parts) for parts in zip(none, *found, strict=True)))


def _hits_of_segment(search: RunningSearch, segment: Segment) -> Iterator[Hits]:
    rows, n = search.searched_queries(), len(segment.ids)
    for k in _DEPTHS:
        if not len(rows) or k >= n:
            break
        part = search.restarted(rows, k)
        segment.fold_into(part)
        more = part.ids[:, -1] >= 0
        yield _hits_of(part, rows, ~more)
        rows = rows[more]
    for begin in range(0, n if len(rows) else 0, _BLOCK):
        end = min(begin + _BLOCK, n)
        at_once = max(1, _BUFFER_BYTES // (_HIT_BYTES * (end - begin)))
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            part = search.restarted(some, end - begin)
            segment.fold_into(part, begin=begin, end=end)
            yield _hits_of(part, some, np.ones(len(some), np.bool_))


def _hits_of(part: RunningSearch, rows: NDArray[np.int64], chosen: NDArray[np.bool_]) -> Hits:
    """Returns the answers of the chosen queries without their padding."""
    hit = (part.ids >= 0) & chosen[:, None]
    return Hits(rows[np.nonzero(hit)[0]], part.scores[hit], part.ids[hit])


def _segments_of(search: RunningSearch, documents: Vectors) -> Iterator[Segment]:
    """Yields segments of consecutive rows, packed where that pays."""
    dim = documents.shape[1]
    rows = max(1, _CHUNK_BYTES // (documents.itemsize * dim) // BLOCK_ROWS) * BLOCK_ROWS
    for begin in range(0, len(documents), rows):
        part = documents[begin : begin + rows]
        ids = np.arange(begin, begin + len(part))
        if len(search.queries) >= QUERIES_WORTH_PACKING:
            segment = make_segment(part, ids, search.num_threads)
        else:
            finite = finite_rows(part, search.num_threads)
            segment = Segment(part, ids, None, nonfinite=None if finite.all() else ~finite)
        if segment.nonfinite is not None and search.nonfinite == "error":
            row = begin + int(np.argmax(segment.nonfinite))
            raise nonfinite_error(search.op, "documents", row)
        yield segment
