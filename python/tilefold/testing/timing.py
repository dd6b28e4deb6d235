"""Times callables in turn, so that all of them meet the same state of the machine."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple


class Timing(NamedTuple):
    """Seconds that a callable took.

    Attributes:
        median: the figure to report.
        min: the fastest run.
        runs: every run, in order.
    """

    median: float
    min: float
    runs: tuple[float, ...]


def measure(
    callables: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 5,
    warmup: int = 1,
    before: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Times callables in turn, A B A B, so that drift of the machine hits all of them alike.

    The garbage collector is off meanwhile, and results are freed outside the timed region.

    Args:
        callables: the functions to time, by name.
        repeats: timed rounds, each of which calls every callable once.
        warmup: rounds before them that are not timed.
        before: called before every call, outside the timed region: for instance to wait until
            threads of the callable before no longer spin.

    Returns:
        A `Timing` per name, in seconds of ``time.perf_counter``.

    Example:
        >>> timings = measure({"sum": lambda: sum(range(1000)), "len": lambda: len("abc")})
        >>> timings["sum"].median > timings["len"].median
        True
        >>> len(timings["sum"].runs)
        5
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(
            f"measure: repeats must be at least 1 and warmup at least 0, got {repeats} and {warmup}"
        )
    runs: dict[str, list[float]] = {name: [] for name in callables}
    with _no_garbage_collection():
        for number in range(warmup + repeats):
            for name, call in callables.items():
                if before is not None:
                    before()
                seconds = _timed(call)
                if number >= warmup:
                    runs[name].append(seconds)
    return {name: Timing(statistics.median(r), min(r), tuple(r)) for name, r in runs.items()}


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - begin
    del result
    return seconds


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
