"""`tilefold doctor` shows what is there, what is missing and what is wrong."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tilefold
from tilefold import _native
from tilefold.cli import doctor
from tilefold.cli.doctor import examination, extras, kernel_rows, runtimes, self_test
from tilefold.cli.doctor.diagnosis import Diagnosis, KernelRow, Runtime

NO_SELF_TEST = (
    "from tilefold.cli import doctor; from tilefold.cli.doctor import kernel_rows;"
    "kernel_rows.tested_row = lambda row: row;"
)


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return parser.parse_args(arguments)


def process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = [os.path.abspath(path) for path in sys.path]
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def no_self_test(monkeypatch):
    """Leaves out the slow part where a test is about something else."""
    monkeypatch.setattr(kernel_rows, "tested_row", lambda row: row)


def test_every_supported_row_answers_like_the_reference():
    diagnosis = doctor.diagnose()
    assert diagnosis.problems == []
    assert [row.name for row in diagnosis.rows] == [row["name"] for row in _native.rows()]
    for row in diagnosis.rows:
        assert row.failure is None
        assert (row.searches > 100) == row.supported
    assert sum(row.in_use for row in diagnosis.rows) == 1


def test_the_report_names_what_matters(capsys):
    assert doctor.main(options()) == 0
    report = capsys.readouterr().out
    for expected in (
        f"tilefold {tilefold.__version__}",
        "Kernels",
        "scalar",
        "<- in use",
        "searches right",
        "CUDA",
        "Threads",
        "All is well.",
    ):
        assert expected in report
    assert "\033" not in report, "no colour unless it is a terminal"
    assert not any(line.endswith(" ") for line in report.splitlines())


def test_a_terminal_gets_colour_unless_it_declines(no_self_test, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    doctor.main(options())
    assert "\033[1m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    doctor.main(options())
    assert "\033" not in capsys.readouterr().out


def test_json_holds_the_whole_diagnosis(no_self_test, capsys):
    assert doctor.main(options("--json")) == 0
    parsed = json.loads(capsys.readouterr().out)
    assert parsed.keys() == {field.name for field in dataclasses.fields(Diagnosis)}
    assert parsed["version"] == tilefold.__version__
    assert {row["name"] for row in parsed["rows"]} >= {"scalar"}


def test_a_forced_row_is_named_with_its_reason(no_self_test, monkeypatch):
    monkeypatch.setenv("TILEFOLD_ISA", "scalar")
    diagnosis = doctor.diagnose()
    assert "scalar" in diagnosis.in_use
    assert "TILEFOLD_ISA=scalar" in diagnosis.in_use
    assert [row.name for row in diagnosis.rows if row.in_use] == ["scalar"]


def test_an_unknown_row_is_a_problem(no_self_test, monkeypatch, capsys):
    monkeypatch.setenv("TILEFOLD_ISA", "sse9")
    assert doctor.main(options()) == 1
    report = capsys.readouterr().out
    assert "Problems" in report
    assert "sse9" in report
    assert "All is well" not in report
    assert os.environ["TILEFOLD_ISA"] == "sse9"


def test_a_thread_count_that_is_no_number_is_a_problem():
    code = f"import sys; {NO_SELF_TEST}"
    code += "import argparse; p = argparse.ArgumentParser(); doctor.add_arguments(p);"
    code += "sys.exit(doctor.main(p.parse_args([])))"
    child = process(code, TILEFOLD_NUM_THREADS="many")
    assert child.returncode == 1, child.stderr
    assert "TILEFOLD_NUM_THREADS" in child.stdout


def test_more_threads_than_cpus_is_a_warning():
    code = NO_SELF_TEST
    code += "print(doctor.diagnose().warnings, doctor.diagnose().threads_reason)"
    child = process(code, TILEFOLD_NUM_THREADS="1000")
    assert "1000 threads" in child.stdout, child.stderr
    assert "TILEFOLD_NUM_THREADS=1000" in child.stdout


def test_a_wrong_answer_is_found(monkeypatch):
    def one_bit_off(queries, documents, k):
        found = tilefold_search(queries, documents, k)
        found.scores[-1, 0] = np.nextafter(found.scores[-1, 0], np.float32(np.inf))
        return found

    tilefold_search = tilefold.search
    monkeypatch.setattr(tilefold, "search", one_bit_off)
    searches, failure = self_test.run_self_test()
    assert searches == 1
    assert failure == "random values, dim 1, k 1"


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("return 12, 'ties, dim 7, k 1'", "ties, dim 7, k 1"),
        ("raise RuntimeError('the kernel erred')", "the kernel erred"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
        ("import os; os._exit(3)", "exit status 3"),
    ],
)
def test_a_row_that_fails_is_reported(monkeypatch, tmp_path, capsys, body, failure):
    """Even if it takes its process along."""
    (tmp_path / "failing_row.py").write_text(f"def run_self_test():\n    {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kernel_rows, "_SELF_TEST_MODULE", "failing_row")
    assert doctor.main(options()) == 1
    report = capsys.readouterr().out
    assert "FAILED" in report
    assert failure in report


def test_a_row_that_hangs_is_reported(monkeypatch, tmp_path):
    (tmp_path / "hanging_row.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kernel_rows, "_SELF_TEST_MODULE", "hanging_row")
    monkeypatch.setattr(kernel_rows, "_SELF_TEST_SECONDS", 1)
    row = kernel_rows.tested_row(KernelRow("scalar", "cpu", "nothing", True, True))
    assert row.failure == "no answer within 1 s"


def test_the_folder_it_runs_in_is_not_imported_from(monkeypatch, tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')\n")
    monkeypatch.chdir(tmp_path)
    row = kernel_rows.tested_row(KernelRow("scalar", "cpu", "nothing", True, True))
    assert row.failure is None


def test_nothing_heavy_is_imported():
    code = f"import sys; {NO_SELF_TEST}"
    code += "doctor.diagnose(); print({'torch', 'transformers', 'hnswlib'} & sys.modules.keys())"
    child = process(code)
    assert child.stdout.strip() == "set()", child.stderr


@pytest.mark.slow
def test_torch_is_imported_when_asked_for():
    pytest.importorskip("torch", reason="torch is not installed")
    code = NO_SELF_TEST
    code += "print(doctor.diagnose(import_torch=True).torch_loaded)"
    child = process(code)
    assert child.stdout.strip() == "True", child.stderr


def test_a_torch_that_does_not_import_is_a_problem(no_self_test, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    diagnosis = doctor.diagnose(import_torch=True)
    assert any("importing torch failed" in problem for problem in diagnosis.problems)


def test_two_openmp_runtimes_are_a_warning(monkeypatch):
    monkeypatch.delenv("KMP_DUPLICATE_LIB_OK", raising=False)
    loaded = [Runtime("openmp", "openmp", None, 2, f"/lib/{name}") for name in ("a.so", "b.so")]
    assert runtimes.runtime_warnings(loaded[:1], None) == []
    warning = runtimes.runtime_warnings(loaded, None)
    assert len(warning) == 1
    assert "/lib/a.so, /lib/b.so" in warning[0]


def test_known_trouble_on_macos_is_a_warning(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(runtimes, "package_version", lambda package: "1.0")
    assert any("macOS" in warning for warning in runtimes.runtime_warnings([], "2.13.0"))


def test_letting_two_openmp_runtimes_run_is_a_warning(no_self_test, monkeypatch):
    monkeypatch.setenv("KMP_DUPLICATE_LIB_OK", "TRUE")
    assert any("KMP_DUPLICATE_LIB_OK" in warning for warning in doctor.diagnose().warnings)
    monkeypatch.delenv("KMP_DUPLICATE_LIB_OK")
    assert not any("KMP_DUPLICATE_LIB_OK" in warning for warning in doctor.diagnose().warnings)
    assert "KMP_DUPLICATE_LIB_OK" not in os.environ, "threadpoolctl would set it"


def test_without_threadpoolctl_the_report_says_what_to_install(no_self_test, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert doctor.main(options()) == 0
    assert 'pip install "tilefold[cli]"' in capsys.readouterr().out


METADATA = [
    "numpy>=2.1",
    "torch>=2.6; extra == 'torch'",
    "torch>=2.6; extra == 'train'",
    'bm25s>=0.2.6; extra == "train"',
    "ir-measures>=0.3.7; extra == 'eval'",
    "hnswlib; (sys_platform != 'win32') and extra == 'hnsw'",
    "pytest>=8; extra == 'test'",
    "tilefold[torch,train]; extra == 'all'",
]


def test_missing_extras_come_with_the_command(no_self_test, monkeypatch, capsys):
    installed = {"torch": "2.13.0+cpu", "ir-measures": "0.3.6", "hnswlib": "0.8.0"}
    monkeypatch.setattr("importlib.metadata.requires", lambda _: METADATA)
    monkeypatch.setattr(extras, "package_version", installed.get)
    monkeypatch.setattr(examination, "package_version", installed.get)
    found = {extra.name: extra for extra in doctor.diagnose().extras}
    assert found.keys() == {"torch", "train", "eval", "hnsw"}
    assert found["torch"].complete
    assert found["hnsw"].complete
    assert found["train"].packages == {"torch": "2.13.0+cpu", "bm25s": None}
    assert found["eval"].too_old == ["ir-measures 0.3.6 is older than 0.3.7"]
    doctor.main(options())
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert 'pip install "tilefold[train]"' in lines["train"]
    assert "lacks bm25s" in lines["train"]
    assert "0.3.6 is older than 0.3.7" in lines["eval"]
    assert "pip install" not in lines["hnsw"]


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.13.0+cpu", (2, 13, 0)), ("0.3.7rc1", (0, 3, 7)), ("10", (10,)), ("unknown", ())],
)
def test_versions_are_compared_as_numbers(version, numbers):
    assert extras._release(version) == numbers


def test_it_runs_from_any_folder(tmp_path):
    """The self-test's process finds the same tilefold as this one."""
    code = "import os; os.chdir(os.environ['ELSEWHERE']); from tilefold.cli import doctor;"
    code += "print(doctor.diagnose().problems)"
    child = process(code, ELSEWHERE=str(Path(tmp_path)))
    assert child.stdout.strip() == "[]", child.stderr
