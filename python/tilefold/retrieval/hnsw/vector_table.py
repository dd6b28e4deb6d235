"""VectorTable: the vectors and ids of an HnswIndex by row number, and where each id is.

hnswlib returns its own copy of the vectors as Python floats, one by one, so they are kept here too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...files.tensors import CorruptedFolderError

REMOVED = -1  # the id of a row that is removed, or not published yet


class VectorTable:
    """Rows of vectors with ids, in arrays that have room for more.

    Row numbers never change, as the graph's labels are row numbers; removed rows stay in place.

    Attributes:
        n_rows: rows in use, removed ones included.
        next_id: one more than the largest id that was ever in the table.
    """

    def __init__(
        self, vectors: NDArray[np.float32], ids: NDArray[np.int64], n_rows: int, next_id: int
    ) -> None:
        self._capacity_vectors, self._capacity_ids = vectors, ids  # [capacity, dim], [capacity]
        self.n_rows, self.next_id = n_rows, next_id
        self.row_by_id = {id: row for row, id in enumerate(self.ids.tolist()) if id != REMOVED}

    @classmethod
    def empty(cls, dim: int) -> VectorTable:
        """Creates a table without rows."""
        return cls(np.empty((0, dim), np.float32), np.empty(0, np.int64), 0, 0)

    @classmethod
    def restored(
        cls, vectors: NDArray[np.float32], ids: NDArray[np.int64], dim: int, next_id: int
    ) -> VectorTable:
        """Creates a table from arrays that were saved.

        Raises:
            CorruptedFolderError: shapes or dtype do not fit, or ids that no index has.
        """
        if vectors.shape != (len(ids), dim) or vectors.dtype != np.float32:
            raise CorruptedFolderError(
                f"load: vectors are {vectors.dtype} of shape {vectors.shape}, "
                f"expected float32 of shape ({len(ids)}, {dim})"
            )
        live = np.sort(ids[ids != REMOVED])
        if len(live) and live[0] < 0:
            raise CorruptedFolderError(f"load: ids must not be negative, got {live[0]}")
        repeated = live[1:][live[1:] == live[:-1]]
        if len(repeated):
            raise CorruptedFolderError(f"load: id {repeated[0]} is repeated")
        return cls(vectors, ids, len(ids), next_id)

    def __len__(self) -> int:
        """Returns the number of documents, removed rows not counted."""
        return len(self.row_by_id)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Vectors ``[n_rows, dim]``."""
        return self._capacity_vectors[: self.n_rows]

    @property
    def ids(self) -> NDArray[np.int64]:
        """Ids ``[n_rows]``, `REMOVED` for removed rows."""
        return self._capacity_ids[: self.n_rows]

    @property
    def capacity(self) -> int:
        """Rows that fit without `grown`."""
        return len(self._capacity_ids)

    def rows_of(self, ids: NDArray[np.int64], op: str) -> NDArray[np.int64]:
        """Returns row numbers of ids.

        Raises:
            ValueError: an id is not in the table.
        """
        try:
            return np.array([self.row_by_id[id] for id in ids.tolist()], np.int64)
        except KeyError as missing:
            raise ValueError(f"{op}: id {missing} is not in the index") from None

    def grown(self, n: int) -> VectorTable:
        """Returns the table with room for n rows: itself, or a copy of its arrays.

        Capacity doubles, so that many small adds copy each row twice at most.
        """
        if n <= self.capacity:
            return self
        capacity = max(n, 2 * self.capacity)
        vectors = np.empty((capacity, self._capacity_vectors.shape[1]), np.float32)
        ids = np.full(capacity, REMOVED)
        vectors[: self.n_rows], ids[: self.n_rows] = self.vectors, self.ids
        table = VectorTable.__new__(VectorTable)  # without building row_by_id again
        table._capacity_vectors, table._capacity_ids = vectors, ids
        table.n_rows, table.next_id, table.row_by_id = self.n_rows, self.next_id, self.row_by_id
        return table

    def compacted(self) -> VectorTable:
        """Returns a copy without the removed rows."""
        live = np.flatnonzero(self.ids != REMOVED)
        return VectorTable(self.vectors[live], self.ids[live], len(live), self.next_id)

    def write_hidden(self, begin: int, block: NDArray[np.float32]) -> None:
        """Writes vectors into rows begin, begin + 1, ... as removed rows; `n_rows` is unchanged."""
        end = begin + len(block)
        self._capacity_vectors[begin:end] = block
        self._capacity_ids[begin:end] = REMOVED

    def publish(self, begin: int, ids: NDArray[np.int64]) -> None:
        """Gives ids to the rows from `begin` on."""
        self.ids[begin:] = ids
        self.row_by_id.update(zip(ids.tolist(), range(begin, self.n_rows), strict=True))
        self.next_id = max(self.next_id, int(ids.max(initial=-1)) + 1)

    def remove(self, ids: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Removes the documents with these ids, which are in these rows."""
        self.ids[rows] = REMOVED
        for id in ids.tolist():
            del self.row_by_id[id]
