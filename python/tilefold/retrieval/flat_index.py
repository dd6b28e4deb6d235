"""FlatIndex: exact inner-product search over documents that are packed once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from ..arrays import (
    BFLOAT16,
    Array,
    Vectors,
    as_array,
    as_vectors,
    check_dim,
    dtype_name,
    widened,
)
from ..integers import as_integer
from ..placement import placement_on
from ..progress import Progress
from .dense_numbers import renumbered
from .device_search import DeviceSearch
from .document_fold import DocumentFold, nonfinite_error
from .document_ids import check_count, new_ids
from .flat_folder import SavedIndex, checked_dim, read_folder, write_folder
from .foreign_names import explains_names
from .id_table import GivenIds, IdTable, Names
from .index_content import IndexContent
from .l2_search import L2Search, augmented, check_norms, chosen_exponent
from .locks import renew_in_children
from .metric import checked_metric, unit_queries, unit_vectors
from .removed_rows import no_rows
from .resident_segments import ResidentSegments
from .running_range import CertifiedRangeResult, RangeResult, RunningRange
from .running_search import CertifiedResult, RunningSearch, SearchResult
from .search_options import (
    RangeKeywords,
    SearchKeywords,
    SearchOptions,
    checked_policy,
    checked_threads,
    warn_of_empty,
)
from .segment import Segment, gathered, make_segment, merge
from .segment_list import compacted, locate
from .string_ids import as_strings, check_distinct, holds_strings

# Numbers without a string, above which the other half, and so the table, is numbered anew.
_SPARSE = 1024
_REPLACE = "replace() gives it another vector"


class FlatIndex:
    """Exact inner-product search over an index: documents are packed once and searched often.

    Answers equal those of `search`: the same bits for every instruction set, number of threads,
    batch size and order of `add`. Beside the vectors the index stores one byte per dimension and 24
    bytes per document.

    Any number of threads may search while one adds or removes: a search uses the documents that the
    index had when the search began.

    Ids are integers, or strings where the first ids are some, as those of BEIR: see `add`.

    Args:
        dim: dimensions of the vectors.
        metric: what `search` returns.

            - "ip": inner products, largest first.
            - "cosine": inner products of unit vectors. The index stores float32 vectors of norm 1
              (rows of zeros stay, and have cosine 0 with everything), which `reconstruct` returns.
              The bits are those of `reference.unit_vectors` and `reference.canonical_scores`.
            - "l2": *squared* L2 distances, smallest first, as in faiss; ties by id, padding inf.
              Distances are computed from differences in fp64 and rounded once, so close vectors
              lose nothing; the bits are those of `reference.squared_distances`. ``max_score`` is
              the largest squared distance, ``min_score`` is refused. The index stores float32
              vectors with one column more. A certificate's threshold and bound are scores
              ``<q, x> - |x|^2 / 2``.

            All have the same bits for every instruction set, number of threads and batch size.
            Shards, mining and `HnswIndex` take inner products only.
        device: where `search` runs. With "cuda" or "cuda:1", queries must be tensors on that GPU
            and answers are, with the bits of the CPU. The index stays on the host as well, for
            everything else; documents are copied to the GPU when they are first searched, and sent
            there for every search where they do not fit. k is at most 4,096, num_threads of a
            search has no effect, and metric "l2" and `range_search` are on the CPU alone.

    Raises:
        TypeError: dim is not an integer.
        ValueError: dim is below 1, an unknown metric, or a device that this build or this machine
            does not have.

    Example:
        >>> import numpy as np
        >>> index = FlatIndex(2)
        >>> index.add(np.float32([[1, 0], [0, 1], [1, 1]]), ids=[10, 20, 30])
        >>> index.search(np.float32([[2, 1]]), k=2).ids
        array([[30, 10]])
        >>> index = FlatIndex(2)
        >>> index.add(np.float32([[1, 0], [0, 1]]), ids=["d1", "d7"])
        >>> index.search(np.float32([[2, 1]]), k=2, exclude=[["d1"]]).ids
        array([['d7', None]], dtype=object)
    """

    def __init__(self, dim: int, *, metric: str = "ip", device: Any = "cpu") -> None:
        self.dim = checked_dim(dim, "FlatIndex")
        self._metric = checked_metric(metric, "FlatIndex")
        self._place(device)
        self._exponent: int | None = None  # of an l2 index; see l2_search
        self._content = IndexContent()
        self._removed = no_rows(self.dim)
        self._next_id = 0
        self._start_locks()
        renew_in_children(self)

    def _place(self, device: Any) -> None:
        self._placement = placement_on(device, "FlatIndex")
        if self._placement is not None and self._metric == "l2":
            raise ValueError(
                f'FlatIndex: metric "l2" is on the CPU alone, got device {str(device)!r}; with '
                'unit vectors, "cosine" gives the same order'
            )
        self._residents: ResidentSegments | None = None
        if self._placement is not None:
            self._residents = ResidentSegments(self._placement)

    def _start_locks(self) -> None:
        self._lock = threading.Lock()

    @property
    def _segments(self) -> tuple[Segment, ...]:
        return self._content.segments

    @_segments.setter
    def _segments(self, segments: tuple[Segment, ...]) -> None:
        self._content = IndexContent(segments, self._content.table)

    def __len__(self) -> int:
        return sum(map(len, self._segments))

    def __contains__(self, id: object) -> bool:
        return self._content.contains(id)

    def __repr__(self) -> str:
        metric = "" if self._metric == "ip" else f", metric={self._metric!r}"
        device = "" if self._placement is None else f", device={self.device!r}"
        size = f"dtype={self.dtype}, documents={len(self)}"
        return f"FlatIndex(dim={self.dim}, {size}{metric}{device})"

    @property
    def device(self) -> str:
        """Where `search` runs, such as "cpu" or "cuda:0"."""
        return "cpu" if self._placement is None else self._placement.device

    @property
    def residents(self) -> ResidentSegments | None:
        """The segments on the device, for code that searches them there; None for the host."""
        return self._residents

    @property
    def has_string_ids(self) -> bool:
        """Whether ids are strings, which the first documents decide; see `add`."""
        return self._content.table is not None

    @property
    def metric(self) -> str:
        """What `search` returns: "ip", "l2" or "cosine"."""
        return self._metric

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Immutable snapshot of the documents, for code that folds them into its own search.

        Raises:
            ValueError: the metric is not "ip", so that inner products with the stored vectors are
                not its scores; or ids are strings.
        """
        if self._metric != "ip":
            raise ValueError(
                f"FlatIndex.segments: this index has metric {self._metric!r}, and shards and "
                'mining take inner products; build one with metric="ip" (of unit vectors, for '
                "cosines)"
            )
        if self._content.table is not None:
            raise ValueError(
                "FlatIndex.segments: this index has ids that are strings, and shards and mining "
                "take integers: those of with_integer_ids()"
            )
        return self._segments

    def with_integer_ids(self) -> tuple[FlatIndex, list[str]]:
        """Returns an index of the same documents whose ids are integers, and the string of each.

        For shards, mining and others that take integers alone. Vectors and packed documents are
        shared, and later changes of one index are not seen in the other.

        Returns:
            The index, in which ties have the same order, and the string of each of its ids; "" for
            integers that no document has.

        Raises:
            ValueError: the index has integer ids already.

        Example:
            >>> index = FlatIndex(2)
            >>> index.add(np.float32([[1, 0], [0, 1]]), ids=["d1", "d7"])
            >>> numbered, names = index.with_integer_ids()
            >>> [names[i] for i in numbered.search(np.float32([0, 1]), k=2).ids]
            ['d7', 'd1']
        """
        with self._lock:
            content = self._content
            if content.table is None:
                raise ValueError("FlatIndex.with_integer_ids: this index has integer ids already")
            numbered = FlatIndex(self.dim, metric=self._metric, device=self.device)
            numbered._exponent = self._exponent
            numbered._content = IndexContent(content.segments)
            numbered._next_id = len(content.table)
            names = [""] * len(content.table)
            for segment in content.segments:
                there = segment.live_ids()
                for number, name in zip(
                    there.tolist(), content.table.names(there).tolist(), strict=True
                ):
                    names[number] = name
        return numbered, names

    @property
    def ids(self) -> NDArray[Any]:
        """Ids of the documents, in the order in which they were added."""
        return self._content.ids()

    @property
    def dtype(self) -> str | None:
        """Dtype in which vectors are stored, that of the first `add`; None while empty."""
        segments = self._segments
        return dtype_name(segments[0].vectors) if segments else None

    @property
    def nbytes(self) -> int:
        """Bytes of vectors, integer ids and packed documents, memory maps included."""
        total = 0
        for s in self._segments:
            total += s.vectors.nbytes + s.ids.nbytes
            total += s.packed.codes.nbytes + s.packed.bounds.nbytes if s.packed else 0
        return total + self._removed.vectors.nbytes + self._removed.ids.nbytes

    def add(
        self,
        vectors: Array,
        ids: Array | None = None,
        *,
        copy: bool | None = None,
        nonfinite: str = "error",
        num_threads: int | None = None,
    ) -> None:
        """Adds documents.

        Args:
            vectors: ``[rows, dim]``; the first add sets the dtype of the index.
            ids: ``[rows]`` integers >= 0, or strings, not yet in the index (`replace` gives
                documents other vectors). By default consecutive integers from one more than the
                largest id ever added, so that ids are never reused.

                The first ids decide which of the two an index has. Strings are not empty; they
                are compared as they are, none stripped or normalized. All methods then take and
                return them: answers have an array of objects, None where there are fewer than k
                documents, and NumPy's for queries of any library, since no other holds strings.
                Documents with the same score come in the order in which they were added; one that
                is removed and added again counts as new. Scores have the bits that they have with
                integers. Memory is about 75 bytes per document beside the strings, of which Python
                keeps each in 50 bytes and its letters. Shards, mining and `HnswIndex` take
                integers only.
            copy: whether to copy the vectors. False keeps a reference, and they must not change
                afterwards. By default everything is copied except read-only memory maps.
            nonfinite: "error" raises for a row with NaN or infinity; "exclude" adds such a row, but
                never retrieves it.
            num_threads: by default `get_num_threads()`.

        Raises:
            TypeError: vectors have a dtype that cannot be searched, or not that of the index.
            ValueError: vectors have another dim or a non-finite row; ids are negative, repeated,
                taken, empty or missing. No document is added then.
        """
        op = "FlatIndex.add"
        rows = self._stored_rows(op, vectors, copy, nonfinite)
        threads = checked_threads(num_threads, op)
        strings = holds_strings(ids)
        with self._lock:
            self._check_dtype(op, rows)
            table = self._content.table
            if table is not None or (strings and not self._next_id):
                self._add_strings(op, rows, ids, nonfinite, threads)
                return
            added = self._new_ids(ids, len(rows))
            if len(rows):
                segment = _checked_segment(op, rows, added, nonfinite, threads)
                self._append(self._segments, segment)

    def _add_strings(
        self, op: str, rows: Vectors, ids: Any, nonfinite: str, num_threads: int
    ) -> None:
        """Adds documents under strings, with the next numbers; needs the lock."""
        if ids is None:
            raise ValueError(f"{op}: this index has ids that are strings; pass ids")
        names = as_strings(ids, op, "ids")
        check_count(len(names), len(rows), op)
        check_distinct(op, names)
        table = IdTable() if self._content.table is None else self._content.table
        earlier = table.numbers(names)
        self._content.check_free(op, GivenIds(earlier, names, False), _REPLACE)
        if len(rows):
            numbers = np.arange(len(table), len(table) + len(rows), dtype=np.int64)
            segment = _checked_segment(op, rows, numbers, nonfinite, num_threads)
            table.append(names)
            self._removed = self._removed.without(earlier)
            self._content = IndexContent(self._segments, table)
            self._append(self._segments, segment)

    def replace(
        self,
        vectors: Array,
        ids: Array,
        *,
        copy: bool | None = None,
        nonfinite: str = "error",
        num_threads: int | None = None,
    ) -> None:
        """Gives documents of the index other vectors.

        Equals `remove` and `add` with the same ids, in one step: a concurrent search uses all the
        earlier vectors or all the new ones. Replaced documents come last in `ids`.

        Args:
            vectors: ``[rows, dim]``, of the dtype of the index.
            ids: ``[rows]`` ids in the index, each once.
            copy, nonfinite, num_threads: as in `add`.

        Raises:
            TypeError: vectors have a dtype that cannot be searched, or not that of the index.
            ValueError: vectors have another dim or a non-finite row; an id is repeated or not in
                the index. No document is replaced then.

        Example:
            >>> import numpy as np
            >>> index = FlatIndex(2)
            >>> index.add(np.float32([[1, 0], [0, 1]]))
            >>> index.replace(np.float32([[3, 3]]), ids=[0])
            >>> index.reconstruct(0)
            array([3., 3.], dtype=float32)
        """
        op = "FlatIndex.replace"
        rows = self._stored_rows(op, vectors, copy, nonfinite)
        threads = checked_threads(num_threads, op)
        with self._lock:
            given = self._content.given(ids, op)
            check_count(len(given.numbers), len(rows), op)
            given.check_unique(op)
            self._check_dtype(op, rows)
            rows_by_segment = locate(self._segments, given.numbers, op, given.shown)
            if len(rows):
                segment = _checked_segment(op, rows, given.numbers.copy(), nonfinite, threads)
                self._append(_without(self._segments, rows_by_segment), segment)

    def remove(self, ids: Array, *, keep: bool = False) -> None:
        """Removes documents by id.

        Args:
            ids: ``[n]`` ids, or a single id.
            keep: whether to keep the vectors aside, so that `restore` can add the documents again.
                They are saved with the index and take memory until they are restored or their ids
                are given again.

        Raises:
            TypeError: documents of another dtype are kept; no document is removed then.
            ValueError: an id is not in the index, or twice in `ids`; no document is removed then.
        """
        op = "FlatIndex.remove"
        with self._lock:
            given = self._content.given(ids, op)
            given.check_unique(op)
            rows_by_segment = locate(self._segments, given.numbers, op, given.shown)
            if keep and len(given.numbers):
                vectors = gathered(self._segments, rows_by_segment)
                self._removed = self._removed.with_rows(vectors, given.numbers.copy(), op)
            self._segments = compacted(_without(self._segments, rows_by_segment))
            if not keep:
                self._forget_strings(given.numbers)
            self._forget_replaced()

    def restore(self, ids: Array) -> None:
        """Adds documents again that were removed with ``keep=True``, with the same vectors.

        They come last in `ids`.

        Args:
            ids: ``[n]`` ids, or a single id.

        Raises:
            ValueError: a document was not removed with ``keep=True``, its id was given again since,
                or is twice in `ids`; no document is restored then.

        Example:
            >>> import numpy as np
            >>> index = FlatIndex(2)
            >>> index.add(np.float32([[1, 0], [0, 1]]))
            >>> index.remove([0], keep=True)
            >>> index.restore([0])
            >>> index.ids
            array([1, 0])
        """
        op = "FlatIndex.restore"
        with self._lock:
            given = self._content.given(ids, op)
            given.check_unique(op)
            rows = self._removed.rows_of(given.numbers, op, given.shown)
            if len(rows):
                self._check_dtype(op, self._removed.vectors)
                segment = make_segment(self._removed.vectors[rows], given.numbers.copy())
                self._append(self._segments, segment)

    def merge(self, other: FlatIndex, *, id_offset: int = 0) -> None:
        """Adds the documents of another index, which stays as it is.

        Vectors and packed documents are shared between the two, not copied or packed again, unless
        they are few. What `other` keeps for `restore` is left out.

        Args:
            other: an index with the same dim and dtype.
            id_offset: added to each id of `other`; 0 where ids are strings.

        Raises:
            TypeError: `other` is no FlatIndex, or has another dtype or another kind of ids.
            ValueError: `other` has another dim; an id is already in this index or leaves the
                range 0 to 2^63 - 1. No document is added then.

        Example:
            >>> import numpy as np
            >>> first, second = FlatIndex(2), FlatIndex(2)
            >>> first.add(np.float32([[1, 0]]))
            >>> second.add(np.float32([[0, 1]]))
            >>> first.merge(second, id_offset=10)
            >>> first.ids
            array([ 0, 10])
        """
        op = "FlatIndex.merge"
        if not isinstance(other, FlatIndex):
            raise TypeError(f"{op}: other must be a FlatIndex, got {type(other).__name__}")
        offset = as_integer(id_offset, op, "id_offset")
        check_dim(op, "documents of other", other.dim, "the index has", self.dim)
        if other.metric != self._metric:
            raise ValueError(
                f"{op}: other has metric {other.metric!r} but the index has {self._metric!r}"
            )
        content = other._content
        if content.table is not None and offset:
            raise ValueError(f"{op}: id_offset must be 0 where ids are strings, got {offset}")
        with self._lock:
            self._check_kind_of_ids(op, other)
            if not content.segments:
                return
            segments, names = content.to_merge(self._content, offset, op)
            if self._exponent is None:
                self._exponent = other._exponent
            elif self._exponent != other._exponent:
                segments = [_of_exponent(s, self.dim, self._exponent) for s in segments]
            if segments:
                self._check_dtype(op, segments[0].vectors)
            if names is not None:
                self._take_names(op, names)
            else:
                for segment in segments:
                    given = GivenIds(segment.live_ids(), None, False)
                    self._content.check_free(op, given, "id_offset renumbers those of other")
            if segments:
                self._append(self._segments, *segments)

    def _check_kind_of_ids(self, op: str, other: FlatIndex) -> None:
        mine, theirs = (
            "strings" if index._content.table is not None else "integers" if index._next_id else ""
            for index in (self, other)
        )
        if mine and theirs and mine != theirs:
            raise TypeError(f"{op}: ids of other are {theirs}, but those of the index are {mine}")

    def _take_names(self, op: str, names: Names) -> None:
        """Gives the next numbers to the strings of another index; needs the lock."""
        table = IdTable() if self._content.table is None else self._content.table
        live = [name for name in names.tolist() if name is not None]
        earlier = table.numbers(live)
        self._content.check_free(
            op, GivenIds(earlier, live, False), "remove it from one of the two"
        )
        table.append(names)
        self._removed = self._removed.without(earlier)
        self._content = IndexContent(self._segments, table)

    def reconstruct(self, ids: Array) -> NDArray[Any]:
        """Returns the vectors of documents as they were added, bfloat16 as float32.

        Args:
            ids: ``[n]`` ids, or a single id.

        Returns:
            ``[n, dim]``; ``[dim]`` for a single id.

        Raises:
            ValueError: an id is not in the index.
        """
        op = "FlatIndex.reconstruct"
        content = self._content
        segments, given = content.segments, content.given(ids, op)
        rows_by_segment = locate(segments, given.numbers, op, given.shown)
        if not segments:
            return np.empty((0, self.dim), np.float32)
        result = gathered(segments, rows_by_segment)[:, : self.dim]
        vectors = widened(result) if result.dtype == BFLOAT16 else np.ascontiguousarray(result)
        return vectors[0] if given.single else vectors

    @overload
    def search(
        self,
        queries: Array,
        k: int,
        *,
        return_certificate: Literal[False] = False,
        **options: Unpack[SearchKeywords],
    ) -> SearchResult: ...

    @overload
    def search(
        self,
        queries: Array,
        k: int,
        *,
        return_certificate: Literal[True],
        **options: Unpack[SearchKeywords],
    ) -> CertifiedResult: ...

    @overload
    def search(
        self,
        queries: Array,
        k: int,
        *,
        return_certificate: bool,
        **options: Unpack[SearchKeywords],
    ) -> SearchResult | CertifiedResult: ...

    @explains_names("FlatIndex.search")
    def search(
        self,
        queries: Array,
        k: int,
        *,
        allowed: Array | None = None,
        exclude: Any = None,
        min_score: Any = None,
        max_score: Any = None,
        nonfinite: str = "error",
        num_threads: int | None = None,
        progress: Progress | None = None,
        return_certificate: bool = False,
    ) -> SearchResult | CertifiedResult:
        """The k documents with the largest inner products for every query, exactly.

        Arguments, result and errors are those of `tilefold.search`; ids are those of the index.
        The largest cosines, or the smallest L2 distances, if that is the metric of the index. A
        search of an empty index warns.
        """
        options = SearchOptions(
            op="FlatIndex.search",
            allowed=allowed,
            exclude=exclude,
            min_score=min_score,
            max_score=max_score,
            nonfinite=nonfinite,
            num_threads=num_threads,
            progress=progress,
            return_certificate=return_certificate,
        )
        content, options = self._with_numbers(options)
        if not content.segments:
            warn_of_empty(options.op, -1 if content.table is None else None)
        found: SearchResult | CertifiedResult
        found = self._with_strings(content, self._search(content.segments, queries, k, options))
        return found

    def _search(
        self, segments: tuple[Segment, ...], queries: Array, k: int, options: SearchOptions
    ) -> Any:
        total = sum(len(s.ids) for s in segments)
        if self._metric == "l2":
            return self._l2_search(segments, queries, options).nearest(k)
        if self._placement is not None and self._residents is not None:
            on_device = DeviceSearch(
                queries,
                k,
                options,
                self._placement,
                total=total,
                unit=self._metric == "cosine",
            )
            self._check_queries(on_device)
            on_device.fold_residents(segments, self._residents)
            return on_device.result()
        if self._metric == "cosine":
            queries = unit_queries(queries, options.op)
        running = RunningSearch(queries, k, options, total=total)
        self._fold(running, segments)
        return running.result()

    @overload
    def range_search(
        self,
        queries: Array,
        min_score: Any = None,
        *,
        return_certificate: Literal[False] = False,
        **options: Unpack[RangeKeywords],
    ) -> RangeResult: ...

    @overload
    def range_search(
        self,
        queries: Array,
        min_score: Any = None,
        *,
        return_certificate: Literal[True],
        **options: Unpack[RangeKeywords],
    ) -> CertifiedRangeResult: ...

    @overload
    def range_search(
        self,
        queries: Array,
        min_score: Any = None,
        *,
        return_certificate: bool,
        **options: Unpack[RangeKeywords],
    ) -> RangeResult | CertifiedRangeResult: ...

    @explains_names("FlatIndex.range_search")
    def range_search(
        self,
        queries: Array,
        min_score: Any = None,
        *,
        allowed: Array | None = None,
        exclude: Any = None,
        max_score: Any = None,
        nonfinite: str = "error",
        num_threads: int | None = None,
        progress: Progress | None = None,
        return_certificate: bool = False,
    ) -> RangeResult | CertifiedRangeResult:
        """Every document that scores at least min_score, exactly.

        Arguments, result and errors are those of `tilefold.range_search`; ids are those of the
        index. With metric "l2", min_score is left out, and every document whose squared distance
        is at most max_score is returned, nearest first.
        """
        options = SearchOptions(
            op="FlatIndex.range_search",
            allowed=allowed,
            exclude=exclude,
            min_score=min_score,
            max_score=max_score,
            nonfinite=nonfinite,
            num_threads=num_threads,
            progress=progress,
            return_certificate=return_certificate,
        )
        if self._placement is not None:
            raise ValueError(
                f"{options.op}: an index on {self.device} has no range search; save it and load it "
                'with device="cpu"'
            )
        content, options = self._with_numbers(options)
        found: RangeResult | CertifiedRangeResult
        found = self._with_strings(content, self._range(content.segments, queries, options))
        return found

    def _range(self, segments: tuple[Segment, ...], queries: Array, options: SearchOptions) -> Any:
        if self._metric == "l2":
            return self._l2_search(segments, queries, options).within()
        if self._metric == "cosine":
            queries = unit_queries(queries, options.op)
        running = RunningRange(queries, options, total=sum(len(s.ids) for s in segments))
        self._fold(running, segments)
        return running.result()

    def _with_numbers(self, options: SearchOptions) -> tuple[IndexContent, SearchOptions]:
        """Returns what a search sees, and its options with numbers where they have strings.

        A string that was removed meanwhile, or given to another document, would not filter what the
        search sees; no such change has happened where the content is still the same.
        """
        content = self._content
        numbered = content.with_numbers(options)
        if numbered is not options and self._content is not content:
            with self._lock:
                content = self._content
                numbered = content.with_numbers(options)
        return content, numbered

    def _with_strings(self, content: IndexContent, found: Any) -> Any:
        """Returns an answer with strings for numbers, if the index has them."""
        if content.table is None:
            return found
        if self._placement is not None:
            numbers = self._placement.fetch(found.ids)
        else:
            numbers = as_array(found.ids, "FlatIndex.search", "ids")
        return found._replace(ids=content.table.names(numbers))

    def save(self, folder: str | Path) -> None:
        """Writes the index to a folder: safetensors and a JSON manifest with checksums.

        A folder that already holds an index is replaced as a whole: after a crash or on a full
        disk, it holds either the old index or the new one.

        Raises:
            ValueError: the folder holds something else.
            OSError: it could not be written; its previous content is intact.
        """
        with self._lock:
            table = self._content.table
            content = SavedIndex(
                self.dim,
                self._segments,
                self._next_id,
                self._removed,
                self._metric,
                self._exponent,
                None if table is None else table.by_number(),
            )
        write_folder(Path(folder), content)

    @classmethod
    def load(
        cls, folder: str | Path, mmap: bool = True, *, verify: bool = True, device: Any = "cpu"
    ) -> FlatIndex:
        """Reads an index that `save` wrote.

        Args:
            folder: the folder.
            mmap: whether to map the vectors into memory, so that several processes share them,
                instead of reading them.
            verify: whether to compare checksums, which reads every byte once, and to look for
                repeated ids. Without, a bit that a faulty disk changed gives other answers, and
                nothing says so. Sizes and headers are always checked.
            device: where `search` runs, as in `FlatIndex`.

        Raises:
            FileNotFoundError: no index there.
            ValueError: another kind of folder, a newer format, or a corrupted file.
        """
        content = read_folder(Path(folder), mmap=mmap, verify=verify)
        index = cls(content.dim, metric=content.metric, device=device)
        index._exponent = content.exponent
        table = None if content.names is None else IdTable(content.names)
        index._content, index._next_id = IndexContent(content.segments, table), content.next_id
        index._removed = content.removed
        return index

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            table = self._content.table
            return {
                "dim": self.dim,
                "names": None if table is None else table.by_number(),
                "segments": self._segments,
                "next_id": self._next_id,
                "removed": self._removed,
                "metric": self._metric,
                "exponent": self._exponent,
                "device": self.device,
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]
            state["dim"], metric=state.get("metric", "ip"), device=state.get("device", "cpu")
        )
        self._exponent = state.get("exponent")
        names = state.get("names")
        table = None if names is None else IdTable(names)
        self._content, self._next_id = IndexContent(state["segments"], table), state["next_id"]
        self._removed = state.get("removed", self._removed)

    def _check_queries(self, running: DocumentFold) -> None:
        check_dim(running.op, "queries", running.queries.shape[1], "documents have", self.dim)

    def _fold(self, running: DocumentFold, segments: tuple[Segment, ...]) -> None:
        self._check_queries(running)
        for segment in segments:
            segment.fold_into(running)

    def _stored_rows(self, op: str, vectors: Array, copy: bool | None, nonfinite: str) -> Vectors:
        """Checks new vectors and returns them as the index stores them."""
        checked_policy(nonfinite, op)
        rows = as_vectors(vectors, op, "vectors")
        check_dim(op, "vectors", rows.shape[1], "the index has", self.dim)
        if self._metric != "ip":
            if copy is False:
                raise ValueError(f"{op}: copy=False is not possible with metric {self._metric!r}")
            return self._converted_rows(op, rows)
        if copy is None:
            copy = not (isinstance(rows, np.memmap) and not rows.flags.writeable)
        if copy and (rows is vectors or rows.base is not None):  # as_vectors made no copy yet
            rows = rows.copy()
        return rows

    def _converted_rows(self, op: str, rows: Vectors) -> Vectors:
        """Returns unit vectors, or those of `l2_search`."""
        if self._metric == "cosine":
            return unit_vectors(rows)
        check_norms(rows, op, "vectors")
        with self._lock:
            if self._exponent is None and len(rows):
                self._exponent = chosen_exponent(rows)
        return augmented(rows, self._exponent or 0)

    def _l2_search(
        self, segments: tuple[Segment, ...], queries: Array, options: SearchOptions
    ) -> L2Search:
        return L2Search(segments, self._exponent or 0, self.dim, queries, options)

    def _append(self, segments: Sequence[Segment], *added: Segment) -> None:
        """Replaces the segments by some and new ones, at once; needs the lock."""
        for segment in added:
            self._next_id = max(self._next_id, int(segment.ids.max()) + 1)
            self._removed = self._removed.without(segment.live_ids())
        self._segments = compacted([*segments, *added])
        self._number_anew()
        self._forget_replaced()

    def _forget_strings(self, numbers: NDArray[np.int64]) -> None:
        """Frees the strings of removed documents, in time; needs the lock."""
        table = self._content.table
        if table is None:
            return
        table.forget(numbers)
        self._number_anew()

    def _number_anew(self) -> None:
        """Makes a table shorter in which most numbers have no string; needs the lock."""
        table = self._content.table
        if table is not None and len(table) > 2 * table.n_known + _SPARSE:
            anew = renumbered(self._segments, self._removed, table.names)
            self._removed, self._next_id = anew.removed, len(anew.names)
            self._content = IndexContent(anew.segments, IdTable(anew.names))

    def _forget_replaced(self) -> None:
        """Frees the device of segments that are no longer in the index."""
        if self._residents is not None:
            self._residents.keep_only(self._segments)

    def _check_dtype(self, op: str, vectors: Vectors) -> None:
        stored = self.dtype
        if stored is not None and dtype_name(vectors) != stored:
            raise TypeError(
                f"{op}: the index has dtype {stored} "
                f"but vectors are {dtype_name(vectors)}; convert them"
            )

    def _new_ids(self, ids: Array | None, n_rows: int) -> NDArray[np.int64]:
        added = new_ids(ids, n_rows, self._next_id, "FlatIndex.add")
        if ids is not None:
            self._content.check_free("FlatIndex.add", GivenIds(added, None, False), _REPLACE)
        return added


def _checked_segment(
    op: str, rows: Vectors, ids: NDArray[np.int64], nonfinite: str, num_threads: int
) -> Segment:
    """Packs new rows; raises for a non-finite one, if the policy is to."""
    segment = make_segment(rows, ids, num_threads)
    if segment.nonfinite is not None and nonfinite == "error":
        raise nonfinite_error(op, "vectors", int(np.argmax(segment.nonfinite)))
    return segment


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
