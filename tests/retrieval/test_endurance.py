"""Many threads at once, and many calls in a row."""

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from search_cases import assert_same, gaussian

import tilefold
from tilefold import reference

STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_a_hundred_threads_search_while_another_adds_and_removes():
    """Each answer is that of the documents at some moment: with the new ones, or without them."""
    documents, more, queries = gaussian(3000, 24, 0), gaussian(200, 24, 1), gaussian(5, 24, 2)
    expected = [
        reference.search(queries, documents, 7),
        reference.search(queries, np.concatenate([documents, more]), 7),
    ]
    index = tilefold.FlatIndex(24)
    index.add(documents)
    stop, failures, searches = threading.Event(), [], []
    start = threading.Barrier(101)

    def look(number: int) -> None:
        start.wait()
        count = 0
        while not stop.is_set() or count == 0:
            scores, ids = index.search(queries, 7, num_threads=1 + number % 3)
            if not any(
                np.array_equal(ids, e[1]) and np.array_equal(scores, e[0]) for e in expected
            ):
                failures.append(ids)
            count += 1
        searches.append(count)

    threads = [threading.Thread(target=look, args=[i]) for i in range(100)]
    for thread in threads:
        thread.start()
    start.wait()
    for _ in range(20):
        index.add(more, ids=np.arange(3000, 3200))
        index.remove(np.arange(3000, 3200))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(searches) == 100
    assert_same(index.search(queries, 7), expected[0])


def search() -> Callable[[], object]:
    documents, queries = gaussian(200, 16, 0), gaussian(3, 16, 1)
    return lambda: tilefold.search(queries, documents, 5, exclude=[[1], [], [2, 3]])


def refused() -> Callable[[], object]:
    documents, queries = gaussian(200, 16, 0), gaussian(3, 15, 1)

    def call() -> None:
        with pytest.raises(ValueError, match="dim 15"):
            tilefold.search(queries, documents, 5)

    return call


def indexed() -> Callable[[], object]:
    index, documents = tilefold.FlatIndex(16), gaussian(40, 16, 0)
    index.add(gaussian(500, 16, 1))
    numbers = iter(range(10**9))

    def call() -> None:
        ids = np.arange(40) + 1000 + 40 * next(numbers)
        index.add(documents, ids=ids)
        index.search(documents[:2], 3)
        index.remove(ids)

    return call


def named() -> Callable[[], object]:
    index, documents = tilefold.FlatIndex(16), gaussian(40, 16, 0)
    index.add(gaussian(500, 16, 1), ids=[f"kept {i}" for i in range(500)])
    numbers = iter(range(10**9))

    def call() -> None:
        ids = [f"passage {next(numbers)}" for _ in documents]
        index.add(documents, ids=ids)
        index.search(documents[:2], 3, exclude=[ids[:2], []])
        index.remove(ids)

    return call


def loss() -> Callable[[], object]:
    torch = pytest.importorskip("torch")
    from tilefold.losses import contrastive_loss

    queries, documents = torch.randn(4, 8, requires_grad=True), torch.randn(8, 8)
    return lambda: contrastive_loss(queries, documents, torch.arange(4), temperature=0.5).backward()


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="needs /proc, which Linux has")
@pytest.mark.parametrize("make", [search, refused, indexed, named, loss], ids=lambda f: f.__name__)
def test_ten_thousand_calls_take_no_memory(make):
    """A leak of a hundred bytes a call would be a megabyte."""
    call = make()
    for _ in range(1000):
        call()
    before = resident_bytes()
    for _ in range(10_000):
        call()
    assert resident_bytes() - before < 1_000_000
