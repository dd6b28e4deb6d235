"""Gives the documents of an index with string ids numbers without gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .id_table import Names
from .removed_rows import RemovedRows
from .segment import Segment


class Renumbered(NamedTuple):
    """Documents under other numbers.

    Attributes:
        segments: whose ids are the new numbers.
        removed: those that can be restored.
        names: ``[numbers]`` the string of each number from the first on; None for a removed row.
    """

    segments: tuple[Segment, ...]
    removed: RemovedRows
    names: Names


def renumbered(
    segments: Sequence[Segment],
    removed: RemovedRows,
    names_of: Callable[[NDArray[np.int64]], Names],
    *,
    first: int = 0,
) -> Renumbered:
    """Numbers all rows ``first, first + 1, ...`` in the order of their numbers so far.

    Ties between scores go by number, so the order of answers stays.

    Args:
        segments: documents; vectors are shared with the result.
        removed: documents that can be restored.
        names_of: returns the strings of numbers.
        first: the first new number.
    """
    rows = [*(s.ids for s in segments), removed.ids]
    used = np.unique(np.concatenate(rows))
    names: Names = np.full(len(used), None, object)
    there = np.concatenate([*(s.live_ids() for s in segments), removed.ids])
    names[np.searchsorted(used, there)] = names_of(there)

    def numbers(old: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(used, old) + first

    return Renumbered(
        tuple(replace(s, ids=numbers(s.ids)) for s in segments),
        RemovedRows(removed.vectors, numbers(removed.ids)),
        names,
    )
