"""Shows the progress of long steps: a bar on a terminal, a line every 25 seconds elsewhere.

Nothing else in the package draws bars. tqdm is imported when the first bar is drawn; without it a
terminal gets lines as well.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Protocol, TextIO, TypeVar

Item = TypeVar("Item")

# Called with the amounts done and in total, such as queries, while a function runs.
Progress = Callable[[int, int], object]

# Seconds between lines. The commands promise a line at least every 30.
INTERVAL = 25.0
# Seconds between updates of the elapsed time in a bar.
_REFRESH = 1.0


class Clock(Protocol):
    """Time as a display sees it; tests pass their own."""

    def now(self) -> float:
        """Returns seconds since some fixed moment."""
        ...

    def wait(self, finished: threading.Event, seconds: float) -> bool:
        """Waits for the event, at most that long, and returns whether it is set."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> float:
        """Returns seconds since some fixed moment."""
        return time.perf_counter()

    def wait(self, finished: threading.Event, seconds: float) -> bool:
        """Waits for the event, at most that long, and returns whether it is set."""
        return finished.wait(seconds)


class _OpenDisplays(threading.local):
    """The open displays of a thread, outermost first."""

    def __init__(self) -> None:
        self.displays: list[ProgressDisplay] = []


_open = _OpenDisplays()


class ProgressDisplay:
    """The display of one step while its `with` block runs; made by `show_progress`.

    It is itself a callback: calling it with the amounts done and in total updates it.
    """

    def __init__(
        self, description: str, total: float | None, show: bool, stream: TextIO | None, clock: Clock
    ) -> None:
        self._description, self._total, self._show = description, total, show
        self._stream, self._clock = stream, clock
        self._done, self._suffix, self._started = 0.0, "", 0.0
        self._bar: Any = None
        self._thread: threading.Thread | None = None
        self._finished = threading.Event()
        self._siblings: list[ProgressDisplay] = []

    def __call__(self, done: float, total: float) -> None:
        """Sets the amounts that are done and in total."""
        self._done, self._total = done, total
        if self._bar is not None:
            self._bar.total, self._bar.bar_format = total, _bar_format(total)
            self._bar.update(done - self._bar.n)

    def advance(self, amount: float = 1) -> None:
        """Adds to the amount that is done."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(amount)

    def note(self, text: str) -> None:
        """Shows a short text behind the amounts, such as the current loss."""
        self._suffix = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def __enter__(self) -> ProgressDisplay:
        if self._stream is None:
            self._stream = sys.stderr
        # There is no stderr without a console, as in pythonw.
        if not self._show or self._stream is None:
            return self
        self._started = self._clock.now()
        if self._stream.isatty():
            self._bar = _make_bar(self._description, self._total, self._stream)
        self._siblings = _open.displays
        self._siblings.append(self)
        if self._siblings[0] is self:
            self._start_thread()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self not in self._siblings:
            return
        self._siblings.remove(self)
        self._stop_thread()
        if self._bar is not None:
            self._bar.close()
        # Generators may end in any order.
        if self._siblings and self._siblings[0]._thread is None:
            self._siblings[0]._start_thread()

    def _start_thread(self) -> None:
        """Starts the thread of the outermost display, which also speaks for those within it.

        It is a thread because the step may be one call into compiled code. One is enough: several
        would write several lines about the same work.
        """
        self._thread = threading.Thread(target=self._tick, name="tilefold-progress", daemon=True)
        self._thread.start()

    def _stop_thread(self) -> None:
        self._finished.set()
        # A generator that the thread itself collects as garbage ends here.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _tick(self) -> None:
        interval = INTERVAL if self._bar is None else _REFRESH
        # A closed stream must not end the step whose progress it would show.
        with contextlib.suppress(OSError, ValueError):
            while not self._clock.wait(self._finished, interval):
                if self._bar is None:
                    self._write_line()
                else:
                    self._bar.refresh()

    def _write_line(self) -> None:
        assert self._stream is not None
        parts = [display._describe() for display in tuple(self._siblings)]
        seconds = self._clock.now() - self._started
        self._stream.write(f"  {', '.join(parts)}: {seconds:.0f} s so far\n")
        self._stream.flush()

    def _describe(self) -> str:
        share = f" {self._done / self._total:.0%}" if self._total else ""
        return f"{self._description}{share}" + (f" ({self._suffix})" if self._suffix else "")


def show_progress(
    description: str,
    total: float | None = None,
    *,
    show: bool = True,
    stream: TextIO | None = None,
    clock: Clock | None = None,
) -> ProgressDisplay:
    """Shows the progress of a step while a `with` block runs.

    A terminal gets a bar, which vanishes at the end of the block, also after an exception. Any
    other stream gets a line every 25 seconds, also while a call into compiled code runs, and
    nothing if the step is shorter. Within another display, both share these lines.

    Args:
        description: of the step, such as "encode documents".
        total: the amount of work; None if it is unknown, or given with the first call.
        show: whether to show anything.
        stream: stderr by default.
        clock: the machine's by default.

    Returns:
        A context manager. Its value has `advance(amount)` and `note(text)`, and is a callback for
        every function that takes `progress=`.

    Example:
        >>> with show_progress("square", 3) as display:
        ...     for number in range(3):
        ...         display.advance()
    """
    return ProgressDisplay(description, total, show, stream, clock or SystemClock())


def track(
    items: Iterable[Item],
    description: str,
    *,
    total: float | None = None,
    show: bool = True,
    stream: TextIO | None = None,
    clock: Clock | None = None,
) -> Iterator[Item]:
    """Yields the items of a loop and shows how many are done; see `show_progress`.

    Args:
        items: any iterable.
        description: of the loop.
        total: number of items; their `len()` by default, where they have one.
        show: whether to show anything.
        stream: stderr by default.
        clock: the machine's by default.

    >>> [number**2 for number in track([1, 2, 3], "square")]
    [1, 4, 9]
    """
    if total is None:
        with contextlib.suppress(TypeError):
            total = len(items)  # type: ignore[arg-type]
    with show_progress(description, total, show=show, stream=stream, clock=clock) as display:
        for item in items:
            yield item
            display.advance()


def _make_bar(description: str, total: float | None, stream: TextIO) -> Any:
    """Returns a bar of tqdm; None if it is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(
        total=total,
        desc=description,
        file=stream,
        leave=False,
        dynamic_ncols=True,
        bar_format=_bar_format(total),
    )


def _bar_format(total: float | None) -> str:
    # A step whose amount is unknown, such as one call into compiled code, shows its time.
    if total is None:
        return "{desc} {elapsed}{postfix}"
    return "{desc} {percentage:3.0f}% |{bar}| {elapsed} < {remaining}{postfix}"
