"""Parts of a corpus in shards: arrays on disk or in memory, read a chunk at a time.

Memory maps that this module opened are requested ahead of the search and released behind it; those
of the caller are left alone, for releasing a private map would lose what was written to it.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import BFLOAT16, BFLOAT16_BITS, Vectors, as_ids, as_vectors
from ..files.done_once import ArrayDigest, digest_of
from ..files.storage import MANIFEST
from ..files.tensors import map_tensors
from .exact_search import fold_array
from .flat_index import FlatIndex
from .running_search import RunningSearch
from .segment import Segment

Shard = Any  # a path to .npy, .safetensors or a saved index; a FlatIndex; or an array

_VECTOR_NAMES = ("vectors", "embeddings")
_ID_ROWS = 1 << 16


@dataclass(frozen=True)
class Part:
    """Rows that are folded alike: an array with ids or a first id, or a segment of an index.

    Attributes:
        name: of the shard, for messages.
        documents: ``[rows, dim]`` in any dtype that `as_vectors` takes, or a segment.
        ids: ``[rows]``, or None for first_id, first_id + 1, ...
        first_id: see `ids`.
        path: the file it is mapped from; None for arrays and indexes of the caller.
    """

    name: str
    documents: Vectors | Segment
    ids: NDArray[np.int64] | None = None
    first_id: int = 0
    path: Path | None = None

    @property
    def rows(self) -> int:
        """Documents, removed ones included."""
        return len(self.documents.ids if isinstance(self.documents, Segment) else self.documents)

    @property
    def vectors(self) -> Vectors:
        """``[rows, dim]``."""
        return self.documents.vectors if isinstance(self.documents, Segment) else self.documents

    def id_chunks(self) -> Iterator[NDArray[np.int64]]:
        """The ids of documents that are there, a chunk at a time."""
        named = self.documents.ids if isinstance(self.documents, Segment) else self.ids
        live = self.documents.live if isinstance(self.documents, Segment) else None
        for begin in range(0, self.rows, _ID_ROWS):
            end = min(begin + _ID_ROWS, self.rows)
            if named is None:
                yield np.arange(self.first_id + begin, self.first_id + end)
                continue
            ids = named[begin:end]
            yield ids if live is None else ids[live[begin:end]]
            self._release(named, begin, end)

    def id_range(self) -> tuple[int, int]:
        """The smallest id, and one more than the largest."""
        if not isinstance(self.documents, Segment) and self.ids is None:
            return self.first_id, self.first_id + self.rows
        chunks = [(int(ids.min()), int(ids.max()) + 1) for ids in self.id_chunks() if len(ids)]
        return (min(c[0] for c in chunks), max(c[1] for c in chunks)) if chunks else (0, 0)

    def rises(self) -> bool:
        """Whether the ids certainly differ from each other, because they rise or are an index's."""
        if isinstance(self.documents, Segment) or self.ids is None:
            return True
        last = -1
        for ids in self.id_chunks():
            if ids[0] <= last or not (ids[1:] > ids[:-1]).all():
                return False
            last = int(ids[-1])
        return True

    def fold_into(
        self, running: RunningSearch, chunk: int, contents: PartDigest | None = None
    ) -> None:
        """Folds all rows into a running search, `chunk` of them at a time.

        Args:
            running: the search.
            chunk: rows at a time, a multiple of 32.
            contents: takes in each chunk too, while it is in memory anyway.
        """
        arrays = [self.vectors]
        if isinstance(self.documents, Segment) and self.documents.packed is not None:
            arrays += [self.documents.packed.codes, self.documents.packed.bounds]
        for begin in range(0, self.rows, chunk):
            end = min(begin + chunk, self.rows)
            for array in arrays:
                self._request(array, end, min(end + chunk, self.rows))
            self._fold(running, begin, end)
            if contents is not None:
                contents.update(begin, end)
            for array in arrays:
                self._release(array, begin, end)

    def digest(self, chunk: int) -> str:
        """Computes the digest of all that answers depend on, reading `chunk` rows at a time."""
        contents = PartDigest(self)
        for begin in range(0, self.rows, chunk):
            end = min(begin + chunk, self.rows)
            contents.update(begin, end)
            self._release(self.vectors, begin, end)
        return contents.hexdigest()

    def _fold(self, running: RunningSearch, begin: int, end: int) -> None:
        if isinstance(self.documents, Segment):
            self.documents.fold_into(running, begin=begin, end=end)
            return
        fold_array(
            running,
            as_vectors(self.documents[begin:end], running.op, self.name, warn=False),
            ids=None if self.ids is None else self.ids[begin:end],
            first_id=self.first_id + begin,
            first_row=begin,
            name=self.name,
        )

    def _request(self, array: NDArray[Any], begin: int, end: int) -> None:
        self._advise(array, begin, end, getattr(mmap, "MADV_WILLNEED", None))

    def _release(self, array: NDArray[Any], begin: int, end: int) -> None:
        self._advise(array, begin, end, getattr(mmap, "MADV_DONTNEED", None))

    def _advise(self, array: NDArray[Any], begin: int, end: int, advice: int | None) -> None:
        """Advises the system about rows [begin, end) of an array that this module mapped."""
        mapped = _map_of(array) if self.path is not None else None
        if mapped is None or advice is None or begin >= end:
            return
        start = array.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
        per_row = array.nbytes // len(array)
        rows = len(array) / self.rows  # packed arrays have a row per block
        first = start + int(begin * rows) * per_row
        last = min(start + int(np.ceil(end * rows)) * per_row, len(mapped))
        first -= first % mmap.PAGESIZE
        mapped.madvise(advice, first, last - first)


