"""Describes the machine and the versions that a measurement depends on."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import _native


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
