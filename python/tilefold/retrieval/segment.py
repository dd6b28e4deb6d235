"""Segment: immutable documents of an index with their packed form.

An index holds a tuple of segments and replaces the tuple, so a search that began before an add uses
the earlier documents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors
from .packing import BLOCK_ROWS, Packed, can_pack, flags, pack
from .running_search import RunningSearch, finite_rows


@dataclass(frozen=True)
class Segment:
    """Documents ``vectors [rows, dim]`` with ``ids [rows]``.

    Attributes:
        vectors: float32, float16, int8, or bits of bfloat16 in uint16.
        ids: int64, unique.
        packed: None where the dim is too large for the filter.
        live: ``[rows]`` False for removed rows; None if no row is removed.
        nonfinite: ``[rows]`` rows with NaN or infinity, never retrieved; None if there are none.
        kept: ``[rows]`` removed rows that can be restored; None if there are none.
    """

    vectors: Vectors
    ids: NDArray[np.int64]
    packed: Packed | None
    live: NDArray[np.bool_] | None = None
    nonfinite: NDArray[np.bool_] | None = None
    kept: NDArray[np.bool_] | None = None

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

    def n_stored(self) -> int:
        """Returns the number of documents, with removed ones that can be restored."""
        return len(self) + (0 if self.kept is None else int(self.kept.sum()))

    def without(self, rows: NDArray[np.int64], *, keep: bool = False) -> Segment:
        """Returns a copy of the segment with some rows removed; vectors are shared."""
        live = np.ones(len(self.ids), np.bool_) if self.live is None else self.live.copy()
        live[rows] = False
        if not keep:
            return replace(self, live=live)
        kept = np.zeros(len(self.ids), np.bool_) if self.kept is None else self.kept.copy()
        kept[rows] = True
        return replace(self, live=live, kept=kept)

    def kept_ids(self) -> NDArray[np.int64]:
        """Returns the ids of removed documents that can be restored."""
        return self.ids[:0] if self.kept is None else self.ids[self.kept]

    def restored(self, ids: NDArray[np.int64]) -> Segment:
        """Returns a copy in which kept rows with these ids are no longer removed."""
        if self.kept is None or self.live is None:
            return self
        rows = self.kept & np.isin(self.ids, ids)
        return replace(self, live=self.live | rows, kept=self.kept & ~rows)

    def forgetting(self, ids: NDArray[np.int64]) -> Segment:
        """Returns a copy in which rows with these ids are no longer kept."""
        if self.kept is None:
            return self
        return replace(self, kept=self.kept & ~np.isin(self.ids, ids))

    def fold_into(self, running: RunningSearch, *, begin: int = 0, end: int | None = None) -> None:
        """Folds rows [begin, end) into a running search; begin must be a multiple of 32."""
        end = len(self.ids) if end is None else end
        live = self.live
        if self.nonfinite is not None:
            live = ~self.nonfinite if live is None else live & ~self.nonfinite
            counted = self.nonfinite if self.live is None else self.nonfinite & self.live
            running.nonfinite_documents += int(counted[begin:end].sum())
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
    """Returns one segment with the documents of several.

    Removed ones are left out, but for those that can be restored.
    """
    stored, kept = zip(*map(_stored_rows, segments), strict=True)
    vectors = np.concatenate([s.vectors[r] for s, r in zip(segments, stored, strict=True)])
    ids = np.concatenate([s.ids[r] for s, r in zip(segments, stored, strict=True)])
    removed = np.concatenate([k[r] for k, r in zip(kept, stored, strict=True)])
    merged = make_segment(vectors, ids)
    return replace(merged, live=~removed, kept=removed) if removed.any() else merged


def _stored_rows(segment: Segment) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns masks of the rows that stay when a segment is rewritten, and of the kept ones."""
    n = len(segment.ids)
    kept = np.zeros(n, np.bool_) if segment.kept is None else segment.kept
    return (np.ones(n, np.bool_) if segment.live is None else segment.live | kept), kept
