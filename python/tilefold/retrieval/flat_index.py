"""FlatIndex: exact inner-product search over documents that are packed once."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Self, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from ..arrays import (
    BFLOAT16,
    Array,
    as_array,
    check_dim,
    widened,
)
from ..integers import as_integer
from ..placement import placement_on
from ..progress import Progress
from .device_search import DeviceSearch
from .document_fold import DocumentFold
from .document_store import DocumentStore
from .flat_folder import SavedIndex, checked_dim, read_folder, write_folder
from .foreign_names import explains_names
from .index_content import IndexContent
from .l2_search import L2Search
from .metric import checked_metric, unit_queries
from .removed_rows import no_rows
from .resident_segments import ResidentSegments
from .running_range import CertifiedRangeResult, RangeResult, RunningRange
from .running_search import CertifiedResult, RunningSearch, SearchResult
from .search_options import (
    RangeKeywords,
    SearchKeywords,
    SearchOptions,
    warn_of_empty,
)
from .segment import Segment


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

    @explains_names("FlatIndex")
    def __init__(self, dim: int, *, metric: str = "ip", device: Any = "cpu") -> None:
        dim = checked_dim(dim, "FlatIndex")
        metric = checked_metric(metric, "FlatIndex")
        self._placement = placement_on(device, "FlatIndex")
        if self._placement is not None and metric == "l2":
            raise ValueError(
                f'FlatIndex: metric "l2" is on the CPU alone, got device {str(device)!r}; with '
                'unit vectors, "cosine" gives the same order'
            )
        self._residents = None if self._placement is None else ResidentSegments(self._placement)
        self._store = DocumentStore(SavedIndex(dim, metric, no_rows(dim)), self._residents)

    @classmethod
    def _of(cls, saved: SavedIndex, device: Any) -> Self:
        index = cls(saved.dim, metric=saved.metric, device=device)
        index._store = DocumentStore(saved, index._residents)
        return index

    def __len__(self) -> int:
        return sum(map(len, self._store.content.segments))

    def __contains__(self, id: object) -> bool:
        return self._store.content.contains(id)

    def __repr__(self) -> str:
        metric = "" if self.metric == "ip" else f", metric={self.metric!r}"
        device = "" if self._placement is None else f", device={self.device!r}"
        size = f"dtype={self.dtype}, documents={len(self)}"
        return f"FlatIndex(dim={self.dim}, {size}{metric}{device})"

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self._store.dim

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
        return self._store.content.table is not None

    @property
    def metric(self) -> str:
        """What `search` returns: "ip", "l2" or "cosine"."""
        return self._store.metric

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Immutable snapshot of the documents, for code that folds them into its own search.

        Raises:
            ValueError: the metric is not "ip", so that inner products with the stored vectors are
                not its scores; or ids are strings.
        """
        if self.metric != "ip":
            raise ValueError(
                f"FlatIndex.segments: this index has metric {self.metric!r}, and shards and "
                'mining take inner products; build one with metric="ip" (of unit vectors, for '
                "cosines)"
            )
        if self.has_string_ids:
            raise ValueError(
                "FlatIndex.segments: this index has ids that are strings, and shards and mining "
                "take integers: those of with_integer_ids()"
            )
        return self._store.content.segments

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
        if not self.has_string_ids:
            raise ValueError("FlatIndex.with_integer_ids: this index has integer ids already")
        saved, names = self._store.with_integer_ids()
        return FlatIndex._of(saved, self.device), names

    @property
    def ids(self) -> NDArray[Any]:
        """Ids of the documents, in the order in which they were added."""
        return self._store.content.ids()

    @property
    def dtype(self) -> str | None:
        """Dtype in which vectors are stored, that of the first `add`; None while empty."""
        return self._store.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of vectors, integer ids and packed documents, memory maps included."""
        return self._store.nbytes

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
        self._store.add("FlatIndex.add", vectors, ids, copy, nonfinite, num_threads)

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
        self._store.replace("FlatIndex.replace", vectors, ids, copy, nonfinite, num_threads)

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
        self._store.remove("FlatIndex.remove", ids, keep)

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
        self._store.restore("FlatIndex.restore", ids)

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
        if other.metric != self.metric:
            raise ValueError(
                f"{op}: other has metric {other.metric!r} but the index has {self.metric!r}"
            )
        self._store.merge(op, other._store, offset)

    def reconstruct(self, ids: Array) -> NDArray[Any]:
        """Returns the vectors of documents as they were added, bfloat16 as float32.

        Args:
            ids: ``[n]`` ids, or a single id.

        Returns:
            ``[n, dim]``; ``[dim]`` for a single id.

        Raises:
            ValueError: an id is not in the index.
        """
        rows, single = self._store.gathered(ids, "FlatIndex.reconstruct")
        result = rows[:, : self.dim]
        vectors = widened(result) if result.dtype == BFLOAT16 else np.ascontiguousarray(result)
        return vectors[0] if single else vectors

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
        content, options = self._store.with_numbers(options)
        if not content.segments:
            warn_of_empty(options.op, -1 if content.table is None else None)
        found: SearchResult | CertifiedResult
        found = self._with_strings(content, self._search(content.segments, queries, k, options))
        return found

    def _search(
        self, segments: tuple[Segment, ...], queries: Array, k: int, options: SearchOptions
    ) -> Any:
        total = sum(len(s.ids) for s in segments)
        if self.metric == "l2":
            return self._l2_search(segments, queries, options).nearest(k)
        if self._placement is not None and self._residents is not None:
            on_device = DeviceSearch(
                queries,
                k,
                options,
                self._placement,
                total=total,
                unit=self.metric == "cosine",
            )
            self._check_queries(on_device)
            on_device.fold_residents(segments, self._residents)
            return on_device.result()
        if self.metric == "cosine":
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
        content, options = self._store.with_numbers(options)
        found: RangeResult | CertifiedRangeResult
        found = self._with_strings(content, self._range(content.segments, queries, options))
        return found

    def _range(self, segments: tuple[Segment, ...], queries: Array, options: SearchOptions) -> Any:
        if self.metric == "l2":
            return self._l2_search(segments, queries, options).within()
        if self.metric == "cosine":
            queries = unit_queries(queries, options.op)
        running = RunningRange(queries, options, total=sum(len(s.ids) for s in segments))
        self._fold(running, segments)
        return running.result()

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
        write_folder(Path(folder), self._store.saved())

    @classmethod
    def load(
        cls, folder: str | Path, mmap: bool = True, *, verify: bool = True, device: Any = "cpu"
    ) -> Self:
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
        return cls._of(read_folder(Path(folder), mmap=mmap, verify=verify), device)

    def __getstate__(self) -> dict[str, Any]:
        saved = self._store.saved()
        state = {field.name: getattr(saved, field.name) for field in fields(saved)}
        return state | {"device": self.device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = {"metric": "ip", "device": "cpu", "removed": no_rows(state["dim"]), **state}
        device = state.pop("device")
        self.__init__(state["dim"], metric=state["metric"], device=device)  # type: ignore[misc]
        self._store = DocumentStore(SavedIndex(**state), self._residents)

    def _check_queries(self, running: DocumentFold) -> None:
        check_dim(running.op, "queries", running.queries.shape[1], "documents have", self.dim)

    def _fold(self, running: DocumentFold, segments: tuple[Segment, ...]) -> None:
        self._check_queries(running)
        for segment in segments:
            segment.fold_into(running)

    def _l2_search(
        self, segments: tuple[Segment, ...], queries: Array, options: SearchOptions
    ) -> L2Search:
        return L2Search(segments, self._store.exponent or 0, self.dim, queries, options)
