"""Measures the wall time of the stages of a study."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class StageTime:
    """Seconds of a stage; a stage that was kept from an earlier run takes almost none."""

    stage: str
    seconds: float


class StageClock:
    """Measures the wall time of stages; one that runs again adds to its time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of the block to that of a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - begin
            self._seconds[name] = self._seconds.get(name, 0.0) + passed

    def times(self) -> tuple[StageTime, ...]:
        """Returns the seconds of each stage, in the order of their first run."""
        return tuple(StageTime(name, seconds) for name, seconds in self._seconds.items())