class PartDigest:
    """Digests what answers depend on in a part: vectors, ids, and which rows are there.

    The same for chunks of any size. Packed forms follow from vectors and are left out.
    """

    def __init__(self, part: Part) -> None:
        documents = part.documents
        if isinstance(documents, Segment):
            columns = {"vectors": documents.vectors, "ids": documents.ids, "live": documents.live}
        else:
            columns = {"vectors": documents, "ids": part.ids}
        self._columns = {name: array for name, array in columns.items() if array is not None}
        self._digests = {name: ArrayDigest(array.dtype) for name, array in self._columns.items()}
        self._facts = [part.rows, part.vectors.shape[1], part.first_id]

    def update(self, begin: int, end: int) -> None:
        """Adds rows [begin, end), which follow those added before."""
        for name, array in self._columns.items():
            self._digests[name].update(array[begin:end])

    def hexdigest(self) -> str:
        """Returns the digest of all rows so far."""
        contents = {name: digest.hexdigest() for name, digest in self._digests.items()}
        return digest_of([self._facts, contents])


def open_shards(shards: Sequence[Shard], op: str) -> list[Part]:
    """Opens shards in order; those without ids are numbered on from the shard before."""
    if isinstance(shards, (str, Path)) or not isinstance(shards, Sequence):
        raise TypeError(f"{op}: shards must be a list of shards, got {type(shards).__name__}")
    parts: list[Part] = []
    next_id = 0
    for number, shard in enumerate(shards):
        if isinstance(shard, (str, Path)):
            opened = _open_path(Path(shard), next_id, op)
        else:
            opened = _open_object(shard, f"shards[{number}]", next_id, op)
        parts += opened
        next_id = max([next_id, *(part.id_range()[1] for part in opened)])
        if next_id > 2**63:
            raise ValueError(f"{op}: ids of {parts[-1].name} would reach 2^63")
    return parts


def check_disjoint(parts: Sequence[Part], memory: int, op: str) -> None:
    """Raises if an id is there twice, within about `memory` bytes.

    Ids are only compared where they do not simply rise, one residue class after the other.
    """
    ordered = sorted((part for part in parts if part.rows), key=Part.id_range)
    ranges = [part.id_range() for part in ordered]
    apart = all(left[1] <= right[0] for left, right in itertools.pairwise(ranges))
    if apart and all(part.rises() for part in ordered):
        return
    bytes_per_id = 120  # chunks, their concatenation, and what np.unique makes of it
    classes = 1 + sum(part.rows for part in ordered) * bytes_per_id // max(memory, 1)
    for residue in range(classes):
        chunks = [ids[ids % classes == residue] for part in ordered for ids in part.id_chunks()]
        ids, counts = np.unique(np.concatenate(chunks), return_counts=True)
        if (counts > 1).any():
            twice = ids[np.argmax(counts > 1)]
            raise ValueError(f"{op}: id {twice} is in the shards more than once")


def _open_path(path: Path, first_id: int, op: str) -> list[Part]:
    name = str(path)
    if (path / MANIFEST).is_file():
        return _parts_of_index(FlatIndex.load(path, verify=False), name, path)
    if path.suffix == ".npy" and path.is_file():
        return [Part(name, _checked(_load_npy(path, op), op, name), None, first_id, path)]
    if path.suffix == ".safetensors" and path.is_file():
        return [_open_safetensors(path, first_id, op)]
    if not path.exists():
        raise FileNotFoundError(f"{op}: {path} does not exist")
    raise ValueError(f"{op}: {path} is no .npy, .safetensors or saved index")


def _open_safetensors(path: Path, first_id: int, op: str) -> Part:
    tensors = map_tensors(path)
    found = [tensors[name] for name in _VECTOR_NAMES if name in tensors]
    if not found:
        raise ValueError(f"{op}: {path} has no tensor named vectors; got {sorted(tensors)}")
    vectors, ids = _checked(found[0], op, str(path)), tensors.get("ids")
    names = None if ids is None else as_ids(ids, op, f"ids of {path}")
    if names is not None and len(names) != len(vectors):
        raise ValueError(f"{op}: {path} has {len(vectors)} vectors and {len(names)} ids")
    return Part(str(path), vectors, names, first_id, path)


def _open_object(shard: Shard, name: str, first_id: int, op: str) -> list[Part]:
    if isinstance(shard, FlatIndex):
        return _parts_of_index(shard, name, None)
    vectors = as_vectors(shard, op, name)
    marked = vectors.view(BFLOAT16_BITS) if vectors.dtype == BFLOAT16 else vectors
    return [Part(name, marked, first_id=first_id)]


def _parts_of_index(index: FlatIndex, name: str, path: Path | None) -> list[Part]:
    if not index.segments:
        return [Part(name, np.empty((0, index.dim), np.float32))]
    return [Part(name, segment, path=path) for segment in index.segments]


def _load_npy(path: Path, op: str) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{op}: {path} is not a whole .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{op}: {path} is an archive, expected one .npy array")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{op}: {path} is in Fortran order, so its rows cannot be streamed; save "
            "np.ascontiguousarray of it"
        )
    return array


def _checked(array: NDArray[Any], op: str, name: str) -> NDArray[Any]:
    """Vectors on disk, converted later by chunk; float64 is worth one warning for all of them."""
    if array.ndim != 2:
        raise ValueError(f"{op}: {name} must have 2 dimensions [rows, dim], got {array.ndim}")
    as_vectors(array[:1], op, name)
    return array


def _map_of(array: NDArray[Any]) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) and hasattr(base, "madvise") else None
