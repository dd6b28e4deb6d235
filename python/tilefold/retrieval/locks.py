"""Locks: a readers-writer lock, sections that Ctrl-C does not interrupt, and locks after fork."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Protocol


class ReadWriteLock:
    """Lock for many readers or one writer; a waiting writer has priority over new readers.

    Reading is reentrant, so that a progress callback may search.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: Counter[int] = Counter()  # reading thread -> depth
        self._writer_waits = False

    def held_by_this_thread(self) -> bool:
        """Returns whether the calling thread is reading."""
        return threading.get_ident() in self._readers

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Holds the lock for reading."""
        me = threading.get_ident()
        with self._changed:
            if me not in self._readers:
                self._changed.wait_for(lambda: not self._writer_waits)
            self._readers[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[me] -= 1
                if not self._readers[me]:
                    del self._readers[me]
                    self._changed.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock for writing; callers must ensure that there is one writer at a time."""
        with self._changed:  # held while writing, so that readers block on it
            self._writer_waits = True
            try:
                self._changed.wait_for(lambda: not self._readers)
                yield
            finally:
                self._writer_waits = False
                self._changed.notify_all()


@contextlib.contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Defers SIGINT to the end of the block."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield  # a handler outside Python, or a thread that never receives it
        return
    caught: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)


class HasLocks(Protocol):
    """An object that can create its locks again."""

    def _start_locks(self) -> None: ...


_holders: weakref.WeakSet[HasLocks] = weakref.WeakSet()


def renew_in_children(holder: HasLocks) -> None:
    """Registers an object whose locks a forked child creates again.

    A child inherits locks, but not the threads that hold them, so they would never be released.
    """
    _holders.add(holder)


def _renew() -> None:
    for holder in _holders:
        holder._start_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
