"""Checks programs of users with mypy --strict and pyright, as these see an installed tilefold.

    python tests/type_checks/check_types.py [CACHE FOLDER]

A virtual environment gets a copy of the package's sources and borrows all others. A program that is
right must pass both checkers, and every line of mistakes.py that is marked `# error`, and no other,
must be reported by both.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "python" / "tilefold"
PROGRAMS = [HERE / "uses_of_the_api.py", HERE / "mistakes.py"]


def environment(folder: Path) -> Path:
    """Makes an environment with the package in its site-packages; returns its Python."""
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True)
    names = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", scheme="venv", vars=names))
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
    shutil.copytree(PACKAGE, site / "tilefold", ignore=ignored)
    borrowed = [path for path in sys.path if path and Path(path) not in (HERE, PACKAGE.parent)]
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    scripts = Path(sysconfig.get_path("scripts", scheme="venv", vars=names))
    return scripts / ("python.exe" if sys.platform == "win32" else "python")


def mypy_errors(python: Path, cache: Path) -> set[tuple[str, int]]:
    """Returns file and line of every error of mypy --strict."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--output=json"]
    command += [f"--cache-dir={cache}", f"--python-executable={python}", *map(str, PROGRAMS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    if done.returncode not in (0, 1):
        sys.exit(f"mypy failed: {done.stdout}{done.stderr}")
    errors = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(Path(e["file"]).name, e["line"]) for e in errors if e["severity"] == "error"}


def pyright_errors(python: Path) -> set[tuple[str, int]]:
    """Returns file and line of every error of pyright."""
    command = [sys.executable, "-m", "pyright", "--outputjson", f"--pythonpath={python}"]
    done = subprocess.run([*command, *map(str, PROGRAMS)], capture_output=True, text=True, cwd=HERE)
    if done.returncode not in (0, 1):
        sys.exit(f"pyright failed: {done.stdout}{done.stderr}")
    found = json.loads(done.stdout)["generalDiagnostics"]
    lines = [(Path(e["file"]).name, e["range"]["start"]["line"] + 1) for e in found]
    return {at for at, e in zip(lines, found, strict=True) if e["severity"] == "error"}


def expected_errors() -> set[tuple[str, int]]:
    """Returns file and line of every comment `# error`."""
    return {
        (program.name, number)
        for program in PROGRAMS
        for number, line in enumerate(program.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"# error: ", line)
    }


def main(folder: Path) -> int:
    """Compares the reports of both checkers with the comments; 1 if any differ."""
    python, expected = environment(folder / "venv"), expected_errors()
    failed = 0
    for name, errors in (
        ("mypy", mypy_errors(python, folder / "mypy")),
        ("pyright", pyright_errors(python)),
    ):
        for kind, lines in (("reports", errors - expected), ("misses", expected - errors)):
            for file, line in sorted(lines):
                sys.stderr.write(f"tests/type_checks/{file}:{line}: {name} {kind} an error\n")
                failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/type_checks").resolve()))
