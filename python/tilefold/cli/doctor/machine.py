"""Describes the machine: Python, processor, threads, and versions of packages."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from ... import _native


def python_version() -> str:
    """Returns the version and the implementation of Python, and whether it has no GIL."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return f"{platform.python_version()} ({platform.python_implementation()})" + (
        "" if gil else ", free-threaded"
    )


def cpu_model() -> str:
    """Returns the name of the processor, as far as the system knows it."""
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


def usable_cpus() -> int:
    """Returns the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def package_version(package: str) -> str | None:
    """Returns the version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def default_threads(problems: list[str]) -> tuple[int, str]:
    """Returns the default number of threads, and where it comes from."""
    try:
        threads = _native.num_threads()
    except ValueError as error:
        problems.append(str(error))
        return 0, "not usable"
    if os.environ.get("TILEFOLD_NUM_THREADS"):
        return threads, f"TILEFOLD_NUM_THREADS={os.environ['TILEFOLD_NUM_THREADS']}"
    return threads, "one for each CPU that this process may use"
