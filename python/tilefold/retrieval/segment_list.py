"""The segments of an index as a list: finding ids in them, and keeping them few and dense."""

from __future__ import annotations

from collections.abc import Sequence

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
    result = [merge([s]) if 2 * s.n_stored() < len(s.ids) else s for s in segments if s.n_stored()]
    while len(result) > 1 and len(result[-2].ids) < min(_SMALL_SEGMENT, 2 * len(result[-1].ids)):
        result[-2:] = [merge(result[-2:])]
    return tuple(result)


def locate(segments: Sequence[Segment], ids: NDArray[np.int64], op: str) -> list[NDArray[np.int64]]:
    """Finds the rows of ids in each segment.

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
        raise ValueError(f"{op}: id {ids[np.argmin(found)]} is not in the index")
    return rows_by_segment


def without_ids(
    segments: Sequence[Segment], ids: NDArray[np.int64], op: str, *, keep: bool = False
) -> list[Segment]:
    """Removes documents; with `keep` they can be restored.

    Raises:
        ValueError: an id is in none of the segments.
    """
    return [
        segment.without(rows[rows >= 0], keep=keep) if (rows >= 0).any() else segment
        for segment, rows in zip(segments, locate(segments, ids, op), strict=True)
    ]


def restored(segments: Sequence[Segment], ids: NDArray[np.int64], op: str) -> tuple[Segment, ...]:
    """Makes kept documents part of the index again.

    Raises:
        ValueError: an id is not among those that were removed and kept.
    """
    kept = np.concatenate([np.empty(0, np.int64), *(s.kept_ids() for s in segments)])
    missing = ids[~np.isin(ids, kept)]
    if len(missing):
        raise ValueError(
            f"{op}: id {missing[0]} is not kept; remove(..., keep=True) keeps documents"
        )
    return tuple(segment.restored(ids) for segment in segments)


def forgetting(segments: Sequence[Segment], ids: NDArray[np.int64]) -> list[Segment]:
    """Returns segments in which documents with these ids are no longer kept."""
    return [segment.forgetting(ids) for segment in segments]


def check_absent(segments: Sequence[Segment], ids: NDArray[np.int64], op: str) -> None:
    """Raises where an id is in the segments already.

    Raises:
        ValueError: names such an id.
    """
    for segment in segments:
        taken = ids[segment.find(ids) >= 0]
        if len(taken):
            raise ValueError(f"{op}: id {taken[0]} is already in the index")
