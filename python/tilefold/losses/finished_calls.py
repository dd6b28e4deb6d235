"""Keeps the interpreter from ending while a thread is within a loss."""

from __future__ import annotations

import atexit
import threading
from typing import Any

import torch

from .. import _native
from ..wrapping import Wrapped, in_place_of

# Once more, and so before torch removes the operators of libraries, which it does at exit, too.
atexit.register(_native.close_exit_gate)


def finishes_before_exit(loss: Wrapped) -> Wrapped:
    """Decorates a loss so that the end of the interpreter waits for calls of daemon threads.

    Before Python 3.14, torch aborts the process where a daemon thread comes back from an operator
    while the interpreter ends. A loss over ranks may wait for others, so nothing waits for it.
    """
    before_exit, is_compiling = _native.before_exit, torch.compiler.is_compiling
    current, main = threading.current_thread, threading.main_thread

    def call(*arguments: Any, **options: Any) -> Any:
        alone = is_compiling() or options.get("process_group") is not None
        if alone or current() is main():
            return loss(*arguments, **options)
        return before_exit(lambda: loss(*arguments, **options))

    return in_place_of(loss, call)
