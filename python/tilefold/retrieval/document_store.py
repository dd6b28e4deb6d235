"""DocumentStore: the documents of an index, and how they are added, replaced and removed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Vectors, as_vectors, check_dim, dtype_name
from .dense_numbers import renumbered
from .document_fold import nonfinite_error
from .document_ids import check_count, new_ids
from .flat_folder import SavedIndex
from .id_table import GivenIds, IdTable, Names
from .index_content import IndexContent
from .l2_search import augmented, check_norms, chosen_exponent
from .locks import renew_in_children
from .metric import unit_vectors
from .removed_rows import no_rows
from .resident_segments import ResidentSegments
from .search_options import SearchOptions, checked_policy, checked_threads
from .segment import Segment, gathered, make_segment, merge
from .segment_list import compacted, locate
from .string_ids import as_strings, check_distinct, holds_strings

# Numbers without a string, above which the other half, and so the table, is numbered anew.
_SPARSE = 1024
_REPLACE = "replace() gives it another vector"


class _NewRows(NamedTuple):
    """Vectors that are about to be stored; of an l2 index, with this exponent."""

    vectors: Vectors
    exponent: int | None = None

    def __len__(self) -> int:
        return len(self.vectors)


class DocumentStore:
    """What an index holds; one thread changes it at a time, and any number read `content`.

    Methods have the arguments and errors of those of `FlatIndex`.

    Args:
        saved: the documents to begin with, and how vectors are stored.
        residents: documents on the device of the index, to be freed when they are gone.

    Attributes:
        dim: dimensions of vectors; those of metric "l2" are stored with one column more.
        metric: of the index.
        exponent: of an l2 index; see `l2_search`.
        content: what a search sees. It is replaced as a whole.
    """

    def __init__(self, saved: SavedIndex, residents: ResidentSegments | None = None) -> None:
        self.dim, self.metric, self.exponent = saved.dim, saved.metric, saved.exponent
        table = None if saved.names is None else IdTable(saved.names)
        self.content = IndexContent(saved.segments, table)
        self._next_id, self._removed = saved.next_id, saved.removed
        self._residents = residents
        self._start_locks()
        renew_in_children(self)

    def _start_locks(self) -> None:
        self._lock = threading.Lock()

    @property
    def dtype(self) -> str | None:
        """Dtype of the vectors; None while there are none."""
        segments = self.content.segments
        return dtype_name(segments[0].vectors) if segments else None

    @property
    def nbytes(self) -> int:
        """Bytes of vectors, integer ids and packed documents, memory maps included."""
        total = 0
        for s in self.content.segments:
            total += s.vectors.nbytes + s.ids.nbytes
            total += s.packed.codes.nbytes + s.packed.bounds.nbytes if s.packed else 0
        return total + self._removed.vectors.nbytes + self._removed.ids.nbytes

    def saved(self) -> SavedIndex:
        """Returns everything, as of one moment."""
        with self._lock:
            table = self.content.table
            return SavedIndex(
                self.dim,
                self.metric,
                self._removed,
                self.content.segments,
                self._next_id,
                self.exponent,
                None if table is None else table.by_number(),
            )

    def with_integer_ids(self) -> tuple[SavedIndex, list[str]]:
        """Returns the documents of a store with strings by number, and the string of each."""
        saved = self.saved()
        assert saved.names is not None
        names = np.full(len(saved.names), "", object)
        for segment in saved.segments:
            numbers = segment.live_ids()
            names[numbers] = saved.names[numbers]
        documents = SavedIndex(
            self.dim, self.metric, no_rows(self._width), saved.segments, len(names), saved.exponent
        )
        return documents, names.tolist()

    def with_numbers(self, options: SearchOptions) -> tuple[IndexContent, SearchOptions]:
        """Returns what a search sees, and its options with numbers where they have strings.

        A string that was removed meanwhile, or given to another document, would not filter what the
        search sees; no such change has happened where the content is still the same.
        """
        content = self.content
        numbered = content.with_numbers(options)
        if numbered is not options and self.content is not content:
            with self._lock:
                content = self.content
                numbered = content.with_numbers(options)
        return content, numbered

    def gathered(self, ids: Array, op: str) -> tuple[Vectors, bool]:
        """Returns the stored vectors ``[n, width]`` of documents, and whether a single id came."""
        content = self.content
        given = content.given(ids, op)
        rows_by_segment = locate(content.segments, given.numbers, op, given.shown)
        if not content.segments:
            return np.empty((0, self._width), np.float32), given.single
        return gathered(content.segments, rows_by_segment), given.single

    def add(
        self,
        op: str,
        vectors: Array,
        ids: Array | None,
        copy: bool | None,
        nonfinite: str,
        num_threads: int | None,
    ) -> None:
        """Adds documents."""
        rows = self._stored_rows(op, vectors, copy, nonfinite)
        threads = checked_threads(num_threads, op)
        strings = holds_strings(ids)
        with self._lock:
            self._check_dtype(op, rows.vectors)
            if self.content.table is not None or (strings and not self._next_id):
                self._add_strings(op, rows, ids, nonfinite, threads)
                return
            numbers = new_ids(ids, len(rows), self._next_id, op)
            if ids is not None:
                self.content.check_free(op, GivenIds(numbers, None, False), _REPLACE)
            if len(rows):
                self._append(self._packed(op, rows, numbers, nonfinite, threads))

    def replace(
        self,
        op: str,
        vectors: Array,
        ids: Array,
        copy: bool | None,
        nonfinite: str,
        num_threads: int | None,
    ) -> None:
        """Gives documents other vectors."""
        rows = self._stored_rows(op, vectors, copy, nonfinite)
        threads = checked_threads(num_threads, op)
        with self._lock:
            given = self.content.given(ids, op)
            check_count(len(given.numbers), len(rows), op)
            given.check_unique(op)
            self._check_dtype(op, rows.vectors)
            rows_by_segment = locate(self.content.segments, given.numbers, op, given.shown)
            if len(rows):
                segment = self._packed(op, rows, given.numbers.copy(), nonfinite, threads)
                self._append(segment, after=_without(self.content.segments, rows_by_segment))

    def remove(self, op: str, ids: Array, keep: bool) -> None:
        """Removes documents, and keeps their vectors aside if asked to."""
        with self._lock:
            given = self.content.given(ids, op)
            given.check_unique(op)
            segments = self.content.segments
            rows_by_segment = locate(segments, given.numbers, op, given.shown)
            if keep and len(given.numbers):
                vectors = gathered(segments, rows_by_segment)
                self._removed = self._removed.with_rows(vectors, given.numbers.copy(), op)
            self._set_segments(compacted(_without(segments, rows_by_segment)))
            table = self.content.table
            if not keep and table is not None:
                table.forget(given.numbers)
                self._number_anew()
            self._forget_residents()

    def restore(self, op: str, ids: Array) -> None:
        """Adds documents again that were kept aside."""
        with self._lock:
            given = self.content.given(ids, op)
            given.check_unique(op)
            rows = self._removed.rows_of(given.numbers, op, given.shown)
            if len(rows):
                self._check_dtype(op, self._removed.vectors)
                vectors = self._removed.vectors[rows]
                self._append(make_segment(vectors, given.numbers.copy()))

    def merge(self, op: str, other: DocumentStore, offset: int) -> None:
        """Adds the documents of another store, whose segments are shared."""
        content = other.content
        if content.table is not None and offset:
            raise ValueError(f"{op}: id_offset must be 0 where ids are strings, got {offset}")
        with self._lock:
            self._check_kind_of_ids(op, other)
            if not content.segments:
                return
            segments, names = content.to_merge(self.content, offset, op)
            if self.exponent is None:
                self.exponent = other.exponent
            elif self.exponent != other.exponent:
                segments = [_of_exponent(s, self.dim, self.exponent) for s in segments]
            if segments:
                self._check_dtype(op, segments[0].vectors)
            if names is not None:
                self._take_names(op, names)
            else:
                for segment in segments:
                    given = GivenIds(segment.live_ids(), None, False)
                    self.content.check_free(op, given, "id_offset renumbers those of other")
            if segments:
                self._append(*segments)

    @property
    def _width(self) -> int:
        return self.dim + (self.metric == "l2")

    def _stored_rows(self, op: str, vectors: Array, copy: bool | None, nonfinite: str) -> _NewRows:
        """Checks new vectors and returns them as the index stores them."""
        checked_policy(nonfinite, op)
        rows = as_vectors(vectors, op, "vectors")
        check_dim(op, "vectors", rows.shape[1], "the index has", self.dim)
        if self.metric != "ip":
            if copy is False:
                raise ValueError(f"{op}: copy=False is not possible with metric {self.metric!r}")
            return (
                _NewRows(unit_vectors(rows))
                if self.metric == "cosine"
                else self._augmented(op, rows)
            )
        if copy is None:
            copy = not (isinstance(rows, np.memmap) and not rows.flags.writeable)
        if copy and (rows is vectors or rows.base is not None):  # as_vectors made no copy yet
            rows = rows.copy()
        return _NewRows(rows)

    def _augmented(self, op: str, rows: Vectors) -> _NewRows:
        check_norms(rows, op, "vectors")
        exponent = chosen_exponent(rows) if self.exponent is None else self.exponent
        return _NewRows(augmented(rows, exponent), exponent)

    def _check_dtype(self, op: str, vectors: Vectors) -> None:
        stored = self.dtype
        if stored is not None and dtype_name(vectors) != stored:
            raise TypeError(
                f"{op}: the index has dtype {stored} "
                f"but vectors are {dtype_name(vectors)}; convert them"
            )

    # What follows needs the lock.

    def _packed(
        self,
        op: str,
        rows: _NewRows,
        numbers: NDArray[np.int64],
        nonfinite: str,
        num_threads: int,
    ) -> Segment:
        """Packs new rows, the first of which decide the exponent of an l2 index.

        Raises:
            ValueError: a row is not finite, if the policy is to raise; nothing has changed then.
        """
        vectors = rows.vectors
        if self.exponent is not None and rows.exponent != self.exponent:  # another thread's first
            vectors = augmented(vectors[:, : self.dim], self.exponent)
        segment = make_segment(vectors, numbers, num_threads)
        if segment.nonfinite is not None and nonfinite == "error":
            raise nonfinite_error(op, "vectors", int(np.argmax(segment.nonfinite)))
        if self.exponent is None:
            self.exponent = rows.exponent
        return segment

    def _add_strings(
        self, op: str, rows: _NewRows, ids: Any, nonfinite: str, num_threads: int
    ) -> None:
        """Adds documents under strings, with the next numbers."""
        if ids is None:
            raise ValueError(f"{op}: this index has ids that are strings; pass ids")
        names = as_strings(ids, op, "ids")
        check_count(len(names), len(rows), op)
        check_distinct(op, names)
        table = IdTable() if self.content.table is None else self.content.table
        earlier = table.numbers(names)
        self.content.check_free(op, GivenIds(earlier, names, False), _REPLACE)
        if len(rows):
            numbers = np.arange(len(table), len(table) + len(rows), dtype=np.int64)
            segment = self._packed(op, rows, numbers, nonfinite, num_threads)
            self._name(table, names, earlier)
            self._append(segment)

    def _take_names(self, op: str, names: Names) -> None:
        """Gives the next numbers to the strings of another index."""
        table = IdTable() if self.content.table is None else self.content.table
        live = [name for name in names.tolist() if name is not None]
        earlier = table.numbers(live)
        advice = "remove it from one of the two"
        self.content.check_free(op, GivenIds(earlier, live, False), advice)
        self._name(table, names, earlier)

    def _name(
        self, table: IdTable, names: Sequence[str] | Names, earlier: NDArray[np.int64]
    ) -> None:
        """Appends names to the table of the index; documents that had them cannot be restored."""
        table.append(names)
        self._removed = self._removed.without(earlier)
        self.content = IndexContent(self.content.segments, table)

    def _check_kind_of_ids(self, op: str, other: DocumentStore) -> None:
        mine, theirs = (
            "strings" if store.content.table is not None else "integers" if store._next_id else ""
            for store in (self, other)
        )
        if mine and theirs and mine != theirs:
            raise TypeError(f"{op}: ids of other are {theirs}, but those of the index are {mine}")

    def _append(self, *added: Segment, after: Sequence[Segment] | None = None) -> None:
        """Puts new segments after those of the index or some given ones, at once."""
        for segment in added:
            self._next_id = max(self._next_id, int(segment.ids.max()) + 1)
            self._removed = self._removed.without(segment.live_ids())
        earlier = self.content.segments if after is None else after
        self._set_segments(compacted([*earlier, *added]))
        self._number_anew()
        self._forget_residents()

    def _set_segments(self, segments: tuple[Segment, ...]) -> None:
        self.content = IndexContent(segments, self.content.table)

    def _number_anew(self) -> None:
        """Makes a table shorter in which most numbers have no string."""
        table = self.content.table
        if table is not None and len(table) > 2 * table.n_known + _SPARSE:
            anew = renumbered(self.content.segments, self._removed, table.names)
            self._removed, self._next_id = anew.removed, len(anew.names)
            self.content = IndexContent(anew.segments, IdTable(anew.names))

    def _forget_residents(self) -> None:
        """Frees the device of segments that are no longer in the index."""
        if self._residents is not None:
            self._residents.keep_only(self.content.segments)


def _without(
    segments: Sequence[Segment], rows_by_segment: Sequence[NDArray[np.int64]]
) -> list[Segment]:
    """Returns the segments without some rows of each; -1 is no row."""
    left = [
        segment.without(rows[rows >= 0]) if (rows >= 0).any() else segment
        for segment, rows in zip(segments, rows_by_segment, strict=True)
    ]
    return [segment for segment in left if len(segment)]


def _of_exponent(segment: Segment, dim: int, exponent: int) -> Segment:
    """Returns a segment of an l2 index for an index with another exponent."""
    left = merge([segment])
    return make_segment(augmented(left.vectors[:, :dim], exponent), left.ids)
