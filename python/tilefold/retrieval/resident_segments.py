"""ResidentSegments: copies of an index's segments in the memory of a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors
from ..placement import Placement
from .packing import BLOCK_ROWS, Packed
from .segment import Segment

# Of documents that are sent to the device for one search, because all together do not fit.
_PART_BYTES = 256 << 20

_Key = tuple[int, int]


@dataclass(frozen=True)
class Resident:
    """Rows [begin, end) of a segment on a device; arrays as in `Segment`.

    Attributes:
        begin: first row.
        end: last row, exclusive.
        vectors: ``[end - begin, dim]``.
        ids: ``[end - begin]``, or None where they are consecutive.
        packed: the blocks of these rows, or None.
        sent: the time at which all arrays are there, for `Placement.use`.
    """

    begin: int
    end: int
    vectors: Any
    ids: Any
    packed: Packed | None
    sent: Any

    def use(self, placement: Placement) -> Resident:
        """Prepares the arrays for work that is queued next, and returns them."""
        packed = self.packed
        arrays = [self.vectors] if self.ids is None else [self.vectors, self.ids]
        if packed is not None:
            arrays += [packed.codes, packed.bounds]
            arrays += [] if packed.direction is None else [packed.direction]
        placement.use(self.sent, arrays)
        return self


class ResidentSegments:
    """The segments of an index on a device.

    A segment is copied when it is first searched. One that does not fit is sent part by part in
    every search, and while one part is searched, the next is on its way. Threads may search while
    one calls `keep_only`: dictionaries are replaced, never changed.

    Attributes:
        placement: the device.
    """

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        # By the identity of vectors and ids, which segments with other removed rows share; the
        # segment is kept, so that no other object gets its identity.
        self._kept: dict[_Key, tuple[Segment, Resident]] = {}
        self._too_large: dict[_Key, Segment] = {}

    def keep_only(self, segments: Sequence[Segment]) -> None:
        """Frees the memory of all other segments."""
        used = set(map(_key, segments))
        self._kept = {key: kept for key, kept in self._kept.items() if key in used}
        self._too_large = {key: kept for key, kept in self._too_large.items() if key in used}

    def parts(self, segment: Segment) -> Iterator[Resident]:
        """Yields the rows of a segment on the device, in one part if they fit."""
        whole = self._whole(segment)
        if whole is not None:
            yield whole.use(self.placement)
            return
        row_bytes = 2 * segment.vectors.nbytes // max(1, len(segment.ids)) + 64
        rows = max(1, _PART_BYTES // row_bytes // BLOCK_ROWS) * BLOCK_ROWS
        bounds = [*range(0, len(segment.ids), rows), len(segment.ids)]
        following = self._sent(segment, bounds[0], bounds[1])
        for begin, end in zip(bounds[1:], [*bounds[2:], 0], strict=True):
            part = following.use(self.placement)
            yield part
            if end:
                following = self._sent(segment, begin, end)

    def _whole(self, segment: Segment) -> Resident | None:
        """Returns all rows of a segment, or None where they do not fit."""
        key = _key(segment)
        kept = self._kept.get(key)
        if kept is not None:
            return kept[1]
        if key in self._too_large:
            return None
        try:
            resident = self._sent(segment, 0, len(segment.ids))
        except self.placement.out_of_memory:
            self._too_large = {**self._too_large, key: segment}
            return None
        self._kept = {**self._kept, key: (segment, resident)}
        return resident

    def _sent(self, segment: Segment, begin: int, end: int) -> Resident:
        packed, rows = segment.packed, slice(begin, end)
        if packed is not None:
            packed = packed.blocks(begin // BLOCK_ROWS, -(-end // BLOCK_ROWS))
        return sent_rows(self.placement, segment.vectors[rows], segment.ids[rows], packed, begin)


def sent_rows(
    placement: Placement,
    vectors: Vectors,
    ids: NDArray[np.int64] | None,
    packed: Packed | None,
    begin: int = 0,
) -> Resident:
    """Begins to copy documents to a device; `Resident.use` waits for them."""
    send = placement.send
    if packed is not None:
        packed = replace(
            packed,
            codes=send(packed.codes),
            bounds=send(packed.bounds),
            direction=None if packed.direction is None else send(packed.direction),
        )
    on_device = send(vectors), None if ids is None else send(ids)
    return Resident(begin, begin + len(vectors), *on_device, packed, placement.sent())


def _key(segment: Segment) -> _Key:
    return id(segment.vectors), id(segment.ids)
