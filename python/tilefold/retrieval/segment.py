"""A segment: some documents of an index with their packed form, never changed once made.

Indexes hold a tuple of segments and replace the tuple, so a search that began before an add sees
the index as it was.
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
        ids: int64, each once.
        packed: None where the dim is too large for the filter.
        live: ``[rows]`` false once removed; None while all are there.
        nonfinite: ``[rows]`` rows with NaN or infinity, never retrieved; None if there are none.
    """

    vectors: Vectors
    ids: NDArray[np.int64]
    packed: Packed | None
    live: NDArray[np.bool_] | None = None
    nonfinite: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Live documents."""
        return len(self.ids) if self.live is None else int(self.live.sum())

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers of ids; -1 for those that are not (or no longer) here."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        order = self._order()
        places = np.searchsorted(self.ids, ids, sorter=order)
        places = np.minimum(places, len(self.ids) - 1)
        rows = places if order is None else order[places]
        found = self.ids[rows] == ids
        if self.live is not None:
            found &= self.live[rows]
        return np.where(found, rows, -1)

    def live_ids(self) -> NDArray[np.int64]:
        """Ids of live documents, in the order in which they were added."""
        return self.ids if self.live is None else self.ids[self.live]

    def without(self, rows: NDArray[np.int64]) -> Segment:
        """The segment with some rows removed."""
        live = np.ones(len(self.ids), np.bool_) if self.live is None else self.live.copy()
        live[rows] = False
        return replace(self, live=live)

    def fold_into(self, running: RunningSearch, *, begin: int = 0, end: int | None = None) -> None:
        """Folds rows [begin, end) into a running search; begin must be a multiple of 32."""
        end = len(self.ids) if end is None else end
        live = self.live
        if self.nonfinite is not None:
            live = ~self.nonfinite if live is None else live & ~self.nonfinite
            there = self.nonfinite if self.live is None else self.nonfinite & self.live
            running.nonfinite_documents += int(there[begin:end].sum())
        packed = self.packed
        running.fold(
            self.vectors[begin:end],
            packed=packed and packed.blocks(begin // BLOCK_ROWS, -(-end // BLOCK_ROWS)),
            ids=self.ids[begin:end],
            live=None if live is None else live[begin:end],
        )

    def _order(self) -> NDArray[np.int64] | None:
        """Row numbers by id; None where the ids are in order as they stand.

        Kept when first asked for. Not a cached_property, which has a lock in Python 3.11, and a
        forked child may inherit it locked; two threads may do the work twice.
        """
        if "order" not in self.__dict__:
            rising = bool((self.ids[1:] > self.ids[:-1]).all())
            order = None if rising else np.argsort(self.ids, kind="stable")
            object.__setattr__(self, "order", order)
        kept: NDArray[np.int64] | None = self.__dict__["order"]
        return kept


def make_segment(vectors: Vectors, ids: NDArray[np.int64], num_threads: int = 0) -> Segment:
    """Packs vectors into a segment, which keeps a reference to them."""
    if can_pack(vectors.shape[1]):
        packed, words = pack(vectors, num_threads=num_threads)
        finite = flags(words, len(vectors))
    else:
        packed, finite = None, finite_rows(vectors, num_threads)
    nonfinite = None if finite.all() else ~finite
    return Segment(vectors, ids, packed, nonfinite=nonfinite)


def merge(segments: list[Segment]) -> Segment:
    """One segment of the live documents of several."""
    rows = [slice(None) if s.live is None else s.live for s in segments]
    vectors = np.concatenate([s.vectors[r] for s, r in zip(segments, rows, strict=True)])
    ids = np.concatenate([s.live_ids() for s in segments])
    return make_segment(vectors, ids)
