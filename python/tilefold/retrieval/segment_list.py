"""The segments of an index as a list: finding ids in them, and keeping them few and dense."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .segment import Segment, merge

# Segments below this number of rows are merged with their neighbor; above it, a call of the kernel
# per segment costs little beside the search itself.
_SMALL_SEGMENT = 65_536


def compacted(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Rewrites segments of which most rows are removed, and merges small ones at the end.

    A segment is merged into the one before it only if that has less than twice its rows, so that
    many small adds copy each row a logarithmic number of times.
    """
    result = [merge([s]) if 2 * len(s) < len(s.ids) else s for s in segments]
    while len(result) > 1 and len(result[-2].ids) < min(_SMALL_SEGMENT, 2 * len(result[-1].ids)):
        result[-2:] = [merge(result[-2:])]
    return tuple(result)


def locate(
    segments: Sequence[Segment],
    ids: NDArray[np.int64],
    op: str,
    shown: Callable[[int], str] | None = None,
) -> list[NDArray[np.int64]]:
    """Finds the rows of ids in each segment.

    Args:
        segments: of one index.
        ids: ``[n]`` numbers of documents.
        op: the public function, for messages.
        shown: returns the id at a place for a message; the number by default.

    Returns:
        For each segment ``[len(ids)]`` row numbers, -1 for ids that it does not contain.

    Raises:
        ValueError: an id is in none of the segments.
    """
    rows_by_segment = [segment.find(ids) for segment in segments]
    found = np.zeros(len(ids), np.bool_)
    for rows in rows_by_segment:
        found |= rows >= 0
    if not found.all():
        place = int(np.argmin(found))
        id = ids[place] if shown is None else shown(place)
        raise ValueError(f"{op}: id {id} is not in the index")
    return rows_by_segment
