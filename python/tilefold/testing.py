"""Checks tolerances and measures time and memory, in the same way for tests and benchmarks.

Search is exact and compared exactly; the search of another library may differ by rounding, whose
bound `assert_same_up_to_rounding` computes. Floating-point ops are compared with the error of torch
in the same precision, so that no test chooses a tolerance.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native, reference

Array = Any  # NumPy, a torch tensor, or a number

_FP32_ROUNDING = 2.0**-24
_SAMPLE_SECONDS = 0.001
_PROC = Path("/proc/self")


# ---- tolerances ----------------------------------------------------------------------------------


def assert_as_close_as_torch(
    ours: Array,
    torch_same_precision: Array,
    truth_fp64: Array,
    *,
    in_norm: bool = False,
    name: str = "result",
) -> None:
    """Requires error(ours) <= 2 * error(torch) + eps, the one tolerance policy for float ops.

    Elementwise, an error is the distance to the truth of the worst element: torch may hit a single
    element exactly by luck, so elements are not compared one by one. In norm, it is the length of
    the difference. eps is that of our dtype times the size of the truth (its largest element, or
    its norm). Where torch overflows, its error counts as none.

    Args:
        ours: the result to judge.
        torch_same_precision: the same computed by plain torch from the same inputs.
        truth_fp64: the same computed in float64.
        in_norm: compare norms, as for gradients; elementwise by default.
        name: the name of the result in messages.

    Raises:
        AssertionError: ours is further from the truth than that, has another shape, or is not
            finite where the truth is (or the other way round).
        TypeError: the truth is not float64, or ours is not floating-point.

    Example:
        >>> truth = np.array([1 / 3, 2 / 3])
        >>> assert_as_close_as_torch(np.float32(truth), np.float32(truth), truth)
    """
    mine, eps = _widened(ours, "ours")
    theirs, _ = _widened(torch_same_precision, "torch_same_precision")
    truth, truth_eps = _widened(truth_fp64, "truth_fp64")
    if truth_eps > np.finfo(np.float64).eps:
        raise TypeError("assert_as_close_as_torch: truth_fp64 must be float64")
    if not mine.shape == theirs.shape == truth.shape:
        raise AssertionError(
            f"{name}: shapes differ: ours {mine.shape}, torch {theirs.shape}, truth {truth.shape}"
        )
    finite = np.isfinite(truth)
    _require_same_nonfinite(mine, truth, finite, name)
    mine, theirs, truth = (np.where(finite, a, 0) for a in (mine, theirs, truth))
    away = np.abs(mine - truth)
    torch_away = np.where(np.isfinite(theirs), np.abs(theirs - truth), 0)
    measured = np.linalg.norm if in_norm else _largest
    error, torch_error, size = (float(measured(a.ravel())) for a in (away, torch_away, truth))
    allowed = 2 * torch_error + eps * size
    if error > allowed:
        worst = np.unravel_index(int(away.argmax()), away.shape)
        kind = "norm of the error" if in_norm else "worst error"
        raise AssertionError(
            f"{name}: {kind} {error:.3g} exceeds {allowed:.3g} = "
            f"2 * {torch_error:.3g} (torch) + {eps:.3g} (eps) * {size:.3g}; "
            f"worst at {tuple(map(int, worst))}: ours {mine[worst]:.9g}, "
            f"torch {theirs[worst]:.9g}, truth {truth[worst]:.17g}"
        )


def assert_same_up_to_rounding(
    ours: tuple[NDArray[np.float32], NDArray[np.int64]],
    their_ids: NDArray[Any],
    queries: NDArray[Any],
    documents: NDArray[Any],
    *,
    name: str = "peer",
) -> int:
    """Requires that another exact search differs from ours by nothing but rounding in fp32.

    An fp32 inner product in any order of summation is off by at most ``e = g |q| |x|`` with
    ``g = d u / (1 - d u)``, ``u = 2^-24`` (Higham, Accuracy and Stability of Numerical Algorithms,
    section 3.1). Perturbing every score by at most e moves the j-th largest by at most e, so the
    document that the peer has at rank j must score within 2 e of ours.

    Args:
        ours: ``(scores [n, k], ids [n, k])``; ids are row numbers of `documents`.
        their_ids: ``[n, k]`` row numbers, best first.
        queries: ``[n, dim]`` of at most 32 bits, as both searched them.
        documents: ``[m, dim]``.
        name: the name of the peer in messages.

    Returns:
        Number of places in which the ids differ: ties and near-ties.

    Raises:
        AssertionError: a difference that rounding cannot explain.

    Example:
        >>> documents, queries = np.eye(2, dtype=np.float32), np.ones((1, 2), np.float32)
        >>> ours = reference.search(queries, documents, 2)
        >>> assert_same_up_to_rounding(ours, np.array([[1, 0]]), queries, documents)
        2
    """
    scores, ids = ours
    theirs = np.asarray(their_ids).astype(np.int64)
    if theirs.shape != ids.shape:
        raise AssertionError(f"{name}: ids have shape {theirs.shape}, expected {ids.shape}")
    differs = theirs != ids
    if not differs.any():
        return 0
    in_order = np.sort(theirs, axis=1)
    present = in_order[:, 1:] >= 0
    if ((in_order[:, 1:] == in_order[:, :-1]) & present).any():
        raise AssertionError(f"{name}: an id is repeated within one answer")
    if ((theirs < 0) != (ids < 0)).any() or theirs.max() >= len(documents):
        raise AssertionError(f"{name}: an id is missing, or is no row of the documents")
    unit = documents.shape[1] * _FP32_ROUNDING
    longest = max(_longest(documents[i : i + 65_536]) for i in range(0, len(documents), 65_536))
    for row in np.flatnonzero(differs.any(axis=1)):
        places = np.flatnonzero(differs[row])
        query = queries[row : row + 1]
        found = reference.canonical_scores(query, documents[theirs[row, places]])[0]
        away = np.abs(found.astype(np.float64) - scores[row, places])
        # The canonical scores of both sides were rounded once more, to fp32.
        allowed = 2 * longest * _longest(query) * (unit / (1 - unit) + _FP32_ROUNDING)
        if away.max() > allowed:
            place = places[away.argmax()]
            raise AssertionError(
                f"{name}: query {row} has document {theirs[row, place]} at rank {place}, which "
                f"scores {away.max():.3g} away from ours there; rounding explains {allowed:.3g}"
            )
    return int(differs.sum())


def _widened(array: Array, name: str) -> tuple[NDArray[np.float64], float]:
    """Converts values to float64; also returns the machine epsilon of their own dtype."""
    if hasattr(array, "detach"):
        import torch

        if not array.dtype.is_floating_point:
            raise TypeError(f"assert_as_close_as_torch: {name} must be floats, got {array.dtype}")
        return array.detach().cpu().double().numpy(), float(torch.finfo(array.dtype).eps)
    values = np.asarray(array)
    if values.dtype.kind != "f":
        raise TypeError(f"assert_as_close_as_torch: {name} must be floats, got {values.dtype}")
    return values.astype(np.float64), float(np.finfo(values.dtype).eps)


def _require_same_nonfinite(
    mine: NDArray[np.float64], truth: NDArray[np.float64], finite: NDArray[np.bool_], name: str
) -> None:
    same = np.where(finite, np.isfinite(mine), (mine == truth) | (np.isnan(mine) & np.isnan(truth)))
    if not same.all():
        worst = np.unravel_index(int(same.argmin()), same.shape)
        raise AssertionError(
            f"{name}: at {tuple(map(int, worst))} ours is {mine[worst]} but the truth is "
            f"{truth[worst]}"
        )


def _largest(values: NDArray[np.float64]) -> float:
    return float(np.abs(values).max(initial=0))


def _longest(vectors: NDArray[Any]) -> float:
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max()))


# ---- time ----------------------------------------------------------------------------------------


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
    rest: float = 0.0,
) -> dict[str, Timing]:
    """Times callables in turn, A B A B, so that drift of the machine hits all of them alike.

    The garbage collector is off meanwhile, and results are freed outside the timed region.

    Args:
        callables: the functions to time, by name.
        repeats: timed rounds, each of which calls every callable once.
        warmup: rounds before them that are not timed.
        rest: seconds of sleep before every call, because the threads of some libraries (OpenMP)
            keep the cores busy for a while after their work is done.

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
    if not 0 <= rest < math.inf:
        raise ValueError(f"measure: rest must be a number of seconds >= 0, got {rest}")
    runs: dict[str, list[float]] = {name: [] for name in callables}
    with _no_garbage_collection():
        for number in range(warmup + repeats):
            for name, call in callables.items():
                time.sleep(rest)
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


# ---- memory --------------------------------------------------------------------------------------


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


# ---- machine -------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Describes the machine and the versions that a measurement depends on.

    Returns:
        cpu (model), cores (usable by this process), row (of kernels, in use), threads (of a call
        without ``num_threads=``), load (average of the last minute; None where the system has
        none), commit (with "-dirty" if files differ; None outside a checkout), python, and the
        versions of numpy, torch and faiss (None where not installed).

    Example:
        >>> machine()["row"] in {row["name"] for row in _native.rows() if row["supported"]}
        True
    """
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "row": next(row["name"] for row in _native.rows() if row["in_use"]),
        "threads": _native.num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "commit": _commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": _version("torch"),
        "faiss": _version("faiss-cpu") or _version("faiss-gpu"),
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Returns the commit of the checkout that tracks this package, if there is one."""
    folder = str(Path(__file__).parent)
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        return _git(folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: str, *arguments: str) -> str:
    command = ["git", "-C", folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
