"""Spaces the requests of several threads, and stops them together."""

from __future__ import annotations

import threading
import time


class RequestPace:
    """Limits how often requests begin, over all threads that share it.

    Requests begin at least ``60 / per_minute`` seconds apart, rather than in bursts at the start
    of each minute, which services refuse.

    Args:
        per_minute: requests that may begin in a minute; None for no limit.

    Raises:
        ValueError: per_minute is not above 0.

    Example:
        >>> pace = RequestPace(60_000)
        >>> [pace.wait() for _ in range(3)]
        [True, True, True]
    """

    def __init__(self, per_minute: float | None = None) -> None:
        if per_minute is not None and not per_minute > 0:
            raise ValueError(f"RequestPace: per_minute must be above 0 or None, got {per_minute}")
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0  # when the next request may begin
        self.stopped = threading.Event()

    def wait(self) -> bool:
        """Waits until the next request may begin; returns False, at once, after `stop`."""
        while True:
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._gap
                    return not self.stopped.is_set()
                seconds = self._next - now
            # Others may take the turn meanwhile, or a pause may have moved it: look again.
            if self.stopped.wait(seconds):
                return False

    def pause(self, seconds: float) -> None:
        """Lets no request begin for some seconds, in any thread."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def stop(self) -> None:
        """Ends the waiting of all threads."""
        self.stopped.set()
