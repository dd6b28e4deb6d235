"""Segment: immutable documents of an index with their packed form.

An index holds a tuple of segments and replaces the tuple, so a search that began before an add uses
the earlier documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors
from .document_fold import DocumentFold, finite_rows
from .packing import BLOCK_ROWS, Packed, can_pack, flags, pack


@dataclass(frozen=True)
class Segment:
    """Documents ``vectors [rows, dim]`` with ``ids [rows]``.

    Attributes:
        vectors: float32, float16, int8, or bits of bfloat16 in uint16.
        ids: int64, unique.
        packed: None where the dim is too large for the filter.
        live: ``[rows]`` False for removed rows; None if no row is removed.
        nonfinite: ``[rows]`` rows with NaN or infinity, never retrieved; None if there are none.
    """

    vectors: Vectors
    ids: NDArray[np.int64]
    packed: Packed | None
    live: NDArray[np.bool_] | None = None
    nonfinite: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Returns the number of documents, removed ones not counted."""
        return len(self.ids) if self.live is None else int(self.live.sum())

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the row numbers of ids ``[n]``; -1 for ids that are absent or removed."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        order = self._order()
        positions = np.searchsorted(self.ids, ids, sorter=order)
        positions = np.minimum(positions, len(self.ids) - 1)
        rows = positions if order is None else order[positions]
        found = self.ids[rows] == ids
        if self.live is not None:
            found &= self.live[rows]
        return np.where(found, rows, -1)

    def live_ids(self) -> NDArray[np.int64]:
        """Returns the ids of documents that are not removed, in the order of addition."""
        return self.ids if self.live is None else self.ids[self.live]

    def without(self, rows: NDArray[np.int64]) -> Segment:
        """Returns a copy of the segment with some rows removed; vectors are shared."""
        live = np.ones(len(self.ids), np.bool_) if self.live is None else self.live.copy()
        live[rows] = False
        return replace(self, live=live)

    def searchable(self) -> NDArray[np.bool_] | None:
        """Returns a mask ``[rows]`` of the rows that may be retrieved; None for all."""
        if self.nonfinite is None:
            return self.live
        return ~self.nonfinite if self.live is None else self.live & ~self.nonfinite

    def nonfinite_rows(self) -> NDArray[np.bool_] | None:
        """Returns a mask ``[rows]`` of non-finite rows that are not removed; None if none are."""
        if self.nonfinite is None or self.live is None:
            return self.nonfinite
        return self.nonfinite & self.live

    def fold_into(self, running: DocumentFold, *, begin: int = 0, end: int | None = None) -> None:
        """Folds rows [begin, end) into a running search; begin must be a multiple of 32."""
        end = len(self.ids) if end is None else end
        live, nonfinite = self.searchable(), self.nonfinite_rows()
        if nonfinite is not None:
            running.nonfinite_documents += int(nonfinite[begin:end].sum())
        packed = self.packed
        running.fold(
            self.vectors[begin:end],
            packed=packed and packed.blocks(begin // BLOCK_ROWS, -(-end // BLOCK_ROWS)),
            ids=self.ids[begin:end],
            live=None if live is None else live[begin:end],
        )

    def _order(self) -> NDArray[np.int64] | None:
        """Returns the row numbers in the order of ids; None if ids are increasing.

        Computed once. Not a cached_property, which has a lock in Python 3.11 that a forked child
        may inherit locked; without one, two threads may both compute it, with the same result.
        """
        if "order" not in self.__dict__:
            increasing = bool((self.ids[1:] > self.ids[:-1]).all())
            order = None if increasing else np.argsort(self.ids, kind="stable")
            object.__setattr__(self, "order", order)
        cached: NDArray[np.int64] | None = self.__dict__["order"]
        return cached


def make_segment(vectors: Vectors, ids: NDArray[np.int64], num_threads: int = 0) -> Segment:
    """Packs vectors ``[rows, dim]`` into a segment, which stores them without a copy."""
    if can_pack(vectors.shape[1]):
        packed, words = pack(vectors, num_threads=num_threads)
        finite = flags(words, len(vectors))
    else:
        packed, finite = None, finite_rows(vectors, num_threads)
    nonfinite = None if finite.all() else ~finite
    return Segment(vectors, ids, packed, nonfinite=nonfinite)


def merge(segments: list[Segment]) -> Segment:
    """Returns one segment with the documents of several, removed ones left out."""
    rows = [slice(None) if s.live is None else s.live for s in segments]
    vectors = np.concatenate([s.vectors[r] for s, r in zip(segments, rows, strict=True)])
    ids = np.concatenate([s.live_ids() for s in segments])
    return make_segment(vectors, ids)


def gathered(segments: Sequence[Segment], rows_by_segment: Sequence[NDArray[np.int64]]) -> Vectors:
    """Copies rows, of which each is in one of at least one segment, into one array.

    Args:
        segments: of one index.
        rows_by_segment: for each segment ``[n]`` row numbers, -1 for rows of another.

    Returns:
        ``[n, width]``.
    """
    like = segments[0].vectors
    result: Vectors = np.empty((len(rows_by_segment[0]), like.shape[1]), like.dtype)
    for segment, rows in zip(segments, rows_by_segment, strict=True):
        here = rows >= 0
        result[here] = segment.vectors[rows[here]]
    return result
