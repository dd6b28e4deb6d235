"""FlatIndex: exact inner-product search over documents that stay."""

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
from ..files.storage import CorruptedFolderError, map_tensors, open_folder, publish, write_tensors
from ..progress import Progress
from .locks import renew_in_children
from .packing import BLOCK_ROWS, Packed
from .running_search import (
    CertifiedResult,
    RunningSearch,
    SearchResult,
    nonfinite_error,
)
from .search_options import SearchOptions, as_integer, checked_policy, checked_threads
from .segment import Segment, make_segment, merge

_KIND = "tilefold.FlatIndex"
_VERSION = 1
# Smaller segments are merged with their neighbour: a call of the kernels per segment costs little
# beside the search of this many documents.
_SMALL = 65_536
# What a file of a segment holds beside its vectors.
_DTYPES = {
    "ids": np.int64,
    "codes": np.uint8,
    "bounds": np.float32,
    "live": np.bool_,
    "nonfinite": np.bool_,
}


class FlatIndex:
    """Exact inner-product search over documents that stay: pack once, search often.

    Answers are those of `search`: the same bits for every instruction set, number of threads, batch
    size and order of `add`. Beside the vectors the index keeps a byte per dimension and 24 bytes
    per document.

    Any number of threads may search while one adds or removes: a search sees the index as it was
    when it began.

    Args:
        dim: dimensions of the vectors.

    Example:
        >>> import numpy as np
        >>> index = FlatIndex(2)
        >>> index.add(np.float32([[1, 0], [0, 1], [1, 1]]), ids=[10, 20, 30])
        >>> index.search(np.float32([[2, 1]]), k=2).ids
        array([[30, 10]])
    """

    def __init__(self, dim: int) -> None:
        self.dim = as_integer(dim, "FlatIndex", "dim")
        if self.dim < 1:
            raise ValueError(f"FlatIndex: dim must be at least 1, got {dim}")
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
            wanted = as_integer(id, "FlatIndex", "id")
        except TypeError:
            return False
        if not 0 <= wanted < 2**63:
            return False
        return any(s.find(np.array([wanted]))[0] >= 0 for s in self._segments)

    def __repr__(self) -> str:
        return f"FlatIndex(dim={self.dim}, dtype={self.dtype}, documents={len(self)})"

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The index as it is now, for those who fold it themselves; it never changes."""
        return self._segments

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids of the documents, in the order in which they were added."""
        parts = [s.live_ids() for s in self._segments]
        return np.concatenate([np.empty(0, np.int64), *parts])

    @property
    def dtype(self) -> str | None:
        """What the vectors are kept as, the dtype of the first `add`; None while empty."""
        segments = self._segments
        return dtype_name(segments[0].vectors) if segments else None

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors and of what is kept beside them, memory maps included."""
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
            vectors: ``[rows, dim]``; the first add decides the dtype that the index keeps.
            ids: ``[rows]`` integers >= 0, not yet in the index; by default one more than the
                largest id so far, and on from there, so that ids are never used twice.
            copy: whether to copy the vectors. False keeps a reference, and they must not change
                afterwards. By default everything is copied but read-only memory maps.
            nonfinite: "error" raises for a row with NaN or infinity; "exclude" adds such a row, but
                never retrieves it.
            num_threads: by default `get_num_threads()`.

        Raises:
            TypeError: a dtype that cannot be searched, or another one than the index keeps.
            ValueError: another dim, ids that are negative, repeated or taken, non-finite rows.
                Nothing has been added then.
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
            names = self._new_ids(ids, len(rows))
            if not len(rows):
                return
            segment = make_segment(rows, names, threads)
            if segment.nonfinite is not None and nonfinite == "error":
                bad = int(np.argmax(segment.nonfinite))
                raise nonfinite_error("FlatIndex.add", "vectors", bad)
            self._next_id = max(self._next_id, int(names.max()) + 1)
            self._segments = _tidy([*self._segments, segment])

    def remove(self, ids: Array) -> None:
        """Removes documents by id.

        Raises:
            ValueError: an id that is not in the index, or twice in `ids`; nothing is removed then.
        """
        wanted, _ = as_id_list(ids, "FlatIndex.remove", "ids")
        check_unique("FlatIndex.remove", wanted)
        with self._lock:
            places = _locate(self._segments, wanted, "FlatIndex.remove")
            segments = [
                segment.without(rows[rows >= 0]) if (rows >= 0).any() else segment
                for segment, rows in zip(self._segments, places, strict=True)
            ]
            self._segments = _tidy([s for s in segments if len(s)])

    def reconstruct(self, ids: Array) -> NDArray[Any]:
        """The vectors of documents, ``[len(ids), dim]``, as they were added; bfloat16 as float32.

        A single id gives a single vector ``[dim]``.

        Raises:
            ValueError: an id that is not in the index.
        """
        wanted, single = as_id_list(ids, "FlatIndex.reconstruct", "ids")
        segments = self._segments
        places = _locate(segments, wanted, "FlatIndex.reconstruct")
        dtype = segments[0].vectors.dtype if segments else np.dtype(np.float32)
        result = np.empty((len(wanted), self.dim), dtype)
        for segment, rows in zip(segments, places, strict=True):
            here = rows >= 0
            result[here] = segment.vectors[rows[here]]
        vectors: NDArray[Any] = widened(result) if dtype == BFLOAT16 else result
        return vectors[0] if single else vectors

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
        running = RunningSearch(queries, k, options, total=sum(len(s.ids) for s in segments))
        check_dim(running.op, "queries", running.queries.shape[1], "documents have", self.dim)
        for segment in segments:
            segment.fold_into(running)
        return running.result()

    def save(self, folder: str | Path) -> None:
        """Writes the index to a folder: safetensors and a JSON manifest with checksums.

        A folder that already holds an index is replaced whole: killed at any moment, or out of
        disk, it still holds the old index or already the new one.

        Raises:
            ValueError: the folder holds something else.
            OSError: it could not be written; what was there before is intact.
        """
        with self._lock:
            segments, next_id = self._segments, self._next_id
        publish(
            Path(folder),
            _KIND,
            _VERSION,
            {
                "dim": self.dim,
                "next_id": next_id,
                "rotated": [bool(s.packed and s.packed.rotated) for s in segments],
            },
            {f"{i}.safetensors": _writer(s) for i, s in enumerate(segments)},
        )

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True, *, verify: bool = True) -> FlatIndex:
        """Reads an index that `save` wrote.

        Args:
            folder: the folder.
            mmap: keep the vectors in the file and map them into memory, so that several processes
                share them; False reads them.
            verify: compare checksums, which reads every byte once. Sizes and headers are checked
                in any case.

        Raises:
            FileNotFoundError: no index there.
            ValueError: another kind of folder, a newer format, or a corrupted file.
        """
        with open_folder(Path(folder), _KIND, _VERSION, verify=verify) as (manifest, files):
            try:
                index = cls(manifest["dim"])
                rotated = _rotated(manifest["rotated"], len(files))
                index._segments = tuple(
                    _read_segment(files[f"{i}.safetensors"], index.dim, turned, mmap)
                    for i, turned in enumerate(rotated)
                )
                index._next_id = _next_id(manifest["next_id"], index._segments)
            except CorruptedFolderError:
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise CorruptedFolderError(
                    f"load: {folder} has a wrong manifest: {error}"
                ) from error
        return index

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {"dim": self.dim, "segments": self._segments, "next_id": self._next_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["dim"])  # type: ignore[misc]
        self._segments, self._next_id = state["segments"], state["next_id"]

    def _check_dtype(self, vectors: Vectors) -> None:
        kept = self.dtype
        if kept is not None and dtype_name(vectors) != kept:
            raise TypeError(
                f"FlatIndex.add: the index keeps {kept} but vectors are {dtype_name(vectors)}; "
                "convert them"
            )

    def _new_ids(self, ids: Array | None, rows: int) -> NDArray[np.int64]:
        if ids is None:
            if self._next_id + rows > 2**63:
                raise ValueError(
                    f"FlatIndex.add: the next id would be {self._next_id}, and ids must be below "
                    "2^63; pass ids"
                )
            return np.arange(self._next_id, self._next_id + rows, dtype=np.int64)
        names = as_ids(ids, "FlatIndex.add", "ids")
        if len(names) != rows:
            raise ValueError(
                f"FlatIndex.add: expected {rows} ids, one per vector, got {len(names)}"
            )
        check_unique("FlatIndex.add", names)
        for segment in self._segments:
            taken = names[segment.find(names) >= 0]
            if len(taken):
                raise ValueError(f"FlatIndex.add: id {taken[0]} is already in the index")
        return names.copy()


def _tidy(segments: list[Segment]) -> tuple[Segment, ...]:
    """Rewrites segments that are mostly removed, and merges small neighbours at the end."""
    tidied = [merge([s]) if 2 * len(s) < len(s.ids) else s for s in segments]
    while len(tidied) > 1 and len(tidied[-2].ids) < min(_SMALL, 2 * len(tidied[-1].ids)):
        tidied[-2:] = [merge(tidied[-2:])]
    return tuple(tidied)


def _locate(
    segments: tuple[Segment, ...], ids: NDArray[np.int64], op: str
) -> list[NDArray[np.int64]]:
    """Row numbers of ids in each segment, -1 elsewhere; every id must be somewhere."""
    places = [segment.find(ids) for segment in segments]
    found = np.zeros(len(ids), np.bool_)
    for rows in places:
        found |= rows >= 0
    if not found.all():
        raise ValueError(f"{op}: id {ids[np.argmin(found)]} is not in the index")
    return places


def _writer(segment: Segment) -> Any:
    tensors: dict[str, NDArray[Any]] = {"vectors": segment.vectors, "ids": segment.ids}
    if segment.packed is not None:
        tensors |= {"codes": segment.packed.codes, "bounds": segment.packed.bounds}
    if segment.live is not None:
        tensors["live"] = segment.live
    if segment.nonfinite is not None:
        tensors["nonfinite"] = segment.nonfinite
    bfloat16 = frozenset({"vectors"} if segment.vectors.dtype == BFLOAT16 else ())
    return lambda path: write_tensors(path, tensors, bfloat16)


def _rotated(value: Any, segments: int) -> list[bool]:
    """Which segments are quantised after a rotation, as the manifest says."""
    if not isinstance(value, list) or not all(isinstance(turned, bool) for turned in value):
        raise ValueError(f"rotated must be a list of true and false, got {value!r}")
    if len(value) != segments:
        raise ValueError(f"rotated must name {segments} segments, got {len(value)}")
    return value


def _next_id(value: Any, segments: tuple[Segment, ...]) -> int:
    number = as_integer(value, "load", "next_id")
    least = 1 + max((int(s.ids.max()) for s in segments if len(s.ids)), default=-1)
    if not least <= number <= 2**63:
        raise ValueError(f"next_id must be {least} to 2^63, got {number}")
    return number


def _read_segment(path: Path, dim: int, rotated: bool, mmap: bool) -> Segment:
    tensors = map_tensors(path)
    if not mmap:
        tensors = {name: tensor.copy() for name, tensor in tensors.items()}
    rows = len(tensors["ids"])
    blocks = -(-rows // BLOCK_ROWS)
    expected = {
        "vectors": (rows, dim),
        "ids": (rows,),
        "codes": (blocks, -(-dim // 8) * 2, BLOCK_ROWS, 4),
        "bounds": (blocks, 4, BLOCK_ROWS),
        "live": (rows,),
        "nonfinite": (rows,),
    }
    for name, tensor in tensors.items():
        if tensor.shape != expected[name]:
            raise CorruptedFolderError(
                f"load: {path} has {name} of shape {tensor.shape}, expected {expected[name]}"
            )
        if tensor.dtype != _DTYPES.get(name, tensor.dtype):
            raise CorruptedFolderError(
                f"load: {path} has {name} of dtype {tensor.dtype}, expected {_DTYPES[name]}"
            )
    codes = tensors.get("codes")
    packed = None if codes is None else Packed(codes, tensors["bounds"], rotated)
    optional = (tensors.get("live"), tensors.get("nonfinite"))
    vectors = as_vectors(tensors["vectors"], "load", f"vectors of {path}")
    return Segment(vectors, tensors["ids"], packed, *optional)
