"""Part: rows of a corpus in shards, on disk or in memory, that a search folds chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors, as_vectors
from ..files.done_once import ArrayDigest, digest_of
from ..files.memory_advice import read_ahead, release
from .exact_search import fold_array
from .running_search import RunningSearch
from .segment import Segment

# Ids read at once where an operation goes over all of them.
_ID_CHUNK = 1 << 16
# Numbers for each id, above which ids are not dense.
_SPARSE = 8


@dataclass(frozen=True)
class Part:
    """Rows with the same form: an array with ids or a first id, or a segment of an index.

    Attributes:
        name: name of the shard, for messages.
        documents: ``[rows, dim]`` in any dtype that `as_vectors` accepts, or a segment.
        ids: ``[rows]``, or None for first_id, first_id + 1, ...
        first_id: see `ids`.
        path: file or folder that this library mapped; None for arrays and indexes of the caller.
    """

    name: str
    documents: Vectors | Segment
    ids: NDArray[np.int64] | None = None
    first_id: int = 0
    path: Path | None = None

    @property
    def rows(self) -> int:
        """Number of documents, removed ones included."""
        return len(self.documents.ids if isinstance(self.documents, Segment) else self.documents)

    @property
    def vectors(self) -> Vectors:
        """Vectors ``[rows, dim]``."""
        return self.documents.vectors if isinstance(self.documents, Segment) else self.documents

    def id_chunks(self) -> Iterator[NDArray[np.int64]]:
        """Yields the ids of documents that are not removed, chunk by chunk."""
        stored = self.documents.ids if isinstance(self.documents, Segment) else self.ids
        live = self.documents.live if isinstance(self.documents, Segment) else None
        for begin in range(0, self.rows, _ID_CHUNK):
            end = min(begin + _ID_CHUNK, self.rows)
            if stored is None:
                yield np.arange(self.first_id + begin, self.first_id + end)
                continue
            ids = stored[begin:end]
            yield ids if live is None else ids[live[begin:end]]
            if self.path is not None:
                release(stored, begin, end)

    def id_range(self) -> tuple[int, int]:
        """Returns the smallest id and one more than the largest; (0, 0) without documents."""
        if not isinstance(self.documents, Segment) and self.ids is None:
            return self.first_id, self.first_id + self.rows
        chunks = [(int(ids.min()), int(ids.max()) + 1) for ids in self.id_chunks() if len(ids)]
        return (min(c[0] for c in chunks), max(c[1] for c in chunks)) if chunks else (0, 0)

    def has_unique_ids(self, memory: int) -> bool:
        """Returns True if no id can be there twice; False where a comparison has to decide.

        Ids that an index in memory holds are unique. Others are if they increase, or if they are so
        dense that each can be ticked off.

        Args:
            memory: bytes that may be used.
        """
        of_index = isinstance(self.documents, Segment)
        if (of_index and self.path is None) or (not of_index and self.ids is None):
            return True
        return self._ids_increase() or self._ids_are_dense_and_unique(memory)

    def _ids_increase(self) -> bool:
        last = -1
        for ids in filter(len, self.id_chunks()):
            if ids[0] <= last or not (ids[1:] > ids[:-1]).all():
                return False
            last = int(ids[-1])
        return True

    def _ids_are_dense_and_unique(self, memory: int) -> bool:
        """Ticks off ids, which takes a few ns for each, where sorting them takes tens."""
        first, end = self.id_range()
        if end - first > min(memory, _SPARSE * self.rows):
            return False
        seen, count = np.zeros(end - first, np.bool_), 0
        for ids in self.id_chunks():
            seen[ids - first] = True
            count += len(ids)
        return int(np.count_nonzero(seen)) == count

    def fold_into(
        self, running: RunningSearch, chunk: int, contents: PartDigest | None = None
    ) -> None:
        """Folds all rows into a running search, chunk by chunk.

        Args:
            running: the search.
            chunk: rows per chunk, a multiple of 32.
            contents: digest that is updated with each chunk, while the chunk is in memory.
        """
        arrays = [self.vectors]
        if isinstance(self.documents, Segment) and self.documents.packed is not None:
            arrays += [self.documents.packed.codes, self.documents.packed.bounds]
        mapped = arrays if self.path is not None else []
        for begin in range(0, self.rows, chunk):
            end = min(begin + chunk, self.rows)
            # Packed arrays have a row per block of documents, so row numbers are scaled.
            for array in mapped:
                scale = len(array) / self.rows
                read_ahead(array, end * scale, min(end + chunk, self.rows) * scale)
            self._fold(running, begin, end)
            if contents is not None:
                contents.update(begin, end)
            for array in mapped:
                scale = len(array) / self.rows
                release(array, begin * scale, end * scale)

    def digest(self, chunk: int) -> str:
        """Computes the digest of the part, reading `chunk` rows at a time."""
        contents = PartDigest(self)
        for begin in range(0, self.rows, chunk):
            end = min(begin + chunk, self.rows)
            contents.update(begin, end)
            if self.path is not None:
                release(self.vectors, begin, end)
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


class PartDigest:
    """Digest of everything in a part that answers depend on: vectors, ids, and removed rows.

    It does not depend on the chunks. Packed forms follow from the vectors and are left out.
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
