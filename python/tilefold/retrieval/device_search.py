"""DeviceSearch: the k best documents so far, where queries and answers are on a device."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..arrays import Array, Vectors, check_dim
from ..placement import Placement, placement_of
from .document_fold import DocumentFold, finite_rows, nonfinite_error
from .metric import unit_queries
from .packing import (
    BLOCK_ROWS,
    Packed,
    bitmap,
    can_pack,
    chosen_form,
    flags,
    kernel_arguments,
    packed_shapes,
    sampled_rows,
)
from .resident_segments import Resident, ResidentSegments, sent_rows
from .running_search import (
    CertifiedResult,
    RunningSearch,
    SearchResult,
    certificate_of,
    checked_k,
)
from .search_options import SearchOptions
from .segment import Segment

# Of documents that are sent to the device for one search. At most two such parts are there: one is
# searched, and the next is on its way.
_PART_BYTES = 256 << 20


class DeviceSearch(DocumentFold):
    """A `RunningSearch` on a device beside the host, which makes its kernels work on one stream.

    Documents are folded from the host, from segments that stay on the device, or from arrays of the
    device. The host waits for the check of queries, for queries that become unit vectors, for
    documents that are packed on the device, and for a certificate.

    Args:
        queries: ``[n, dim]``, or ``[dim]`` for a single one, on the device.
        k: answers per query.
        options: checked options.
        placement: the device.
        total: number of documents, for the progress.
        unit: whether to search with unit vectors in the place of queries. They have the bits of
            `reference.unit_vectors`, and so are made on the host.
    """

    def __init__(
        self,
        queries: Array,
        k: int,
        options: SearchOptions,
        placement: Placement,
        *,
        total: int = 0,
        unit: bool = False,
    ) -> None:
        self._placement = placement
        self.k = checked_k(k, options.op)
        if self.k > placement.max_k:
            raise ValueError(
                f"{options.op}: k must be at most {placement.max_k} on {placement.device}, got "
                f"{self.k}; search on the CPU, or in parts with a smaller k"
            )
        self.queries, self._single = placement.queries(queries, options.op)
        if unit:
            on_host = placement.fetch(self.queries)
            self.queries = placement.place(unit_queries(on_host, options.op))
        n = len(self.queries)
        super().__init__(options, n, total=total)
        self._bad_queries = self._replace_nonfinite_queries()
        self._unfinished: deque[Any] = deque()
        place, full = placement.place, placement.full
        self._scores = full((n, self.k), -np.inf, "float32")
        self._ids = full((n, self.k), -1, "int64")
        certified = options.return_certificate
        self._refined = full((n,), 0, "int64") if certified else None
        self._bound = full((n,), -np.inf, "float32") if certified else None
        filters = self.filters
        self._options_of_kernel: dict[str, Any] = {
            name: None if array is None else place(array)
            for name, array in (
                ("exclude_offsets", filters.exclude_offsets),
                ("exclude_ids", filters.exclude_ids),
                ("min_score", filters.min_score),
                ("max_score", filters.max_score),
            )
        }

    def rows_at_once(self, documents: Any) -> int:
        """Returns the rows of a part that is sent, or packed, at once."""
        width = documents.shape[1]
        itemsize = documents.itemsize if isinstance(documents, np.ndarray) else 4
        row_bytes = int((itemsize + 1) * width + 32)
        return max(1, _PART_BYTES // row_bytes // BLOCK_ROWS) * BLOCK_ROWS

    def prepare(self, documents: Vectors) -> tuple[Packed | None, NDArray[np.bool_]]:
        """Finds rows with NaN or infinity; `fold` packs on the device."""
        return None, finite_rows(documents, self.num_threads)

    def fold(
        self,
        documents: Vectors,
        *,
        packed: Packed | None = None,
        ids: NDArray[np.int64] | None = None,
        first_id: int = 0,
        live: NDArray[np.bool_] | None = None,
    ) -> None:
        """Sends documents of the host and folds them; arguments as in `DocumentFold.fold`."""
        live = self._allowed_rows(len(documents), ids, first_id, live)
        step = self.rows_at_once(documents)
        for begin in range(0, len(documents), step):
            rows = slice(begin, begin + step)
            vectors = documents[rows]
            blocks = begin // BLOCK_ROWS, -(-(begin + len(vectors)) // BLOCK_ROWS)
            part = sent_rows(
                self._placement,
                vectors,
                None if ids is None else ids[rows],
                None if packed is None else packed.blocks(*blocks),
            ).use(self._placement)
            of_part = part.packed
            if of_part is None and can_pack(vectors.shape[1]):
                of_part, _ = self._packed(part.vectors, vectors)
            here = None if live is None else live[rows]
            self._search(part.vectors, part.ids, first_id + begin, of_part, here)
            self._let_finish()

    def fold_residents(self, segments: tuple[Segment, ...], residents: ResidentSegments) -> None:
        """Folds the documents of segments, which stay on the device where they fit."""
        for segment in segments:
            live, nonfinite = segment.searchable(), segment.nonfinite_rows()
            self.nonfinite_documents += 0 if nonfinite is None else int(nonfinite.sum())
            for part in residents.parts(segment):
                self._fold_resident(part, segment, live)
                if part.end - part.begin < len(segment.ids):
                    self._let_finish()

    def fold_placed(self, documents: Any) -> None:
        """Folds an array ``[rows, dim]`` of the device, whose ids are row numbers.

        Args:
            documents: as `Placement.vectors` returns them.

        Raises:
            ValueError: another dim than that of the queries, or a non-finite row that the search's
                policy does not accept.
        """
        rows, dim = documents.shape
        check_dim(self.op, "queries", self.queries.shape[1], "documents have", dim)
        step = self.rows_at_once(documents)
        for begin in range(0, rows, step):
            part = documents[begin : begin + step]
            packed, finite = self._prepare_placed(part)
            bad = len(part) - int(finite.sum())
            if bad and self.nonfinite == "error":
                raise nonfinite_error(self.op, "documents", begin + int(np.argmin(finite)))
            self.nonfinite_documents += bad
            live = self._allowed_rows(len(part), None, begin, finite if bad else None)
            self._search(part, None, begin, packed, live)
            self._let_finish()

    @property
    def batches(self) -> list[tuple[int, int]]:
        """All queries at once."""
        return [(len(self.queries), self.k)]

    def answers(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Copies scores and ids ``[n, k]`` so far to the host."""
        return self._placement.fetch(self._scores), self._placement.fetch(self._ids)

    def restore(self, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        """Continues with the answers of a search before."""
        self._scores, self._ids = self._placement.place(scores), self._placement.place(ids)

    def queries_on_host(self) -> Vectors:
        """Copies the queries to the host."""
        return self._placement.fetch(self.queries)

    def result(self) -> SearchResult | CertifiedResult:
        """Returns the answers on the device; a certificate is on the host."""
        if self._bad_queries.any():
            self._answer_with_padding()
        scores, ids = (self._converted(x) for x in (self._scores, self._ids))
        if self._refined is None or self._bound is None:
            return SearchResult(scores, ids)
        fetch = self._placement.fetch
        certificate = certificate_of(
            fetch(self._scores),
            fetch(self._refined),
            fetch(self._bound),
            self.filters.min_score,
            self._bad_queries,
            self.nonfinite_documents,
        )
        return CertifiedResult(scores, ids, certificate)

    def _fold_resident(
        self, part: Resident, segment: Segment, live: NDArray[np.bool_] | None
    ) -> None:
        rows = slice(part.begin, part.end)
        ids = segment.ids[rows]
        live = self._allowed_rows(len(ids), ids, 0, None if live is None else live[rows])
        self._search(part.vectors, part.ids, 0, part.packed, live)

    def _search(
        self,
        vectors: Any,
        ids: Any,
        first_id: int,
        packed: Packed | None,
        live: NDArray[np.bool_] | None,
    ) -> None:
        """Queues the search of documents that are on the device."""
        allowed = None if live is None else self._placement.place(bitmap(live))
        with self._placement.current():
            _native.search(
                self.queries,
                vectors,
                self._scores,
                self._ids,
                self.k,
                **kernel_arguments(packed),
                document_ids=ids,
                first_id=first_id,
                allowed=allowed,
                refined=self._refined,
                pruned_bound=self._bound,
                **self._options_of_kernel,
                **self._placement.queue(),
            )
        self._advance(len(vectors))

    def _let_finish(self) -> None:
        """Waits for all parts but the last, whose memory the next one takes."""
        self._unfinished.append(self._placement.record_event())
        if len(self._unfinished) > 1:
            self._placement.synchronize(self._unfinished.popleft())

    def _packed(self, vectors: Any, sample: Vectors) -> tuple[Packed, Any]:
        """Packs vectors of the device in the form that suits a sample of them.

        Returns:
            The packed documents, and a bitmap ``[blocks]`` of the rows that are finite; both on the
            device.
        """
        placement = self._placement
        rotated, direction = chosen_form(sample)
        placed = None if direction is None else placement.place(direction)
        of_codes, of_bounds = packed_shapes(*vectors.shape)
        codes = placement.empty(of_codes, "uint8")
        bounds = placement.empty(of_bounds, "float32")
        finite = placement.empty((of_codes[0],), "uint32")
        with placement.current():
            _native.pack(
                vectors,
                codes,
                bounds,
                finite,
                direction=placed,
                rotate=rotated,
                **placement.queue(),
            )
        return Packed(codes, bounds, rotated, placed), finite

    def _prepare_placed(self, vectors: Any) -> tuple[Packed | None, NDArray[np.bool_]]:
        """As `prepare`, of vectors of the device."""
        if not can_pack(vectors.shape[1]):
            return None, self._finite_rows(vectors)
        sample = self._placement.fetch(vectors[sampled_rows(len(vectors))])
        packed, words = self._packed(vectors, sample)
        return packed, flags(self._placement.fetch(words), len(vectors))

    def _finite_rows(self, vectors: Any) -> NDArray[np.bool_]:
        placement = self._placement
        finite = placement.empty((len(vectors),), "uint8")
        with placement.current():
            _native.finite_rows(vectors, finite, **placement.queue())
        return placement.fetch(finite).astype(np.bool_)

    def _converted(self, array: Any) -> Any:
        result = self._placement.result(array)
        return result[0] if self._single else result

    def _replace_nonfinite_queries(self) -> NDArray[np.bool_]:
        """Replaces queries with NaN or infinity by zeros; returns a mask of them."""
        finite = self._finite_rows(self.queries)
        if finite.all():
            return ~finite
        if self.nonfinite == "error":
            raise nonfinite_error(self.op, "queries", int(np.argmin(finite)))
        queries = self._placement.fetch(self.queries)
        zero = queries.dtype.type(0)
        self.queries = self._placement.place(np.where(finite[:, None], queries, zero))
        return ~finite

    def _answer_with_padding(self) -> None:
        scores, ids = self.answers()
        scores[self._bad_queries], ids[self._bad_queries] = -np.inf, -1
        self.restore(scores, ids)


# What a search over shards is, wherever its queries are.
AnySearch = RunningSearch | DeviceSearch


def open_search(queries: Array, k: int, options: SearchOptions, *, total: int = 0) -> AnySearch:
    """Returns a search on the device of its queries, into which documents are folded."""
    placement = placement_of(queries)
    if placement is None:
        return RunningSearch(queries, k, options, total=total)
    return DeviceSearch(queries, k, options, placement, total=total)
