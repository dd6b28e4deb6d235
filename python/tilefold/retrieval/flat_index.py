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
    as_vectors,
    check_dim,
    check_unique,
    dtype_name,
    widened,
)
from ..progress import Progress
from .document_ids import new_ids
from .flat_folder import checked_dim, read_folder, write_folder
from .foreign_names import explains_names
from .locks import renew_in_children
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
from .segment_list import compacted, locate


class FlatIndex:
    """Exact inner-product search over an index: documents are packed once and searched often.

    Answers equal those of `search`: the same bits for every instruction set, number of threads,
    batch size and order of `add`. Beside the vectors the index stores one byte per dimension and 24
    bytes per document.

    Any number of threads may search while one adds or removes: a search uses the documents that the
    index had when the search began.

    Args:
        dim: dimensions of the vectors.

    Raises:
        TypeError: dim is not an integer.
        ValueError: dim is below 1.

    Example:
        >>> import numpy as np
        >>> index = FlatIndex(2)
        >>> index.add(np.float32([[1, 0], [0, 1], [1, 1]]), ids=[10, 20, 30])
        >>> index.search(np.float32([[2, 1]]), k=2).ids
        array([[30, 10]])
    """

    def __init__(self, dim: int) -> None:
        self.dim = checked_dim(dim, "FlatIndex")
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
        return f"FlatIndex(dim={self.dim}, dtype={self.dtype}, documents={len(self)})"

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
        threads = checked_threads(num_threads, "FlatIndex.add")
        rows = as_vectors(vectors, "FlatIndex.add", "vectors")
        check_dim("FlatIndex.add", "vectors", rows.shape[1], "the index has", self.dim)
        if copy is None:
            copy = not (isinstance(rows, np.memmap) and not rows.flags.writeable)
        if copy and (rows is vectors or rows.base is not None):  # as_vectors made no copy yet
            rows = rows.copy()
        with self._lock:
            self._check_dtype(rows)
            added = self._new_ids(ids, len(rows))
            if not len(rows):
                return
            segment = make_segment(rows, added, threads)
            if segment.nonfinite is not None and nonfinite == "error":
                bad = int(np.argmax(segment.nonfinite))
                raise nonfinite_error("FlatIndex.add", "vectors", bad)
            self._next_id = max(self._next_id, int(added.max()) + 1)
            self._segments = compacted([*self._segments, segment])

    def remove(self, ids: Array) -> None:
        """Removes documents by id.

        Raises:
            ValueError: an id is not in the index, or twice in `ids`; no document is removed then.
        """
        id_list, _ = as_id_list(ids, "FlatIndex.remove", "ids")
        check_unique("FlatIndex.remove", id_list)
        with self._lock:
            rows_by_segment = locate(self._segments, id_list, "FlatIndex.remove")
            segments = [
                segment.without(rows[rows >= 0]) if (rows >= 0).any() else segment
                for segment, rows in zip(self._segments, rows_by_segment, strict=True)
            ]
            self._segments = compacted([s for s in segments if len(s)])

    def reconstruct(self, ids: Array) -> NDArray[Any]:
        """Returns the vectors of documents as they were added, bfloat16 as float32.

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
            result[here] = segment.vectors[rows[here]]
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
        running = RunningSearch(queries, k, options, total=sum(len(s.ids) for s in segments))
        check_dim(running.op, "queries", running.queries.shape[1], "documents have", self.dim)
        for segment in segments:
            segment.fold_into(running)
        return running.result()

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
        write_folder(Path(folder), self.dim, segments, next_id)

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True, *, verify: bool = True) -> FlatIndex:
        """Reads an index that `save` wrote.

        Args:
            folder: the folder.
            mmap: whether to map the vectors into memory, so that several processes share them,
                instead of reading them.
            verify: whether to compare checksums, which reads every byte once. Sizes and headers
                are always checked.

        Raises:
            FileNotFoundError: no index there.
            ValueError: another kind of folder, a newer format, or a corrupted file.
        """
        dim, segments, next_id = read_folder(Path(folder), mmap=mmap, verify=verify)
        index = cls(dim)
        index._segments, index._next_id = segments, next_id
        return index

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {"dim": self.dim, "segments": self._segments, "next_id": self._next_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["dim"])  # type: ignore[misc]
        self._segments, self._next_id = state["segments"], state["next_id"]

    def _check_dtype(self, vectors: Vectors) -> None:
        stored = self.dtype
        if stored is not None and dtype_name(vectors) != stored:
            raise TypeError(
                f"FlatIndex.add: the index has dtype {stored} "
                f"but vectors are {dtype_name(vectors)}; convert them"
            )

    def _new_ids(self, ids: Array | None, n_rows: int) -> NDArray[np.int64]:
        added = new_ids(ids, n_rows, self._next_id, "FlatIndex.add")
        for segment in self._segments if ids is not None else ():
            taken = added[segment.find(added) >= 0]
            if len(taken):
                raise ValueError(f"FlatIndex.add: id {taken[0]} is already in the index")
        return added
