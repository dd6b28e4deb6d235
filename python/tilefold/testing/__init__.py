"""Tolerances, timings and memory, measured in the same way by tests, benchmarks and the demo."""

from .environment import machine
from .memory import PeakMemory, peak_memory
from .timing import Timing, measure
from .tolerance import assert_as_close_as_torch, assert_same_up_to_rounding

__all__ = [
    "PeakMemory",
    "Timing",
    "assert_as_close_as_torch",
    "assert_same_up_to_rounding",
    "machine",
    "measure",
    "peak_memory",
]
