"""DocumentFold: queries and filters of a search into which documents are folded part by part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..arrays import Array, Vectors, as_queries, kind_of
from .filters import Filters
from .packing import BLOCK_ROWS, Packed, can_pack, flags, pack
from .search_options import SearchOptions

# Packing a document costs about as much as scoring it canonically for a dozen queries.
_QUERIES_WORTH_PACKING = 16
_CHUNK_BYTES = 32 << 20


class DocumentFold(ABC):
    """The half of a search that does not depend on its kind of answer.

    Args:
        options: checked options; their filters are checked here, against the queries.
        n_queries: number of queries.
        total: number of documents, for the progress.

    Attributes:
        op: the public function, for messages.
        queries: ``[n, dim]``, as kernels take them.
        filters: of the options.
        nonfinite: the policy for documents with NaN or infinity.
        nonfinite_documents: how many there were.
        num_threads: 0 for the default.
    """

    queries: Any

    def __init__(self, options: SearchOptions, n_queries: int, *, total: int = 0) -> None:
        self.op = options.op
        self.nonfinite = options.nonfinite
        self.num_threads = options.threads
        self.filters: Filters = options.filters(n_queries)
        self.nonfinite_documents = 0
        self._progress, self._total, self._done = options.progress, total, 0

    @abstractmethod
    def fold(
        self,
        documents: Vectors,
        *,
        packed: Packed | None = None,
        ids: NDArray[np.int64] | None = None,
        first_id: int = 0,
        live: NDArray[np.bool_] | None = None,
    ) -> None:
        """Folds documents ``[rows, dim]`` into the answers.

        Args:
            documents: vectors as `as_vectors` returns them.
            packed: their packed form; if None, every document is scored canonically.
            ids: ``[rows]``; by default first_id, first_id + 1, ...
            first_id: see `ids`.
            live: ``[rows]`` mask of documents that may be retrieved; all by default.
        """

    @abstractmethod
    def rows_at_once(self, documents: Vectors) -> int:
        """Returns how many rows of an array are prepared and folded at once, a multiple of 32."""

    @abstractmethod
    def prepare(self, documents: Vectors) -> tuple[Packed | None, NDArray[np.bool_]]:
        """Prepares documents ``[rows, dim]`` of an array for `fold`.

        Returns:
            Their packed form, if `fold` is to have one, and a mask of the rows that are finite.
        """

    @property
    @abstractmethod
    def batches(self) -> list[tuple[int, int]]:
        """Largest calls of the kernel, as (number of queries, answers per query), for budgets."""

    def skip(self, rows: int) -> None:
        """Counts documents as done that an earlier run has folded, for progress."""
        self._done += rows

    def _allowed_rows(
        self,
        rows: int,
        ids: NDArray[np.int64] | None,
        first_id: int,
        live: NDArray[np.bool_] | None,
    ) -> NDArray[np.bool_] | None:
        """Returns a mask of the live rows that the search's filter allows; None for all rows."""
        if not self.filters.restrict:
            return live
        all_ids = np.arange(first_id, first_id + rows) if ids is None else ids
        return self.filters.allowed_rows(all_ids, live, self.op)

    def _advance(self, rows: int) -> None:
        self._done += rows
        if self._progress is not None:
            self._progress(self._done, self._total)

    def _reporter(self, rows: int) -> Callable[[float], None] | None:
        progress = self._progress
        if progress is None:
            return None
        return lambda share: (progress(self._done + int(share * rows), self._total), None)[1]


class HostFold(DocumentFold):
    """A fold whose queries are on the host.

    Args:
        queries: ``[n, dim]``, or ``[dim]`` for a single one.
        options: checked options; their filters are checked here, against the queries.
        total: number of documents, for the progress.
    """

    queries: Vectors

    def __init__(self, queries: Array, options: SearchOptions, *, total: int = 0) -> None:
        self.queries, self._single = as_queries(queries, options.op)
        self._kind = kind_of(queries)
        super().__init__(options, len(self.queries), total=total)
        self._bad_queries = self._replace_nonfinite_queries()

    def rows_at_once(self, documents: Vectors) -> int:
        """Returns the rows whose codes fit in a cache."""
        return max(1, int(_CHUNK_BYTES // documents.shape[1]) // BLOCK_ROWS) * BLOCK_ROWS

    def prepare(self, documents: Vectors) -> tuple[Packed | None, NDArray[np.bool_]]:
        """Packs documents, unless queries are too few to be worth it."""
        if can_pack(documents.shape[1]) and len(self.queries) >= _QUERIES_WORTH_PACKING:
            packed, words = pack(documents, num_threads=self.num_threads)
            return packed, flags(words, len(documents))
        return None, finite_rows(documents, self.num_threads)

    def _replace_nonfinite_queries(self) -> NDArray[np.bool_]:
        """Replaces queries with NaN or infinity by zeros; returns a mask of them."""
        finite = finite_rows(self.queries, self.num_threads)
        if finite.all():
            return ~finite
        if self.nonfinite == "error":
            raise nonfinite_error(self.op, "queries", int(np.argmin(finite)))
        self.queries = np.where(finite[:, None], self.queries, self.queries.dtype.type(0))
        return ~finite


def finite_rows(vectors: Vectors, num_threads: int = 0) -> NDArray[np.bool_]:
    """Returns a mask ``[rows]`` of the rows without NaN or infinity."""
    finite = np.empty(len(vectors), np.uint8)
    _native.finite_rows(vectors, finite, num_threads=num_threads)
    return finite.astype(np.bool_)


def nonfinite_error(op: str, name: str, row: int) -> ValueError:
    """Returns the error for a row with NaN or infinity."""
    return ValueError(
        f"{op}: row {row} of {name} has a NaN or an infinity; "
        'nonfinite="exclude" never retrieves such rows'
    )
