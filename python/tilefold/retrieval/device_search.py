"""DeviceSearch: the k best documents of an index that is on a device beside the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..arrays import Array, check_dim
from ..placement import Placement
from .document_fold import nonfinite_error
from .metric import unit_queries
from .packing import Packed, bitmap
from .resident_segments import Resident, ResidentSegments
from .running_search import CertifiedResult, SearchResult, certificate_of, checked_k
from .search_options import SearchOptions
from .segment import Segment


class DeviceSearch:
    """A search whose queries, documents and answers stay on a device.

    Kernels are queued on the current stream. The host waits for the check of queries, for queries
    that become unit vectors, and for a certificate.

    Args:
        queries: ``[n, dim]``, or ``[dim]`` for a single one, on the device.
        k: answers per query.
        dim: dimensions of the documents.
        options: checked options.
        placement: the device.
        unit: whether to search with unit vectors in the place of queries. They have the bits of
            `reference.unit_vectors`, and so are made on the host.
    """

    def __init__(
        self,
        queries: Array,
        k: int,
        dim: int,
        options: SearchOptions,
        placement: Placement,
        *,
        unit: bool = False,
    ) -> None:
        self._options, self._placement = options, placement
        self.k = checked_k(k, options.op)
        if self.k > placement.max_k:
            raise ValueError(
                f"{options.op}: k must be at most {placement.max_k} on {placement.device}, got "
                f"{self.k}; search on the CPU, or in parts with a smaller k"
            )
        self._queries, self._single = placement.queries(queries, options.op)
        check_dim(options.op, "queries", self._queries.shape[1], "documents have", dim)
        if unit:
            on_host = placement.fetch(self._queries)
            self._queries = placement.place(unit_queries(on_host, options.op))
        n = len(self._queries)
        self._filters = options.filters(n)
        self._bad_queries = self._replace_nonfinite_queries(n)
        place = placement.place
        self._scores = place(np.full((n, self.k), -np.inf, np.float32))
        self._ids = place(np.full((n, self.k), -1, np.int64))
        certified = options.return_certificate
        self._refined = place(np.zeros(n, np.int64)) if certified else None
        self._bound = place(np.full(n, -np.inf, np.float32)) if certified else None
        filters = self._filters
        self._options_of_kernel: dict[str, Any] = {
            name: None if array is None else place(array)
            for name, array in (
                ("exclude_offsets", filters.exclude_offsets),
                ("exclude_ids", filters.exclude_ids),
                ("min_score", filters.min_score),
                ("max_score", filters.max_score),
            )
        }
        self._nonfinite_documents = 0

    def fold(self, segments: tuple[Segment, ...], residents: ResidentSegments) -> None:
        """Folds the documents of segments into the answers."""
        total, done = sum(len(segment.ids) for segment in segments), 0
        for segment in segments:
            live, nonfinite = segment.searchable(), segment.nonfinite_rows()
            self._nonfinite_documents += 0 if nonfinite is None else int(nonfinite.sum())
            for part in residents.parts(segment):
                here = slice(part.begin, part.end)
                self._fold(part, segment.ids[here], None if live is None else live[here])
                done += part.end - part.begin
                if self._options.progress is not None:
                    self._options.progress(done, total)

    def _fold(self, part: Resident, ids: NDArray[np.int64], live: NDArray[np.bool_] | None) -> None:
        live = self._filters.allowed_rows(ids, live, self._options.op)
        allowed = None if live is None else self._placement.place(bitmap(live))
        with self._placement.current():
            self._search(part, part.packed, allowed)

    def _search(self, part: Resident, packed: Packed | None, allowed: Any) -> None:
        _native.search(
            self._queries,
            part.vectors,
            self._scores,
            self._ids,
            self.k,
            codes=None if packed is None else packed.codes,
            bounds=None if packed is None else packed.bounds,
            direction=None if packed is None else packed.direction,
            rotated=packed is not None and packed.rotated,
            document_ids=part.ids,
            allowed=allowed,
            refined=self._refined,
            pruned_bound=self._bound,
            stream=self._placement.stream,
            **self._options_of_kernel,
        )

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
            self._filters.min_score,
            self._bad_queries,
            self._nonfinite_documents,
        )
        return CertifiedResult(scores, ids, certificate)

    def _converted(self, array: Any) -> Any:
        result = self._placement.result(array)
        return result[0] if self._single else result

    def _replace_nonfinite_queries(self, n: int) -> NDArray[np.bool_]:
        """Replaces queries with NaN or infinity by zeros; returns a mask of them."""
        placement, op = self._placement, self._options.op
        flags = placement.place(np.empty(n, np.uint8))
        with placement.current():
            _native.finite_rows(self._queries, flags, stream=placement.stream)
        finite = placement.fetch(flags).astype(np.bool_)
        if finite.all():
            return ~finite
        if self._options.nonfinite == "error":
            raise nonfinite_error(op, "queries", int(np.argmin(finite)))
        queries = placement.fetch(self._queries)
        zero = queries.dtype.type(0)
        self._queries = placement.place(np.where(finite[:, None], queries, zero))
        return ~finite

    def _answer_with_padding(self) -> None:
        fetch, place = self._placement.fetch, self._placement.place
        scores, ids = fetch(self._scores), fetch(self._ids)
        scores[self._bad_queries], ids[self._bad_queries] = -np.inf, -1
        self._scores, self._ids = place(scores), place(ids)
