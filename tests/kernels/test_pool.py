"""The pool of threads under ThreadSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [Path(__file__).with_name("pool_stress.cpp"), ROOT / "csrc" / "parallel.cpp"]
# Of the first exception, which the caller rethrows.
LOCK = "std::lock_guard<std::mutex> lock(error_mutex);"


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("g++") or shutil.which("clang++")
    if found is None or not SOURCES[1].exists():
        pytest.skip("needs a C++ compiler and the sources")
    return found


def compiled(compiler: str, folder: Path, sources: list[Path]) -> Path:
    program = folder / "pool_stress"
    flags = ["-std=c++17", "-O1", "-g", "-pthread", "-fsanitize=thread", f"-I{ROOT / 'csrc'}"]
    built = subprocess.run(
        [compiler, *flags, *map(str, sources), "-o", str(program)], capture_output=True, text=True
    )
    if "cannot find" in built.stderr and "tsan" in built.stderr:
        pytest.skip("the compiler has no ThreadSanitizer")
    assert built.returncode == 0, built.stderr
    return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    # The sanitizer of older compilers does not start where Linux randomises more of the addresses.
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not start with this version of Linux")
    return done


@pytest.mark.slow
def test_calls_from_many_threads_have_no_data_race(compiler, tmp_path):
    done = run(compiled(compiler, tmp_path, SOURCES))
    assert (done.returncode, done.stderr) == (0, "")
    ran, expected = done.stdout.split()[0], done.stdout.split()[2]
    assert ran == expected
    assert int(ran) > 100_000


@pytest.mark.slow
def test_the_sanitizer_finds_a_pool_without_a_lock(compiler, tmp_path):
    """Otherwise the test above could not fail.

    Two threads have to throw at the same time, which on a busy machine may take several runs.
    """
    source = SOURCES[1].read_text(encoding="utf-8")
    assert LOCK in source
    faulty = tmp_path / "parallel.cpp"
    faulty.write_text(source.replace(LOCK, ""), encoding="utf-8")
    program = compiled(compiler, tmp_path, [SOURCES[0], faulty])
    found = next((done for done in (run(program) for _ in range(20)) if done.returncode), None)
    assert found is not None
    assert "data race" in found.stderr
