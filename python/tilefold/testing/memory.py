"""Measures by how much the memory of this process grows."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.001
_PROC = Path("/proc/self")


@dataclass
class PeakMemory:
    """Result of `peak_memory`.

    Attributes:
        bytes: growth of the resident memory of this process, from the start of the block to its
            peak within; pages of memory maps count while they are resident.
        method: "high-water mark" (kept by the kernel) or "sampled" (a peak shorter than a
            millisecond may be missed).
    """

    bytes: int = 0
    method: str = ""


@contextlib.contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Measures by how much the resident memory of this process grows inside the block.

    Equals what ``/usr/bin/time`` would report for the block alone: the kernel's high-water mark is
    reset on entry where that is permitted (Linux), else a thread samples. The figure is accurate
    to a few hundred KiB; blocks must not be nested.

    Yields:
        A `PeakMemory`, filled in when the block ends.

    Example:
        >>> import numpy as np
        >>> with peak_memory() as peak:
        ...     filled = np.ones(1 << 23)
        >>> 60 < peak.bytes / 2**20 < 80
        True
    """
    gc.collect()
    _return_free_memory()
    peak = PeakMemory()
    if _reset_high_water_mark():
        peak.method = "high-water mark"
        before = _resident()
        try:
            yield peak
        finally:
            peak.bytes = max(0, _high_water_mark() - before)
    else:
        peak.method = "sampled"
        with _sampling(peak):
            yield peak


@contextlib.contextmanager
def _sampling(peak: PeakMemory) -> Iterator[None]:
    before = _resident()
    done = threading.Event()

    def sample() -> None:
        peak.bytes = max(peak.bytes, _resident() - before)

    def sample_until_done() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            sample()

    sampler = threading.Thread(target=sample_until_done, name="peak_memory", daemon=True)
    sampler.start()
    try:
        yield
    finally:
        done.set()
        sampler.join()
        sample()


def _reset_high_water_mark() -> bool:
    try:
        (_PROC / "clear_refs").write_text("5")
        return _high_water_mark() > 0
    except OSError:
        return False


def _high_water_mark() -> int:
    for line in (_PROC / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def _resident() -> int:
    """Returns resident bytes; outside Linux their maximum so far, which hides smaller growth."""
    with contextlib.suppress(OSError):
        return int((_PROC / "statm").read_text().split()[1]) * resource.getpagesize()
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest << 10


def _return_free_memory() -> None:
    """Returns free pages of the C heap to the system; otherwise filling them would not count."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
