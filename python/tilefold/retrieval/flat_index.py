"""FlatIndex: exact inner-product search over documents that are packed once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace as copy_with
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
from ..integers import as_integer
from ..placement import placement_on
from ..progress import Progress
from .device_search import DeviceSearch
from .document_fold import DocumentFold, nonfinite_error
from .document_ids import new_ids
from .flat_folder import SavedIndex, checked_dim, read_folder, write_folder
from .foreign_names import explains_names
from .l2_search import L2Search, augmented, check_norms, chosen_exponent
from .locks import renew_in_children
from .metric import checked_metric, unit_queries, unit_vectors
from .removed_rows import no_rows
from .resident_segments import ResidentSegments
from .running_range import CertifiedRangeResult, RangeResult, RunningRange
from .running_search import CertifiedResult, RunningSearch, SearchResult
from .search_options import (
    SearchOptions,
    checked_policy,
    checked_threads,
    warn_of_empty,
)
from .segment import Segment, gathered, make_segment, merge
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
    """

    def __init__(self, dim: int, *, metric: str = "ip", device: Any = "cpu") -> None:
        self.dim = checked_dim(dim, "FlatIndex")
        self._metric = checked_metric(metric, "FlatIndex")
        self._place(device)
        self._exponent: int | None = None  # of an l2 index; see l2_search
        self._segments: tuple[Segment, ...] = ()
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
    def metric(self) -> str:
        """What `search` returns: "ip", "l2" or "cosine"."""
        return self._metric

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Immutable snapshot of the documents, for code that folds them into its own search.

        Raises:
            ValueError: the metric is not "ip", so that inner products with the stored vectors are
                not its scores.
        """
        if self._metric != "ip":
            raise ValueError(
                f"FlatIndex.segments: this index has metric {self._metric!r}, and shards and "
                'mining take inner products; build one with metric="ip" (of unit vectors, for '
                "cosines)"
            )
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
            ids: ``[rows]`` integers >= 0, not yet in the index (`replace` gives documents other
                vectors). By default consecutive integers
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
        op = "FlatIndex.add"
        rows = self._stored_rows(op, vectors, copy, nonfinite)
        threads = checked_threads(num_threads, op)
        with self._lock:
            self._check_dtype(op, rows)
            added = self._new_ids(ids, len(rows))
            if len(rows):
                segment = _checked_segment(op, rows, added, nonfinite, threads)
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
        id_list, _ = as_id_list(ids, op, "ids")
        replaced = new_ids(id_list, len(rows), 0, op)
        with self._lock:
            self._check_dtype(op, rows)
            rows_by_segment = locate(self._segments, replaced, op)
            if len(rows):
                segment = _checked_segment(op, rows, replaced, nonfinite, threads)
                self._append(_without(self._segments, rows_by_segment), segment)

    def remove(self, ids: Array, *, keep: bool = False) -> None:
        """Removes documents by id.

        Args:
            ids: ``[n]`` integers, or a single id.
            keep: whether to keep the vectors aside, so that `restore` can add the documents again.
                They are saved with the index and take memory until they are restored or their ids
                are given again.

        Raises:
            TypeError: documents of another dtype are kept; no document is removed then.
            ValueError: an id is not in the index, or twice in `ids`; no document is removed then.
        """
        op = "FlatIndex.remove"
        id_list, _ = as_id_list(ids, op, "ids")
        check_unique(op, id_list)
        with self._lock:
            rows_by_segment = locate(self._segments, id_list, op)
            if keep and len(id_list):
                vectors = gathered(self._segments, rows_by_segment)
                self._removed = self._removed.with_rows(vectors, id_list.copy(), op)
            self._segments = compacted(_without(self._segments, rows_by_segment))
            self._forget_replaced()

    def restore(self, ids: Array) -> None:
        """Adds documents again that were removed with ``keep=True``, with the same vectors.

        They come last in `ids`.

        Args:
            ids: ``[n]`` integers, or a single id.

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
        id_list, _ = as_id_list(ids, op, "ids")
        check_unique(op, id_list)
        with self._lock:
            rows = self._removed.rows_of(id_list, op)
            if len(rows):
                self._check_dtype(op, self._removed.vectors)
                segment = make_segment(self._removed.vectors[rows], id_list.copy())
                self._append(self._segments, segment)

    def merge(self, other: FlatIndex, *, id_offset: int = 0) -> None:
        """Adds the documents of another index, which stays as it is.

        Vectors and packed documents are shared between the two, not copied or packed again, unless
        they are few. What `other` keeps for `restore` is left out.

        Args:
            other: an index with the same dim and dtype.
            id_offset: added to each id of `other`.

        Raises:
            TypeError: `other` is no FlatIndex, or has another dtype.
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
        segments = [_renumbered(segment, offset, op) for segment in other._segments]
        with self._lock:
            if self._exponent is None:
                self._exponent = other._exponent
            elif self._exponent != other._exponent:
                segments = [_of_exponent(s, self.dim, self._exponent) for s in segments]
            if segments:
                self._check_dtype(op, segments[0].vectors)
            for segment in segments:
                self._check_free(op, segment.live_ids(), "id_offset renumbers those of other")
            if segments:
                self._append(self._segments, *segments)

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
        if not segments:
            return np.empty((0, self.dim), np.float32)
        result = gathered(segments, rows_by_segment)[:, : self.dim]
        vectors = widened(result) if result.dtype == BFLOAT16 else np.ascontiguousarray(result)
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
        segments = self._segments
        total = sum(len(s.ids) for s in segments)
        if not segments:
            warn_of_empty("FlatIndex.search")
        if self._metric == "l2":
            return self._l2_search(queries, options).nearest(k)
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
        segments = self._segments
        if self._placement is not None:
            raise ValueError(
                f"{options.op}: an index on {self.device} has no range search; save it and load it "
                'with device="cpu"'
            )
        if self._metric == "l2":
            return self._l2_search(queries, options).within()
        if self._metric == "cosine":
            queries = unit_queries(queries, options.op)
        running = RunningRange(queries, options, total=sum(len(s.ids) for s in segments))
        self._fold(running, segments)
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
            content = SavedIndex(
                self.dim,
                self._segments,
                self._next_id,
                self._removed,
                self._metric,
                self._exponent,
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
        index._segments, index._next_id = content.segments, content.next_id
        index._removed = content.removed
        return index

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {
                "dim": self.dim,
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
        self._segments, self._next_id = state["segments"], state["next_id"]
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

    def _l2_search(self, queries: Array, options: SearchOptions) -> L2Search:
        return L2Search(self._segments, self._exponent or 0, self.dim, queries, options)

    def _append(self, segments: Sequence[Segment], *added: Segment) -> None:
        """Replaces the segments by some and new ones, at once; needs the lock."""
        for segment in added:
            self._next_id = max(self._next_id, int(segment.ids.max()) + 1)
            self._removed = self._removed.without(segment.live_ids())
        self._segments = compacted([*segments, *added])
        self._forget_replaced()

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

    def _check_free(self, op: str, ids: NDArray[np.int64], advice: str) -> None:
        for segment in self._segments:
            taken = ids[segment.find(ids) >= 0]
            if len(taken):
                raise ValueError(f"{op}: id {taken[0]} is already in the index; {advice}")

    def _new_ids(self, ids: Array | None, n_rows: int) -> NDArray[np.int64]:
        added = new_ids(ids, n_rows, self._next_id, "FlatIndex.add")
        if ids is not None:
            self._check_free("FlatIndex.add", added, "replace() gives it another vector")
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


def _renumbered(segment: Segment, offset: int, op: str) -> Segment:
    """Returns a segment with other ids; rows that are removed keep any."""
    live = segment.live_ids()
    low, high = int(live.min()) + offset, int(live.max()) + offset
    if low < 0 or high >= 2**63:
        raise ValueError(f"{op}: ids of other would be {low} to {high}, and must be 0 to 2^63 - 1")
    if not offset:
        return segment
    if segment.live is not None:  # the ids of removed rows could leave the range
        segment = merge([segment])
    return copy_with(segment, ids=segment.ids + offset)
