"""A long search stays answerable: it stops at Ctrl-C, reports progress and lets that stop it."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from search_cases import WAYS, assert_same, gaussian, inherited_environment

import tilefold
from tilefold import reference


def endless(rows: int, dim: int) -> np.ndarray:
    """A corpus that takes long to search and no memory: one row many times."""
    return np.broadcast_to(gaussian(1, dim), (rows, dim))


LONG_SEARCH = """
import sys
import numpy as np
import tilefold
n, dim, k, threads = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
documents = np.broadcast_to(rng.standard_normal((1, dim)).astype(np.float32), (10**9, dim))
queries = rng.standard_normal((n, dim)).astype(np.float32)
print("searching", flush=True)
tilefold.search(queries, documents, k, num_threads=threads)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent as on POSIX")
@pytest.mark.parametrize(
    ("n", "dim", "k", "threads"),
    [(1, 8, 1, 1), (4, 32, 10, 2), (200, 64, 10, 2), (200, 16, 1000, 1), (16, 40_000, 5, 2)],
)
def test_ctrl_c_stops_a_search_within_a_second(n, dim, k, threads):
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", LONG_SEARCH, *map(str, (n, dim, k, threads))],
        env=inherited_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "searching"
        time.sleep(0.4)
        assert child.poll() is None
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=10)
        took = time.monotonic() - begin
    finally:
        child.kill()
        child.communicate()
    assert errors.strip().endswith("KeyboardInterrupt")
    assert took < 1


@pytest.mark.parametrize(("n", "threads"), [(1, 1), (2, 3), (40, 1), (40, 2)])
def test_progress_rises_to_the_whole(n, threads):
    calls: list[tuple[int, int]] = []
    queries, documents = gaussian(n, 64), endless(400_000 if n > 9 else 2_000_000, 64)
    begin = time.monotonic()
    tilefold.search(
        queries, documents, 3, num_threads=threads, progress=lambda *done: calls.append(done)
    )
    took = time.monotonic() - begin
    done, total = zip(*calls, strict=True)
    assert set(total) == {len(documents)}
    assert list(done) == sorted(done)
    assert done[0] >= 0
    assert done[-1] == len(documents)
    assert len(done) > 3 * took, "a few times a second"
    assert all(type(count) is int for count in done)


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_is_called_on_the_calling_thread(threads):
    callers = set()
    tilefold.search(
        gaussian(2, 64),
        endless(300_000, 64),
        3,
        num_threads=threads,
        progress=lambda *_: callers.add(threading.get_ident()),
    )
    assert callers == {threading.get_ident()}


@WAYS
@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_progress_stops_the_search(way, threads):
    class EnoughError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise EnoughError(done)

    documents = endless(300_000, 64)
    with pytest.raises(EnoughError):
        way(gaussian(40, 64), documents, 3, num_threads=threads, progress=stop)
    queries = gaussian(2, 64)
    assert_same(way(queries, documents[:99], 3), reference.search(queries, documents[:99], 3))


def test_a_search_may_be_nested_in_the_progress_of_another():
    inner = []

    def look(done: int, total: int) -> None:
        inner.append(tilefold.search(gaussian(1, 8), gaussian(50, 8), 2, num_threads=2).ids[0, 0])

    tilefold.search(gaussian(2, 64), endless(200_000, 64), 3, num_threads=2, progress=look)
    assert len(set(inner)) == 1
