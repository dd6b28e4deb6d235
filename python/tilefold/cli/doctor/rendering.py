"""Writes a diagnosis on the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from ..terminal import fact, heading, say, title, width
from .diagnosis import Cuda, Diagnosis, Extra, KernelRow


def render(diagnosis: Diagnosis) -> None:
    """Writes everything: machine, kernels, threads, libraries, extras, warnings and problems."""
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
    _report_cuda(diagnosis.cuda)


def _report_cuda(cuda: Cuda) -> None:
    if cuda.kernels == "none":
        fact("CUDA", "no kernels in this build")
        return
    how = f"compiled for {cuda.architectures}" if cuda.architectures else "emulated on the host"
    fact("CUDA", f"kernels {how}, used for arrays on a GPU")
    if cuda.gpus is None:
        fact("GPUs", "unknown until torch is loaded (--torch loads it)")
    elif not cuda.gpus:
        fact("GPUs", "torch finds none")
    for gpu in cuda.gpus or []:
        fact("GPU", gpu)


def _outcome(row: KernelRow) -> str:
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
