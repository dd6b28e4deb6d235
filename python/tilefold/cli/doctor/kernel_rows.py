"""Tests every supported row of kernels in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from ... import _native
from .diagnosis import KernelRow

_SELF_TEST_MODULE = f"{__package__}.self_test"
_SELF_TEST_SECONDS = 300  # a row takes about a second where it is not emulated


def tested_rows(problems: list[str]) -> tuple[list[KernelRow], str]:
    """Returns the table of kernels after self-tests, and why the row in use was chosen."""
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
    shown = {field.name for field in dataclasses.fields(KernelRow)}
    rows = [KernelRow(**{key: row[key] for key in shown & row.keys()}) for row in table]
    return [tested_row(row) if row.supported else row for row in rows], reason


@contextlib.contextmanager
def _without_forced_row() -> Iterator[None]:
    forced = os.environ.pop("TILEFOLD_ISA")
    try:
        yield
    finally:
        os.environ["TILEFOLD_ISA"] = forced


def tested_row(row: KernelRow) -> KernelRow:
    """Runs the self-test in a process that is forced to use this row.

    A row that crashes is then reported like one with wrong results.
    """
    paths = [os.path.abspath(path) for path in sys.path]  # the same tilefold as in this process
    environment = os.environ | {"TILEFOLD_ISA": row.name, "PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("TILEFOLD_NUM_THREADS", None)  # a wrong value is no fault of the row
    code = f"import json, {_SELF_TEST_MODULE} as m; print(json.dumps(m.run_self_test()))"
    start = time.perf_counter()
    try:
        # -P: files of the current folder must not be imported as packages.
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
