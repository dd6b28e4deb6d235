"""Smoke test of bench/: every case runs with tiny shapes, checks its results and prints its row."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROMISES = [
    "512 queries, k = 10 ",
    "64 queries, k = 10 ",
    "8 queries, k = 10 ",
    "1 query, k = 10 ",
    "512 queries, k = 100 ",
    "512 queries, k = 1,000 ",
    "mean cosine 0.7, 2,500, d = 64: 512 queries, k = 10 ",
    "mean cosine 0.7, 2,500, d = 64: 1 query, k = 1,000 ",
    "mapped: 5,000, d = 64: 64 queries, k = 10 ",
    "int8, 8 queries, k = 10 ",
    "int8 tile alone",
    "add 5,000 documents",
    "memory of an index ",
    "memory of an index, vectors in a memory map",
    "4 mapped shards",
    "resident memory of that",
    "contrastive, N = 600 ",
    "contrastive, N = 600, two cores",
    "contrastive, N = 600: memory beyond gradients",
    "contrastive, N = 900: memory beyond gradients",
    "contrastive, N = 600, bfloat16",
    "contrastive, N = 600, symmetric",
    "contrastive, N = 64, d = 384",
    "contrastive, N = 1,024, d = 768",
    "mine 10 of 40 x 2,000 random ",
    "mine 10 of 40 x 2,000 random, relative_margin = 0.05",
    "training step, MiniLM, batch 8",
    "FiDAtt, Flan-T5-Small's shape",
    "memory of FiDAtt, 3 questions, 64 tokens of answers",
    "loss stage, 8 x 8, d = 96 ",
    "loss stage, 8 x 8, d = 96, invariance of own candidates",
    "loss stage, 8 x 8, d = 96: memory beyond gradients",
    "loss stage of a step, 2 x 8, Llama 32 x 1",
]

pytest.importorskip("pytest_benchmark", reason="not installed: pip install tilefold[bench]")
pytest.importorskip("threadpoolctl", reason="not installed: pip install tilefold[cli]")


def bench(*arguments: str, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs tiny benchmarks in a process of their own; modules in `first` hide installed ones."""
    paths = [str(first or ""), *(os.path.abspath(path) for path in sys.path)]
    # Without the variables of pytest-xdist, which make pytest-benchmark measure nothing.
    inherited = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    return subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "bench", "--quick", "-n", "0", "-m", "", *arguments],
        cwd=ROOT,
        env=inherited | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )


def test_every_row_runs_and_is_printed(tmp_path):
    saved = tmp_path / "bench.json"
    done = bench("--benchmark-only", f"--benchmark-json={saved}", "-k", "not real")
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.splitlines()
    for promise in PROMISES:
        assert any(line.startswith(promise) for line in printed), f"{promise}: {done.stdout}"
    for case in json.loads(saved.read_text())["benchmarks"]:
        assert case["extra_info"]["machine"]["row"]


@pytest.mark.slow
def test_the_rows_with_real_embeddings_run(tmp_path):
    done = bench("-k", "real")
    assert done.returncode == 0, done.stdout + done.stderr
    if "skipped" in done.stdout:
        pytest.skip("no corpus or no encoder: " + done.stdout[-2000:])
    assert done.stdout.count("real, 256 of ") == 10


def test_a_missing_peer_is_reported(tmp_path):
    for peer in ("faiss", "torch", "usearch"):
        (tmp_path / f"{peer}.py").write_text("raise ImportError")
    done = bench("-k", "64_queries or real", "--corpus", str(tmp_path / "none"), first=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no faiss, torch" in done.stdout
    assert "faiss missing, torch missing" in done.stdout
    assert "name one with --corpus" in done.stdout


def test_two_builds_are_compared():
    """The installed one with itself: as fast, and the same answers."""
    script = [sys.executable, str(ROOT / "bench" / "compare_builds.py")]
    options = ["--rows", "3000", "--case", "common", "--seconds", "0", "--isa", "scalar"]
    done = subprocess.run([*script, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[0] == "common-mean: 3,000 documents, d = 768"
    assert printed[1].removeprefix("old") == printed[2].removeprefix("new")
    assert len(printed) == 4 + 9
    assert all(line.endswith("the same") for line in printed[4:])
    done = subprocess.run([*script, "--case", "none"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no corpus has 'none' in its name" in done.stderr


def test_a_history_keeps_the_last_run_of_each_case(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    line = runpy.run_path(str(ROOT / "bench" / "table.py"))["Line"]
    record = runpy.run_path(str(ROOT / "bench" / "history.py"))["record"]
    machine = {
        "cpu": "A (R) CPU",
        "cores": 2,
        "row": "avx2",
        "threads": 2,
        "commit": "abc",
        "load": 0,
    }
    record(tmp_path, [line("one", "1 ms"), line("two", "2 ms"), line("skipped")], machine)
    two = [line("two", "3 ms", target=target) for target in (">= 1 x faiss", ">= 2 x torch")]
    path = record(tmp_path, two, machine)
    assert path == tmp_path / "a-r-cpu-2-cores-avx2-2-threads" / "abc.json"
    kept = json.loads(path.read_text())
    found = {case: [kept["ours"] for kept in lines] for case, lines in kept["cases"].items()}
    assert found == {"one": ["1 ms"], "two": ["3 ms", "3 ms"]}
    assert [kept["target"] for kept in kept["cases"]["two"]] == [">= 1 x faiss", ">= 2 x torch"]
    assert kept["machine"] == machine
    other = record(tmp_path, [line("one", "1 ms")], machine | {"commit": None})
    assert other == path.with_name("unknown.json")


def test_a_target_is_met_or_missed():
    table = runpy.run_path(str(ROOT / "bench" / "table.py"))["Table"](quick=False)
    assert table.add("faster", "1 ms", 3.5, target=3.5).verdict == "met"
    assert table.add("slower", "1 ms", 3.49, target=3.5).verdict == "MISSED"
    assert table.add("small", "1 MB", 1.3, target=1.3, at_most=True).verdict == "met"
    assert table.add("large", "1 MB", 1.31, target=1.3, at_most=True).verdict == "MISSED"
    assert table.add("unpromised", "1 ms", 2.0).verdict == "-"
    assert table.add("alone", "1 ms", None, target=2, missing=["faiss"]).verdict == "no faiss"
    assert len(table.render()) == 2 + 6
