"""Advice to the system about rows of memory maps: to read them ahead, or to release them.

Only maps that this library opened may be advised: releasing a caller's private map would lose what
was written to it.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_ahead(array: NDArray[Any], begin: float, end: float) -> None:
    """Requests rows [begin, end) of a mapped array from the disk; other arrays are left alone."""
    _advise(array, begin, end, getattr(mmap, "MADV_WILLNEED", None))


def release(array: NDArray[Any], begin: float, end: float) -> None:
    """Releases the memory of rows [begin, end) of a mapped array; other arrays are left alone."""
    _advise(array, begin, end, getattr(mmap, "MADV_DONTNEED", None))


def _advise(array: NDArray[Any], begin: float, end: float, advice: int | None) -> None:
    mapped = _map_of(array)
    if mapped is None or advice is None or begin >= end:
        return
    start = array.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
    per_row = array.nbytes // len(array)
    first = start + int(begin) * per_row
    last = min(start + int(np.ceil(end)) * per_row, len(mapped))
    first -= first % mmap.PAGESIZE
    mapped.madvise(advice, first, last - first)


def _map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """Returns the memory map that an array views; None if it views none, or none to advise."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) and hasattr(base, "madvise") else None
