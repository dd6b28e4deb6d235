"""Locks after fork: a child process creates its locks again.

The locks themselves are `threading.Lock`, in a plain `with` statement, and `_native.IndexLock`.
Both change their state in C, where no signal handler interrupts them: a lock that Python code
counts, or that a generator holds, stays held for ever where Ctrl-C comes just before its `try`.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


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
