"""The load test of bench/ runs, and measures batches."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="not installed: pip install tilefold[serve]")

BENCH = Path(__file__).parents[2] / "bench" / "serve_load.py"


@pytest.mark.slow  # two servers and their loads
def test_a_load_prints_a_table_in_which_batches_grow_with_clients(tmp_path):
    words = ["--documents", "20000", "--dim", "64", "--clients", "1", "16"]
    words += ["--seconds", "1", "--repeats", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-P", str(BENCH), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \|.*\| ([\d.]+) \| [\d.]+ \|$", done.stdout, re.M)
    sizes = {(int(clients), name): float(size) for clients, name, size in rows}
    assert sizes[1, "one per call"] == sizes[16, "one per call"] == 1
    assert sizes[16, "batches"] > 2
