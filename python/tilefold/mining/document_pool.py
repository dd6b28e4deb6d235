"""Searches and scores the documents from which negatives are mined.

Of duplicate documents, the first represents all: the others are never retrieved, and excluding one
of them excludes the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..arrays import BFLOAT16, BFLOAT16_BITS, Array, Vectors, as_vectors
from ..placement import placement_of
from ..progress import Progress
from ..ragged_lists import Integers, Lists
from ..retrieval.device_search import DeviceSearch
from ..retrieval.exact_search import fold_array
from ..retrieval.flat_index import FlatIndex
from ..retrieval.resident_segments import ResidentSegments
from ..retrieval.running_search import RunningSearch, SearchResult
from ..retrieval.search_options import SearchOptions
from ..retrieval.segment import Segment, make_segment
from .mining_inputs import check_finite, first_of_groups

_PAIR_BYTES = 16 << 20  # of queries, copied for each document that they are scored with


class DocumentPool:
    """Documents from which negatives are mined.

    Args:
        op: the public function, for messages.
        documents: ``[m, dim]``, or an index whose ids are the rows 0 to m - 1.
        groups: ``[m]`` integers, equal for documents that are the same.
        num_threads: of every call.
        residents: segments on the device that searches, those of an index or none yet; None for
            the host.
    """

    def __init__(
        self,
        op: str,
        documents: Array | FlatIndex,
        groups: Any,
        num_threads: int | None,
        residents: ResidentSegments | None = None,
    ) -> None:
        self._op, self._threads = op, num_threads
        self._segments: tuple[Segment, ...] = ()
        self._vectors: Vectors | None = None
        self._residents = residents
        if isinstance(documents, FlatIndex):
            self._segments, self.dim = documents.segments, documents.dim
            self.size = _count_rows(self._segments, op)
        else:
            vectors = on_host(documents, op, "documents")
            self.size, self.dim = vectors.shape
            check_finite(vectors, op, "documents")
            if residents is None:
                self._vectors = vectors
            elif self.size:  # packed once for all batches
                self._segments = (make_segment(vectors, np.arange(self.size)),)
        self._first = first_of_groups(groups, op, self.size)
        self._allowed = None if self._first is None else self._first == np.arange(self.size)

    def standing_for(self, lists: Lists) -> Lists:
        """Replaces duplicates in lists by the documents that represent them."""
        return lists if self._first is None else Lists(lists.offsets, self._first[lists.indices])

    def retrievable(self, rows: Integers) -> NDArray[np.bool_]:
        """Returns which of these documents are represented by themselves."""
        return np.ones(rows.shape, np.bool_) if self._allowed is None else self._allowed[rows]

    def search(
        self,
        queries: Vectors,
        k: int,
        left_out: Lists,
        *,
        min_score: Any = None,
        max_score: Any = None,
        progress: Progress | None = None,
    ) -> SearchResult:
        """Searches for the k best documents within a score window that are not excluded.

        On the device, where it takes k.
        """
        k = min(k, self.size)
        options = SearchOptions(
            op=self._op,
            allowed=self._allowed,
            exclude=tuple(left_out),
            min_score=min_score,
            max_score=max_score,
            num_threads=self._threads,
            progress=progress,
        )
        placement = None if self._residents is None else self._residents.placement
        if placement is not None and self._residents is not None and k <= placement.max_k:
            placed = placement.place(queries)
            on_device = DeviceSearch(placed, k, options, placement, total=self.size)
            on_device.fold_residents(self._segments, self._residents)
            return SearchResult(*on_device.answers())
        marked = queries.view(BFLOAT16_BITS) if queries.dtype == BFLOAT16 else queries
        running = RunningSearch(marked, k, options, total=self.size)
        for segment in self._segments:
            segment.fold_into(running)
        if self._vectors is not None:
            fold_array(running, self._vectors)
        return SearchResult(running.scores, running.ids)

    def scores(self, queries: Vectors, owners: Integers, rows: Integers) -> NDArray[np.float32]:
        """Computes ``[pairs]`` scores of queries `owners` with documents `rows`, as in a search."""
        found = np.empty(len(rows), np.float32)
        step = max(1, _PAIR_BYTES // (4 * self.dim))
        for begin in range(0, len(rows), step):
            pairs = slice(begin, begin + step)
            found[pairs] = self._scores(queries[owners[pairs]], rows[pairs])
        return found

    def _scores(self, queries: Vectors, rows: Integers) -> NDArray[np.float32]:
        found = np.empty(len(rows), np.float32)
        for vectors, places_of in self._parts():
            places = places_of(rows)
            here = np.flatnonzero(places >= 0)
            scores = np.empty(len(here), np.float32)
            wanted = np.ascontiguousarray(places[here])
            _native.score(queries[here], vectors, wanted, scores, num_threads=self._threads or 0)
            found[here] = scores
        return found

    def _parts(self) -> Iterator[tuple[Vectors, Callable[[Integers], Integers]]]:
        """Yields vectors and a function from rows to places in them, -1 for rows elsewhere."""
        if self._vectors is not None:
            yield self._vectors, lambda rows: rows
        for segment in self._segments:
            yield segment.vectors, segment.find


def on_host(array: Array, op: str, name: str) -> Vectors:
    """Returns vectors ``[rows, dim]`` on the host, copied from a device if need be."""
    placement = placement_of(array)
    if placement is None:
        return as_vectors(array, op, name)
    return placement.fetch(placement.vectors(array, op, name))


def _count_rows(segments: tuple[Segment, ...], op: str) -> int:
    if any(segment.nonfinite is not None for segment in segments):
        raise ValueError(f"{op}: the index keeps documents with a NaN or an infinity")
    ids = np.sort(np.concatenate([np.empty(0, np.int64), *(s.live_ids() for s in segments)]))
    if not np.array_equal(ids, np.arange(len(ids))):
        raise ValueError(
            f"{op}: ids of the index must be the rows 0 to {len(ids) - 1} of the documents; "
            "add the documents to an index without ids"
        )
    return len(ids)
