"""RemovedRows: documents that an index has removed and can restore."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors, dtype_name


@dataclass(frozen=True)
class RemovedRows:
    """Documents ``vectors [rows, width]`` with unique ``ids [rows]``, in the order of removal."""

    vectors: Vectors
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def with_rows(self, vectors: Vectors, ids: NDArray[np.int64], op: str) -> RemovedRows:
        """Returns these documents and some more.

        Raises:
            TypeError: the two have different dtypes, as after all documents of one were removed.
        """
        if not len(self):
            return RemovedRows(vectors, ids)
        if vectors.dtype != self.vectors.dtype:
            raise TypeError(
                f"{op}: keep=True is not possible for {dtype_name(vectors)} documents while "
                f"{dtype_name(self.vectors)} ones are kept; remove without it, or give the ids of "
                "those again"
            )
        return RemovedRows(np.concatenate([self.vectors, vectors]), np.concatenate([self.ids, ids]))

    def without(self, ids: NDArray[np.int64]) -> RemovedRows:
        """Returns these documents but those with some ids."""
        if not len(self):
            return self
        kept = ~np.isin(self.ids, ids)
        return self if kept.all() else RemovedRows(self.vectors[kept], self.ids[kept])

    def rows_of(
        self, ids: NDArray[np.int64], op: str, shown: Callable[[int], str]
    ) -> NDArray[np.int64]:
        """Returns the row numbers of ids ``[n]``; `shown` gives the id at a place for a message.

        Raises:
            ValueError: an id is not among them.
        """
        order = np.argsort(self.ids, kind="stable")
        places = np.searchsorted(self.ids, ids, sorter=order)
        rows = order[np.minimum(places, len(order) - 1)] if len(order) else np.zeros_like(ids)
        found = self.ids[rows] == ids if len(order) else np.zeros(len(ids), np.bool_)
        if not found.all():
            id = shown(int(np.argmin(found)))
            raise ValueError(
                f"{op}: id {id} cannot be restored; only documents that were "
                "removed with keep=True can, until their id is given again"
            )
        return rows


def no_rows(width: int) -> RemovedRows:
    """Returns removed rows of an index that keeps none."""
    return RemovedRows(np.empty((0, width), np.float32), np.empty(0, np.int64))
