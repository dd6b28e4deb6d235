"""The cache of answers against kills in the middle of writing, and against other processes."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")

from tilefold.aar.targets import AnswerCache

# Loads the module of the cache alone, as importing the others takes seconds.
ALONE = """
import sys, types, tilefold
for name in ("tilefold.aar", "tilefold.aar.targets"):
    package = types.ModuleType(name)
    package.__path__ = [tilefold.__path__[0] + name.removeprefix("tilefold").replace(".", "/")]
    sys.modules[name] = package
from tilefold.aar.targets.answer_cache import AnswerCache
"""


def process(code: str, *arguments: str) -> subprocess.Popen:
    paths = os.pathsep.join(map(os.path.abspath, sys.path))
    return subprocess.Popen(
        [sys.executable, "-P", "-c", ALONE + code, *arguments],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_response_is_found_by_the_same_model_and_request_alone(tmp_path):
    path = tmp_path / "answers"
    with AnswerCache(path) as cache:
        cache.add("m", "request", '{"text": "\\ud800 é"}')
        assert len(cache) == 1
    with AnswerCache(path) as cache:
        assert cache.get("m", "request") == '{"text": "\\ud800 é"}'
        assert cache.get("n", "request") is cache.get("m", "Request") is None
        # A boundary between model and request that moves is another key.
        cache.add("mr", "equest", "other")
        assert cache.get("m", "request") == '{"text": "\\ud800 é"}'


def test_entries_are_never_changed(tmp_path):
    with AnswerCache(tmp_path / "answers") as cache:
        cache.add("m", "r", "first")
        cache.add("m", "r", "second")
        assert cache.get("m", "r") == "first"


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_every_answer_acknowledged_before_a_kill_is_kept(tmp_path, seconds):
    path = tmp_path / "answers"
    child = process(
        "with AnswerCache(sys.argv[1]) as cache:\n"
        "    for i in range(10**6):\n"
        "        cache.add('m', str(i), 'x' * 5000)\n"
        "        print(i, flush=True)",
        str(path),
    )
    for _ in range(20):
        acknowledged = int(child.stdout.readline())
    killing = threading.Timer(seconds, child.send_signal, [signal.SIGKILL])
    killing.start()
    for line in child.stdout:
        acknowledged = int(line) if line.endswith("\n") else acknowledged
    child.wait()
    child.stdout.close()
    with AnswerCache(path) as cache:
        assert all(cache.get("m", str(i)) == "x" * 5000 for i in range(acknowledged + 1))
        assert acknowledged + 1 <= len(cache) <= acknowledged + 2
        cache.add("m", "next", "y")
        assert cache.get("m", "next") == "y"


def test_two_processes_share_a_file(tmp_path):
    path = tmp_path / "answers"
    code = (
        "with AnswerCache(sys.argv[1]) as cache:\n"
        "    for i in range(int(sys.argv[2]), int(sys.argv[3])):\n"
        "        cache.add('m', str(i), sys.argv[2])\n"
    )
    children = [process(code, str(path), *bounds) for bounds in (("0", "60"), ("30", "90"))]
    for child in children:
        assert child.wait(100) == 0
        child.stdout.close()
    with AnswerCache(path) as cache:
        assert len(cache) == 90
        found = [cache.get("m", str(i)) for i in range(90)]
    assert set(found[:30]) == {"0"}
    assert set(found[60:]) == {"30"}
    assert set(found) == {"0", "30"}


def test_threads_share_a_cache(tmp_path):
    with AnswerCache(tmp_path / "answers") as cache:
        threads = [
            threading.Thread(target=lambda n=n: [cache.add("m", f"{n}-{i}", "x") for i in range(9)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(cache) == 36


def test_threads_may_find_a_file_new_at_the_same_time(tmp_path):
    errors = []

    def opened(path: Path, together: threading.Barrier) -> None:
        together.wait()
        try:
            AnswerCache(path).close()
        except OSError as error:
            errors.append(error)

    for attempt in range(10):
        together = threading.Barrier(4)
        path = tmp_path / f"answers {attempt}"
        threads = [threading.Thread(target=opened, args=(path, together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors


def read_all(path: Path) -> None:
    with AnswerCache(path) as cache:
        for i in range(50):
            cache.get("m", str(i))


def make_text(path: Path) -> None:
    path.write_text('{"text": "an answer"}\n' * 100)


def make_other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.commit()
    connection.close()


def make_truncated(path: Path) -> None:
    with AnswerCache(path) as cache:
        for i in range(50):
            cache.add("m", str(i), "x" * 5000)
    path.write_bytes(path.read_bytes()[:50_000])


@pytest.mark.parametrize("make", [make_text, make_other_database, make_truncated])
def test_another_file_is_refused_and_left_alone(tmp_path, make):
    path = tmp_path / "file"
    make(path)
    before = path.read_bytes()
    with pytest.raises((ValueError, OSError), match=r"AnswerCache: .*file"):
        read_all(path)
    assert path.read_bytes() == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none/answers does not exist"):
        AnswerCache(tmp_path / "none" / "answers")
