"""FlatIndex: exact inner-product search over documents that are packed once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import (
    BFLOAT16,
    Array,
    Vectors,
    as_id_list,
    as_ids,
    as_vectors,
    check_dim,
    check_unique,
    dtype_name,
    widened,
)
from ..progress import Progress
from .document_ids import new_ids
from .euclidean import hits_within, search_nearest
from .flat_folder import checked_dim, read_folder, write_folder
from .foreign_names import explains_names
from .locks import renew_in_children
from .metrics import Metric, checked_metric, searched_queries, stored_vectors
from .range_search import RangeResult, check_min_score, find_hits, range_result
from .running_search import (
    CertifiedResult,
    RunningSearch,
    SearchResult,
    nonfinite_error,
)
from .search_options import (
    SearchOptions,
    as_integer,
    checked_policy,
    checked_threads,
    warn_of_empty,
)
from .segment import Segment, make_segment
from .segment_list import (
    check_absent,
    compacted,
    forgetting,
    locate,
    restored,
    without_ids,
)


class FlatIndex:
    """Exact inner-product search over an index: documents are packed once and searched often.

    Answers equal those of `search`: the same bits for every instruction set, number of threads,
    batch size and order of `add`. Beside the vectors the index stores one byte per dimension and 24
    bytes per document.

    Any number of threads may search while one adds or removes: a search uses the documents that the
    index had when the search began.

    Args:
        dim: dimensions of the vectors.
        metric: how documents are scored. "ip": the inner product. "cosine": the inner product of
            vectors scaled to length one when they are added or searched for, which are stored as
            float32; zeros score 0. "l2": minus the squared Euclidean distance, so that the best
            score is the largest here, too; vectors are stored as float32, and three more columns.
            All are exact: the same bits everywhere.

    Raises:
        TypeError: dim is not an integer.
        ValueError: dim is below 1, or an unknown metric.

    Example:
        >>> import numpy as np
        >>> index = FlatIndex(2)
        >>> index.add(np.float32([[1, 0], [0, 1], [1, 1]]), ids=[10, 20, 30])
        >>> index.search(np.float32([[2, 1]]), k=2).ids
        array([[30, 10]])
        >>> nearest = FlatIndex(2, metric="l2")
        >>> nearest.add(np.float32([[1, 0], [0, 1], [1, 1]]), ids=[10, 20, 30])
        >>> nearest.search(np.float32([[2, 1]]), k=2)
        SearchResult(scores=array([[-1., -2.]], dtype=float32), ids=array([[30, 10]]))
    """

    def __init__(self, dim: int, metric: Metric = "ip") -> None:
        self.dim = checked_dim(dim, "FlatIndex")
        self.metric = checked_metric(metric, "FlatIndex")
        self._segments: tuple[Segment, ...] = ()
        self._next_id = 0
        self._start_locks()
        renew_in_children(self)

    def _start_locks(self) -> None:
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(map(len, self._segments))

    def __contains__(self, id: object) -> bool:
        try:
            number = as_integer(id, "FlatIndex", "id")
        except TypeError:
            return False
        if not 0 <= number < 2**63:
            return False
        return any(s.find(np.array([number]))[0] >= 0 for s in self._segments)

    def __repr__(self) -> str:
        metric = "" if self.metric == "ip" else f", metric={self.metric!r}"
        return f"FlatIndex(dim={self.dim}{metric}, dtype={self.dtype}, documents={len(self)})"

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Immutable snapshot of the documents, for code that folds them into its own search."""
        return self._segments

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the documents, in the order in which they were added."""
        parts = [s.live_ids() for s in self._segments]
        return np.concatenate([np.empty(0, np.int64), *parts])

    @property
    def dtype(self) -> str | None:
        """Dtype in which vectors are stored, that of the first `add`; None while empty."""
        segments = self._segments
        return dtype_name(segments[0].vectors) if segments else None

    @property
    def nbytes(self) -> int:
        """Bytes of vectors, ids and packed documents, memory maps included."""
        total = 0
        for s in self._segments:
            total += s.vectors.nbytes + s.ids.nbytes
            total += s.packed.codes.nbytes + s.packed.bounds.nbytes if s.packed else 0
        return total

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
            ids: ``[rows]`` integers >= 0, not yet in the index. By default consecutive integers
                from one more than the largest id ever added, so that ids are never reused.
            copy: whether to copy the vectors. False keeps a reference, and they must not change
                afterwards. By default everything is copied except read-only memory maps.
            nonfinite: "error" raises for a row with NaN or infinity; "exclude" adds such a row, but
                never retrieves it.
            num_threads: by default `get_num_threads()`.

        Raises:
            TypeError: vectors have a dtype that cannot be searched, or not that of the index.
            ValueError: vectors have another dim or a non-finite row; ids are negative, repeated or
                taken. No document is added then.
        """
        checked_policy(nonfinite, "FlatIndex.add")
        rows = self._rows_to_add(vectors, copy, "FlatIndex.add")
        with self._lock:
            added = new_ids(ids, len(rows), self._next_id, "FlatIndex.add")
            if ids is not None:
                check_absent(self._segments, added, "FlatIndex.add")
            new = self._new_segments(rows, added, nonfinite, num_threads, "FlatIndex.add")
            self._next_id = max(self._next_id, int(added.max(initial=-1)) + 1)
            self._segments = compacted([*forgetting(self._segments, added), *new])

    def replace(
        self,
        vectors: Array,
        ids: Array,
        *,
        nonfinite: str = "error",
        num_threads: int | None = None,
    ) -> None:
        """Replaces the vectors of documents, in one step for every search.

        A replaced document counts as added last in `ids`, the property.

        Args:
            vectors: ``[rows, dim]``, of the dtype of the index; they are copied.
            ids: ``[rows]`` ids that the index has.
            nonfinite, num_threads: as in `add`.

        Raises:
            TypeError, ValueError: as in `add`; an id is not in the index, or twice in `ids`; no
                document is replaced then.

        Example:
            >>> import numpy as np
            >>> index = FlatIndex(2)
            >>> index.add(np.float32([[1, 0], [0, 1]]), ids=[10, 20])
            >>> index.replace(np.float32([[0, 3]]), ids=[10])
            >>> index.search(np.float32([[0, 1]]), k=2).ids
            array([[10, 20]])
        """
        op = "FlatIndex.replace"
        replaced = as_ids(ids, op, "ids")
        check_unique(op, replaced)
        rows = self._rows_to_add(vectors, None, op)
        if len(replaced) != len(rows):
            raise ValueError(f"{op}: expected {len(rows)} ids, one per vector, got {len(replaced)}")
        with self._lock:
            others = without_ids(self._segments, replaced, op)
            new = self._new_segments(rows, replaced.copy(), nonfinite, num_threads, op)
            self._segments = compacted([*others, *new])

    def remove(self, ids: Array, *, keep: bool = False) -> None:
        """Removes documents by id.

        Args:
            ids: ``[n]`` integers, or a single id.
            keep: whether to keep the vectors, so that `restore` can undo the removal. They take
                their memory until it does, or until a document is added with their id, and are not
                saved with the index.

        Raises:
            ValueError: an id is not in the index, or twice in `ids`; no document is removed then.
        """
        id_list, _ = as_id_list(ids, "FlatIndex.remove", "ids")
        check_unique("FlatIndex.remove", id_list)
        with self._lock:
            segments = without_ids(self._segments, id_list, "FlatIndex.remove", keep=keep)
            self._segments = compacted(segments)

    def restore(self, ids: Array) -> None:
        """Undoes the removal of documents that were removed with ``keep=True``.

        Raises:
            ValueError: an id is not kept, is in the index again, or is twice in `ids`; no document
                is restored then.

        Example:
            >>> import numpy as np
            >>> index = FlatIndex(2)
            >>> index.add(np.float32([[1, 0], [0, 1]]), ids=[10, 20])
            >>> index.remove([10], keep=True)
            >>> index.restore([10])
            >>> index.search(np.float32([[1, 0]]), k=1).ids
            array([[10]])
        """
        op = "FlatIndex.restore"
        id_list, _ = as_id_list(ids, op, "ids")
        check_unique(op, id_list)
        with self._lock:
            check_absent(self._segments, id_list, op)
            self._segments = restored(self._segments, id_list, op)

    def merge_from(self, other: FlatIndex) -> None:
        """Adds all documents of another index with their ids; nothing is scored, packed or copied.

        Args:
            other: an index of the same dim, metric and dtype. It stays as it is.

        Raises:
            TypeError: no `FlatIndex`, or vectors of another dtype.
            ValueError: another dim or metric, or an id is in both; nothing is added then.

        Example:
            >>> import numpy as np
            >>> one, other = FlatIndex(2), FlatIndex(2)
            >>> one.add(np.float32([[1, 0]]), ids=[10])
            >>> other.add(np.float32([[0, 1]]), ids=[20])
            >>> one.merge_from(other)
            >>> one.ids
            array([10, 20])
        """
        op = "FlatIndex.merge_from"
        if not isinstance(other, FlatIndex):
            raise TypeError(f"{op}: other must be a FlatIndex, got {type(other).__name__}")
        segments, next_id = other._segments, other._next_id
        added = np.concatenate([np.empty(0, np.int64), *(s.live_ids() for s in segments)])
        check_dim(op, "documents of other", other.dim, "the index has", self.dim)
        if other.metric != self.metric:
            raise ValueError(
                f'{op}: other must have metric="{self.metric}" like the index, got "{other.metric}"'
            )
        with self._lock:
            for segment in segments:
                self._check_dtype(segment.vectors, op)
            check_absent(self._segments, added, op)
            self._next_id = max(self._next_id, next_id)
            own = forgetting(
                self._segments, np.concatenate([[-1], *(s.live_ids() for s in segments)])
            )
            self._segments = compacted([*own, *segments])

    def reconstruct(self, ids: Array) -> NDArray[Any]:
        """Returns the vectors of documents as they were added, bfloat16 as float32.

        With ``metric="cosine"``, vectors of length one.

        Args:
            ids: ``[n]`` integers, or a single id.

        Returns:
            ``[n, dim]``; ``[dim]`` for a single id.

        Raises:
            ValueError: an id is not in the index.
        """
        id_list, single = as_id_list(ids, "FlatIndex.reconstruct", "ids")
        segments = self._segments
        rows_by_segment = locate(segments, id_list, "FlatIndex.reconstruct")
        dtype = segments[0].vectors.dtype if segments else np.dtype(np.float32)
        result = np.empty((len(id_list), self.dim), dtype)
        for segment, rows in zip(segments, rows_by_segment, strict=True):
            here = rows >= 0
            result[here] = segment.vectors[rows[here], : self.dim]
        vectors: NDArray[Any] = widened(result) if dtype == BFLOAT16 else result
        return vectors[0] if single else vectors

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

        Arguments, result and errors are those of `tilefold.search`; ids are those of the index. A
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
        segments = self._segments
        if not segments:
            warn_of_empty("FlatIndex.search")
        if self.metric == "l2" and (max_score is not None or return_certificate):
            name = "max_score" if max_score is not None else "return_certificate"
            raise ValueError(
                f'FlatIndex.search: {name} does not go with metric="l2"; '
                "range_search takes max_score"
            )
        running = self._start(queries, k, options, segments)
        if self.metric == "l2":
            running.scores, running.ids = search_nearest(running, segments, self.dim)
            running.advance(sum(len(s.ids) for s in segments))
            return running.result()
        for segment in segments:
            segment.fold_into(running)
        return running.result()

    def range_search(
        self,
        queries: Array,
        min_score: Any,
        *,
        allowed: Array | None = None,
        exclude: Any = None,
        max_score: Any = None,
        nonfinite: str = "error",
        num_threads: int | None = None,
        progress: Progress | None = None,
    ) -> RangeResult:
        """All documents that score at least a bound, exactly.

        Arguments, result and errors are those of `tilefold.range_search`; ids are those of the
        index. With ``metric="l2"``, ``min_score=-r**2`` finds the documents within a distance r.
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
        )
        check_min_score(options)
        segments = self._segments
        running = self._start(queries, 1, options, segments)
        if self.metric == "l2":
            return range_result(running, [hits_within(running, segments, self.dim)])
        return range_result(running, find_hits(running, segments))

    def save(self, folder: str | Path) -> None:
        """Writes the index to a folder: safetensors and a JSON manifest with checksums.

        A folder that already holds an index is replaced as a whole: after a crash or on a full
        disk, it holds either the old index or the new one.

        Raises:
            ValueError: the folder holds something else.
            OSError: it could not be written; its previous content is intact.
        """
        with self._lock:
            segments, next_id = self._segments, self._next_id
        write_folder(Path(folder), self.dim, self.metric, segments, next_id)

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True, *, verify: bool = True) -> FlatIndex:
        """Reads an index that `save` wrote.

        Args:
            folder: the folder.
            mmap: whether to map the vectors into memory, so that several processes share them,
                instead of reading them.
            verify: whether to compare checksums, which reads every byte once, and to look for
                repeated ids. Without, a bit that a faulty disk changed gives other answers, and
                nothing says so. Sizes and headers are always checked.

        Raises:
            FileNotFoundError: no index there.
            ValueError: another kind of folder, a newer format, or a corrupted file.
        """
        dim, metric, segments, next_id = read_folder(Path(folder), mmap=mmap, verify=verify)
        index = cls(dim, metric)
        index._segments, index._next_id = segments, next_id
        return index

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {"dim": self.dim, "metric": self.metric}
            return state | {"segments": self._segments, "next_id": self._next_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["dim"], state["metric"])  # type: ignore[misc]
        self._segments, self._next_id = state["segments"], state["next_id"]

    def _start(
        self, queries: Array, k: int, options: SearchOptions, segments: tuple[Segment, ...]
    ) -> RunningSearch:
        """Begins a search of segments, for which the metric converts the queries."""

        def convert(vectors: Vectors) -> Vectors:
            check_dim(options.op, "queries", vectors.shape[1], "documents have", self.dim)
            return searched_queries(vectors, self.metric)

        total = sum(len(s.ids) for s in segments)
        return RunningSearch(queries, k, options, total=total, convert=convert)

    def _rows_to_add(self, vectors: Array, copy: bool | None, op: str) -> Vectors:
        """Checks vectors, and converts them to those that the index stores."""
        rows = as_vectors(vectors, op, "vectors")
        check_dim(op, "vectors", rows.shape[1], "the index has", self.dim)
        if self.metric != "ip":
            return stored_vectors(rows, self.metric, op)
        if copy is None:
            copy = not (isinstance(rows, np.memmap) and not rows.flags.writeable)
        # as_vectors may have made a copy already.
        return rows.copy() if copy and (rows is vectors or rows.base is not None) else rows

    def _new_segments(
        self,
        rows: Vectors,
        ids: NDArray[np.int64],
        nonfinite: str,
        num_threads: int | None,
        op: str,
    ) -> list[Segment]:
        """Packs rows, if there are any; the lock is held, as the dtype must not change."""
        self._check_dtype(rows, op)
        if not len(rows):
            return []
        segment = make_segment(rows, ids, checked_threads(num_threads, op))
        if segment.nonfinite is not None and checked_policy(nonfinite, op) == "error":
            raise nonfinite_error(op, "vectors", int(np.argmax(segment.nonfinite)))
        return [segment]

    def _check_dtype(self, vectors: Vectors, op: str) -> None:
        stored = self.dtype
        if stored is not None and dtype_name(vectors) != stored:
            raise TypeError(
                f"{op}: the index has dtype {stored} "
                f"but vectors are {dtype_name(vectors)}; convert them"
            )
