"""`tilefold doctor`: what this machine offers tilefold, what it uses, and whether it is right.

Every supported row of kernels answers adversarial searches in a process of its own, so that a row
that crashes is reported like one that errs; its answers are compared with the reference byte by
byte. Nothing heavy is imported: torch is asked only for its version, unless `--torch` says so.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tilefold

from .. import _native, reference
from .terminal import fact, heading, say, title, width

Vectors = NDArray[np.generic]

# Extras that only those who work on tilefold need, and the one that is the sum of the others.
_UNLISTED_EXTRAS = {"all", "test", "lint"}
# A line of metadata: package, lowest version if it names one, extra.
_REQUIREMENT = re.compile(r"([\w.-]+)[^;]*?(?:>=\s*([\w.]+))?\s*;.*extra == [\"']([\w-]+)")
_SELF_TEST_MODULE = __name__
_SELF_TEST_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table of kernels, and how its self-test went."""

    name: str
    device: str
    needs: str
    supported: bool
    in_use: bool
    searches: int = 0
    seconds: float = 0.0
    failure: str | None = None  # None: every search had the reference's bytes, or was not run


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A BLAS or OpenMP library loaded into this process."""

    api: str
    name: str
    version: str | None
    threads: int
    path: str


@dataclasses.dataclass(frozen=True)
class Extra:
    """An optional set of packages: {package: installed version, or None}."""

    name: str
    packages: dict[str, str | None]
    too_old: list[str]

    @property
    def complete(self) -> bool:
        """Whether every package is there, and new enough."""
        return None not in self.packages.values() and not self.too_old


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Everything that `tilefold doctor` prints; `problems` empty means that all is well."""

    version: str
    python: str
    platform: str
    cpu: str
    cpus_usable: int
    rows: list[Row]
    in_use: str
    threads: int
    threads_reason: str
    torch: str | None
    torch_loaded: bool
    runtimes: list[Runtime] | None  # None: threadpoolctl is not installed
    extras: list[Extra]
    warnings: list[str]
    problems: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tilefold doctor`."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--torch", action="store_true", help="import torch first, to see the runtimes it loads"
    )


def main(args: argparse.Namespace) -> int:
    """Prints the diagnosis; 0 when all is well, 1 when a self-test fails."""
    diagnosis = diagnose(import_torch=args.torch)
    if args.json:
        say(json.dumps(dataclasses.asdict(diagnosis), indent=2))
    else:
        _report(diagnosis)
    return 1 if diagnosis.problems else 0


def diagnose(*, import_torch: bool = False) -> Diagnosis:
    """Looks at everything once; runs the self-test of every supported row."""
    warnings: list[str] = []
    problems: list[str] = []
    torch_version = _version("torch")
    if import_torch:
        try:
            importlib.import_module("torch")
        except Exception as error:
            problems.append(f"importing torch failed: {type(error).__name__}: {error}")
    rows, in_use = _rows(problems)
    problems += [
        f"row {row.name} failed its self-test ({row.failure}): please report it, and set "
        f"TILEFOLD_ISA to another row until then"
        for row in rows
        if row.failure
    ]
    threads, threads_reason = _threads(problems)
    runtimes = _runtimes()
    warnings += _clashes(runtimes or [], torch_version)
    if threads > _cpus_usable():
        warnings.append(
            f"{threads} threads on {_cpus_usable()} usable CPUs: searches will wait for each other"
        )
    return Diagnosis(
        version=tilefold.__version__,
        python=_python(),
        platform=platform.platform(),
        cpu=_cpu_model(),
        cpus_usable=_cpus_usable(),
        rows=rows,
        in_use=in_use,
        threads=threads,
        threads_reason=threads_reason,
        torch=torch_version,
        torch_loaded="torch" in sys.modules,
        runtimes=runtimes,
        extras=_extras(),
        warnings=warnings,
        problems=problems,
    )


# ---- the machine ---------------------------------------------------------------------------------


def _python() -> str:
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return f"{platform.python_version()} ({platform.python_implementation()})" + (
        "" if gil else ", free-threaded"
    )


def _cpu_model() -> str:
    if sys.platform == "darwin":
        named = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True
        )
        return named.stdout.strip() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named_line = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if named_line:
            return named_line.group(1).strip()
    return platform.processor() or platform.machine() or "unknown"


def _cpus_usable() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _threads(problems: list[str]) -> tuple[int, str]:
    """The default number of threads, and where it comes from."""
    try:
        threads = _native.num_threads()
    except ValueError as error:
        problems.append(str(error))
        return 0, "not usable"
    if os.environ.get("TILEFOLD_NUM_THREADS"):
        return threads, f"TILEFOLD_NUM_THREADS={os.environ['TILEFOLD_NUM_THREADS']}"
    return threads, "one for each CPU that this process may use"


# ---- rows and their self-test --------------------------------------------------------------------


def _rows(problems: list[str]) -> tuple[list[Row], str]:
    """The table of kernels with self-tests run, and why the row in use is in use."""
    forced = os.environ.get("TILEFOLD_ISA")
    try:
        table = _native.rows()
        used = next(row["name"] for row in table if row["in_use"])
        reason = f"TILEFOLD_ISA={forced}" if forced else "the best row that this CPU can run"
        reason = f"{used}: {reason}"
    except ValueError as error:  # TILEFOLD_ISA names a row that is not there
        problems.append(str(error))
        reason = f"none while TILEFOLD_ISA={forced}"
        with _without_forced_row():
            table = [{**row, "in_use": False} for row in _native.rows()]
    shown = {field.name for field in dataclasses.fields(Row)}
    rows = [Row(**{key: row[key] for key in shown & row.keys()}) for row in table]
    return [_self_tested(row) if row.supported else row for row in rows], reason


@contextlib.contextmanager
def _without_forced_row() -> Iterator[None]:
    forced = os.environ.pop("TILEFOLD_ISA")
    try:
        yield
    finally:
        os.environ["TILEFOLD_ISA"] = forced


def _self_tested(row: Row) -> Row:
    """Runs self_test in a process that is forced onto this row."""
    paths = [os.path.abspath(path) for path in sys.path]  # the same tilefold as in this process
    environment = os.environ | {"TILEFOLD_ISA": row.name, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("TILEFOLD_NUM_THREADS", None)  # if it is wrong, that is not the row's fault
    code = f"import json, {_SELF_TEST_MODULE} as m; print(json.dumps(m.self_test()))"
    start = time.perf_counter()
    try:
        # -P: what lies in the current folder must not pass for a package.
        child = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SELF_TEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return dataclasses.replace(row, failure=f"no answer within {_SELF_TEST_SECONDS} s")
    seconds = round(time.perf_counter() - start, 2)
    if child.returncode:
        return dataclasses.replace(row, seconds=seconds, failure=_death(child))
    searches, failure = json.loads(child.stdout)
    return dataclasses.replace(row, searches=searches, seconds=seconds, failure=failure)


def _death(child: subprocess.CompletedProcess[str]) -> str:
    if child.returncode < 0:
        return f"the process died of {signal.Signals(-child.returncode).name}"
    lines = child.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {child.returncode}"


def self_test() -> tuple[int, str | None]:
    """Searches adversarial data on the row in use: (searches run, the first wrong one or None)."""
    searches = 0
    for name, queries, documents in _cases():
        for k in (1, 10, len(documents) + 3):
            expected = reference.search(queries, documents, k)
            for search in (_searched, _indexed):
                searches += 1
                if not _same_bytes(search(queries, documents, k), expected):
                    return searches, f"{name}, dim {queries.shape[1]}, k {k}"
    return searches, None


def _searched(queries: Vectors, documents: Vectors, k: int) -> Any:
    return tilefold.search(queries, documents, k)


def _indexed(queries: Vectors, documents: Vectors, k: int) -> Any:
    index = tilefold.FlatIndex(documents.shape[1])
    index.add(documents)
    return index.search(queries, k)


def _same_bytes(found: Any, expected: Any) -> bool:
    return all(
        np.asarray(mine).dtype == truth.dtype and np.asarray(mine).tobytes() == truth.tobytes()
        for mine, truth in zip(found, expected, strict=True)
    )


def _cases() -> Iterator[tuple[str, Vectors, Vectors]]:
    """(what it is, queries [5, dim], documents [n, dim]), dims around every vector width."""
    rng = np.random.default_rng(0)
    for dim in (1, 7, 16, 33, 64, 65, 384):
        plain = rng.standard_normal((300, dim)).astype(np.float32)
        queries = rng.standard_normal((5, dim)).astype(np.float32)
        yield "random values", queries, plain
        yield "ties", np.round(queries), np.round(plain)
        near = np.repeat(plain[:1], 300, axis=0)
        near[::2] = np.nextafter(near[::2], np.float32(np.inf))
        yield "values one bit apart", queries, near
        outlier = plain.copy()
        outlier[:, 0] *= 1000
        yield "an outlier dimension", queries, outlier
        norms = np.exp2(rng.integers(-60, 60, (300, 1))).astype(np.float32)
        yield "huge and tiny norms", queries, plain * norms
        yield "subnormal values", queries, plain * np.float32(1e-42)
        yield "zeros", queries, np.zeros_like(plain)
        yield "float16", queries.astype(np.float16), plain.astype(np.float16)
        small = rng.integers(-128, 128, (2, 300, dim)).astype(np.int8)
        yield "int8", small[0, :5], small[1]


# ---- libraries -----------------------------------------------------------------------------------


def _runtimes() -> list[Runtime] | None:
    """BLAS and OpenMP libraries in this process, or None without threadpoolctl."""
    before = os.environ.get("KMP_DUPLICATE_LIB_OK")
    try:
        found = importlib.import_module("threadpoolctl").threadpool_info()
    except ImportError:
        return None
    finally:
        if before is None:  # threadpoolctl sets it when imported; that is none of our business
            os.environ.pop("KMP_DUPLICATE_LIB_OK", None)
    return [
        Runtime(
            api=library["user_api"],
            name=library["internal_api"],
            version=library["version"],
            threads=library["num_threads"],
            path=library["filepath"],
        )
        for library in found
    ]


def _clashes(runtimes: list[Runtime], torch_version: str | None) -> list[str]:
    """Trouble that others are known to have; tilefold itself links no OpenMP."""
    warnings = []
    openmp = [runtime for runtime in runtimes if runtime.api == "openmp"]
    if len(openmp) > 1:
        warnings.append(
            "two OpenMP runtimes are loaded and may abort or deadlock the process: "
            + ", ".join(runtime.path for runtime in openmp)
        )
    if os.environ.get("KMP_DUPLICATE_LIB_OK"):
        warnings.append(
            "KMP_DUPLICATE_LIB_OK lets two OpenMP runtimes run side by side, which may crash or "
            "give wrong results; tilefold does not need it"
        )
    if sys.platform == "darwin" and torch_version and _version("faiss-cpu"):
        warnings.append(
            "torch and faiss each bring an OpenMP runtime, which is known to crash on macOS: "
            "import torch first, or set OMP_NUM_THREADS=1"
        )
    return warnings


def _extras() -> list[Extra]:
    """The extras that tilefold's own metadata lists, and what of them is installed."""
    try:
        requirements = importlib.metadata.requires("tilefold") or []
    except importlib.metadata.PackageNotFoundError:
        return []  # run from a source tree that was never installed
    wanted: dict[str, dict[str, str]] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match and match[3] not in _UNLISTED_EXTRAS:
            wanted.setdefault(match[3], {})[match[1]] = match[2] or "0"
    return [_extra(name, packages) for name, packages in wanted.items()]


def _extra(name: str, lowest: dict[str, str]) -> Extra:
    versions = {package: _version(package) for package in lowest}
    too_old = [
        f"{package} {version} is older than {lowest[package]}"
        for package, version in versions.items()
        if version and _release(version) < _release(lowest[package])
    ]
    return Extra(name, versions, too_old)


def _release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: 2.13.0+cpu -> (2, 13, 0)."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, numbers.group().split("."))) if numbers else ()


# ---- the report ----------------------------------------------------------------------------------


def _report(diagnosis: Diagnosis) -> None:
    title(f"tilefold {diagnosis.version}")
    fact("Python", diagnosis.python)
    fact("platform", diagnosis.platform)
    fact("CPU", f"{diagnosis.cpu}, {diagnosis.cpus_usable} usable")
    _report_rows(diagnosis)
    heading("Threads")
    fact("default", f"{diagnosis.threads} ({diagnosis.threads_reason})")
    _report_libraries(diagnosis)
    if diagnosis.extras:
        heading("Extras")
        _table([_extra_cells(extra) for extra in diagnosis.extras])
    for name, texts in (("Warnings", diagnosis.warnings), ("Problems", diagnosis.problems)):
        if texts:
            heading(name)
        for text in texts:
            for line in textwrap.wrap(text, width() - 2, break_on_hyphens=False):
                say(f"  {line}")
    if not diagnosis.problems:
        say()
        say("All is well.")


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say(f"  {'  '.join(cells)}".rstrip())


def _report_rows(diagnosis: Diagnosis) -> None:
    heading("Kernels")
    cells = [("row", "device", "needs", "supported", "self-test", "")]
    for row in diagnosis.rows:
        supported = "yes" if row.supported else "no"
        in_use = "<- in use" if row.in_use else ""
        cells.append((row.name, row.device, row.needs, supported, _outcome(row), in_use))
    _table(cells)
    fact("in use", diagnosis.in_use)
    if all(row.device == "cpu" for row in diagnosis.rows):
        fact("CUDA", "no row compiled into this build")


def _outcome(row: Row) -> str:
    if not row.supported:
        return "-"
    return "FAILED" if row.failure else f"{row.searches} searches right, {row.seconds:.1f} s"


def _report_libraries(diagnosis: Diagnosis) -> None:
    heading("Libraries in this process")
    if diagnosis.runtimes is None:
        fact("unknown", 'threadpoolctl is not installed: pip install "tilefold[cli]"')
    elif not diagnosis.runtimes:
        fact("none", "no BLAS and no OpenMP runtime")
    for runtime in diagnosis.runtimes or []:
        version = f" {runtime.version}" if runtime.version else ""
        threads = f"{runtime.threads} thread{'s' if runtime.threads != 1 else ''}"
        fact(runtime.api, f"{runtime.name}{version}, {threads}, {runtime.path}")
    if diagnosis.torch is None:
        fact("torch", "not installed, not needed for NumPy arrays")
    else:
        loaded = "loaded" if diagnosis.torch_loaded else "installed, not loaded (--torch loads it)"
        fact("torch", f"{diagnosis.torch}, {loaded}")


def _extra_cells(extra: Extra) -> tuple[str, ...]:
    if extra.complete:
        listed = ", ".join(f"{name} {version}" for name, version in extra.packages.items())
        return extra.name, "installed", listed
    missing = [name for name, version in extra.packages.items() if version is None]
    lacks = "; ".join([f"lacks {', '.join(missing)}"] * bool(missing) + extra.too_old)
    return extra.name, "missing", f'pip install "tilefold[{extra.name}]"  ({lacks})'
