"""Finds BLAS and OpenMP libraries in this process, and warns of known conflicts."""

from __future__ import annotations

import importlib
import os
import sys

from .diagnosis import Runtime
from .machine import package_version


def loaded_runtimes() -> list[Runtime] | None:
    """Returns BLAS and OpenMP libraries of this process, or None without threadpoolctl."""
    before = os.environ.get("KMP_DUPLICATE_LIB_OK")
    try:
        found = importlib.import_module("threadpoolctl").threadpool_info()
    except ImportError:
        return None
    finally:
        if before is None:  # importing threadpoolctl sets it for the whole process
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


def runtime_warnings(runtimes: list[Runtime], torch_version: str | None) -> list[str]:
    """Returns known conflicts of other libraries; tilefold itself links no OpenMP."""
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
    if sys.platform == "darwin" and torch_version and package_version("faiss-cpu"):
        warnings.append(
            "torch and faiss each bring an OpenMP runtime, which is known to crash on macOS: "
            "import torch first, or set OMP_NUM_THREADS=1"
        )
    return warnings
