"""Gathers the diagnosis of `tilefold doctor`."""

from __future__ import annotations

import importlib
import platform
import sys

import tilefold

from .diagnosis import Diagnosis
from .extras import installed_extras
from .gpus import cuda_state
from .kernel_rows import tested_rows
from .machine import cpu_model, default_threads, package_version, python_version, usable_cpus
from .runtimes import loaded_runtimes, runtime_warnings


def diagnose(*, import_torch: bool = False) -> Diagnosis:
    """Gathers all facts, and runs the self-test of every supported row.

    Args:
        import_torch: whether torch is imported first, to see the libraries that it loads.
    """
    warnings: list[str] = []
    problems: list[str] = []
    torch_version = package_version("torch")
    if import_torch:
        try:
            importlib.import_module("torch")
        except Exception as error:
            problems.append(f"importing torch failed: {type(error).__name__}: {error}")
    rows, in_use = tested_rows(problems)
    problems += [
        f"row {row.name} failed its self-test ({row.failure}): please report it, and set "
        f"TILEFOLD_ISA to another row until then"
        for row in rows
        if row.failure
    ]
    threads, threads_reason = default_threads(problems)
    runtimes = loaded_runtimes()
    warnings += runtime_warnings(runtimes or [], torch_version)
    if threads > usable_cpus():
        warnings.append(
            f"{threads} threads on {usable_cpus()} usable CPUs: searches will wait for each other"
        )
    return Diagnosis(
        version=tilefold.__version__,
        python=python_version(),
        platform=platform.platform(),
        cpu=cpu_model(),
        cpus_usable=usable_cpus(),
        rows=rows,
        in_use=in_use,
        cuda=cuda_state(),
        threads=threads,
        threads_reason=threads_reason,
        torch=torch_version,
        torch_loaded="torch" in sys.modules,
        runtimes=runtimes,
        extras=installed_extras(),
        warnings=warnings,
        problems=problems,
    )
