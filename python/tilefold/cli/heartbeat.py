"""Lines that show that a long step is still running, where there is no terminal for a bar."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .terminal import fact

INTERVAL = 25.0  # seconds; the commands promise a line at least every 30


@contextmanager
def heartbeat(step: str) -> Iterator[None]:
    """Writes the elapsed time of a step every 25 seconds, unless stderr is a terminal.

    On a terminal the step's own progress bar is shown there. A thread writes the lines, since the
    step may be one call into compiled code.

    Args:
        step: name of the step, such as "encoding documents".
    """
    if sys.stderr.isatty():
        yield
        return
    finished, started = threading.Event(), time.perf_counter()

    def write() -> None:
        while not finished.wait(INTERVAL):
            fact("", f"{step}: {time.perf_counter() - started:.0f} s so far")

    thread = threading.Thread(target=write, name="tilefold-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
