"""Ctrl-C, or any signal handler that raises, leaves HnswIndex unlocked and consistent.

Handlers run on the main thread, between any two instructions of Python. Here a signal arrives
before each instruction of a call in turn: those of HnswIndex, of what it calls in its folder, and
of the locks that it holds.
"""

import contextlib
import itertools
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

import tilefold
from tilefold import _native, reference

pytest.importorskip("hnswlib", reason="not installed: pip install tilefold[hnsw]")
from tilefold.retrieval import hnsw, locks

FOLDERS = (str(hnsw.__path__[0]), locks.__file__, contextlib.__file__)
DOCUMENTS = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
MORE = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32) * 3
QUERY = np.random.default_rng(2).standard_normal((1, 4)).astype(np.float32)


def interrupted_at(instruction: int, call: Callable[[], Any]) -> bool:
    """Calls, with a signal before an instruction; returns whether its handler raised."""
    passed = itertools.count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(FOLDERS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and next(passed) == instruction:
            signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def assert_unlocked(index: tilefold.HnswIndex) -> None:
    """Another thread can make a change that writes, and so needs the whole lock."""
    other = threading.Thread(target=lambda: setattr(index, "ef_search", 30), daemon=True)
    other.start()
    other.join(10)
    assert not other.is_alive(), "the lock is held for ever"


def full_index() -> tilefold.HnswIndex:
    index = tilefold.HnswIndex(4, m=4, ef_construction=10, ef_search=10)
    index.add(DOCUMENTS)
    index.remove([3, 7])
    return index


@pytest.fixture(scope="module")
def saved() -> bytes:
    return pickle.dumps(full_index())


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.search(QUERY, 3),
        lambda index: index.search(QUERY, 3, progress=lambda *_: index.search(QUERY, 1)),
        lambda index: index.search(QUERY, 40, allowed=[1, 2]),
        lambda index: index.ids,
        lambda index: index.reconstruct([1, 2]),
    ],
    ids=["search", "search in a progress callback", "search of few", "ids", "reconstruct"],
)
def test_an_interrupt_at_any_instruction_leaves_no_reader_behind(saved, call):
    index, instruction = pickle.loads(saved), 0
    while interrupted_at(instruction, lambda: call(index)):
        assert_unlocked(index)
        instruction += 1
    assert instruction > 10


def contents(index: tilefold.HnswIndex) -> dict[int, bytes]:
    ids = index.ids
    return {int(i): v.tobytes() for i, v in zip(ids, index.reconstruct(ids), strict=True)}


def assert_consistent(index: tilefold.HnswIndex) -> None:
    """Searches return documents that are there, with their scores; k up to all finds all."""
    ids = index.ids
    vectors = index.reconstruct(ids)
    for k in (3, len(ids)):
        found = index.search(QUERY, k)
        assert (found.ids >= 0).all()
        row_of = {id: row for row, id in enumerate(ids.tolist())}
        rows = [row_of[id] for id in found.ids[0].tolist()]
        exact = reference.canonical_scores(QUERY, vectors)[0]
        np.testing.assert_array_equal(found.scores[0], exact[rows])


@pytest.mark.parametrize(
    "change",
    [
        lambda index, _: index.add(MORE, ids=np.arange(100, 105)),
        lambda index, _: index.remove([1, 2]),
        lambda index, _: setattr(index, "ef_search", 20),
        lambda index, _: index.__getstate__(),
    ],
    ids=["add", "remove", "ef_search", "pickle"],
)
def test_an_interrupt_at_any_instruction_leaves_the_old_index_or_the_new(saved, change):
    changed = pickle.loads(saved)
    change(changed, None)
    allowed = [contents(pickle.loads(saved)), contents(changed)]
    for instruction in itertools.count():
        index = pickle.loads(saved)
        interrupted = interrupted_at(instruction, lambda index=index: change(index, None))
        assert_unlocked(index)
        assert contents(index) in allowed
        assert_consistent(index)
        if not interrupted:
            break
    assert instruction > 10


def test_an_interrupted_rebuild_leaves_the_old_index(saved):
    """More removed rows than others, so that the next add builds the graph anew."""
    few = pickle.loads(saved)
    few.remove(few.ids[:30])
    state, before = pickle.dumps(few), contents(few)
    for instruction in itertools.count(0, 7):
        index = pickle.loads(state)
        interrupted = interrupted_at(instruction, lambda index=index: index.add(MORE))
        assert_unlocked(index)
        assert_consistent(index)
        assert contents(index) == before or len(index) == len(before) + len(MORE)
        if not interrupted:
            break
    assert instruction > 100


# ---- the lock ------------------------------------------------------------------------------------


def test_handlers_of_signals_wait_for_the_end_of_a_write():
    lock, steps = _native.IndexLock(), []

    def write() -> None:
        signal.raise_signal(signal.SIGINT)
        steps.extend(range(1000))

    with pytest.raises(KeyboardInterrupt):
        lock.changing(lambda: lock.writing(write))
    assert len(steps) == 1000
    assert not lock.is_changing()
    assert lock.changing(lambda: lock.writing(lambda: 7)) == 7


def test_what_a_function_raises_comes_through_and_releases_the_lock():
    lock = _native.IndexLock()

    def fail() -> None:
        raise KeyError("reason")

    for call in (
        lambda: lock.reading(fail),
        lambda: lock.changing(fail),
        lambda: lock.changing(lambda: lock.writing(fail)),
    ):
        with pytest.raises(KeyError, match="reason"):
            call()
        assert not lock.is_read_here()
        assert not lock.is_changing()
        assert lock.changing(lambda: lock.writing(lambda: lock)) is lock


def test_a_change_within_a_change_is_refused_instead_of_waiting_for_itself():
    lock = _native.IndexLock()
    with pytest.raises(RuntimeError, match="within another"):
        lock.changing(lambda: lock.changing(lambda: None))
    with pytest.raises(RuntimeError, match="within a change only"):
        lock.writing(lambda: None)
    assert lock.changing(lambda: 1) == 1


def test_ctrl_c_ends_the_wait_for_a_lock():
    lock, begun, finish = _native.IndexLock(), threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        finish.wait(60)

    holder = threading.Thread(target=lambda: lock.changing(lambda: lock.writing(hold)))
    holder.start()
    begun.wait(60)
    for wait in (lambda: lock.reading(lambda: None), lambda: lock.changing(lambda: None)):
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            wait()
    finish.set()
    holder.join(60)
    assert lock.changing(lambda: lock.writing(lambda: 1)) == 1


def test_a_writer_waits_for_readers_and_goes_before_new_ones():
    lock, order = _native.IndexLock(), []
    reading, finish = threading.Event(), threading.Event()

    def read() -> None:
        reading.set()
        finish.wait(60)
        lock.reading(lambda: order.append("reads within its reading"))
        order.append("first reader")

    first = threading.Thread(target=lambda: lock.reading(read))
    first.start()
    reading.wait(60)
    writer = threading.Thread(
        target=lambda: lock.changing(lambda: lock.writing(lambda: order.append("writer")))
    )
    writer.start()
    while not lock.is_changing():
        pass
    threading.Event().wait(0.2)  # the writer waits now
    second = threading.Thread(target=lambda: lock.reading(lambda: order.append("second reader")))
    second.start()
    threading.Event().wait(0.2)
    finish.set()
    for thread in (first, writer, second):
        thread.join(60)
    assert order == ["reads within its reading", "first reader", "writer", "second reader"]
