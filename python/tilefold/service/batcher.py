"""Batcher: what waits while a call runs becomes the next call."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")
_SHARE_OF_LAST_CALL = 0.25  # that a call may wait for the clients that were just answered


class QueueFullError(Exception):
    """There is no room in the queue."""


@dataclass(eq=False)
class _Job(Generic[Work, Result]):
    work: Work
    size: int
    future: asyncio.Future[Result]


class Batcher(Generic[Work, Result]):
    """Answers works in batches, one batch at a time, in the order in which they came.

    An idle batcher starts at once, with what came in one turn of the event loop. While a call runs,
    works queue, and the next call takes them all, up to `max_batch`: the batch grows with the load
    by itself. Clients that wait for their answers before they ask again would come in batches that
    are large and small in turn; so after a call that answered more than now wait, the next one
    waits for as many, for at most `max_wait` and a quarter of the time of that call.

    Args:
        answer: from works to as many results, in a thread; an exception among them is raised by
            its work alone.
        max_batch: total size of the works of a call; a larger work is a call of its own.
        max_queue: total size of the works that wait.
        max_wait: seconds.
        observe: is given the number and the size of the works of each call.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Work]], Sequence[Result | Exception]],
        *,
        max_batch: int,
        max_queue: int,
        max_wait: float,
        observe: Callable[[int, int], None] = lambda works, size: None,
    ) -> None:
        self._answer, self._observe = answer, observe
        self._max_batch, self._max_queue, self._max_wait = max_batch, max_queue, max_wait
        self._jobs: deque[_Job[Work, Result]] = deque()
        self._running: asyncio.Task[None] | None = None
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "tilefold-search")
        self._last_size, self._last_seconds = 0, 0.0
        self.queued = 0

    async def submit(self, work: Work, size: int) -> Result:
        """Returns the result of a work; a caller that is cancelled leaves the others alone.

        Raises:
            QueueFullError: the queue has no room for it.
            Exception: that of its result.
        """
        if self.queued + size > self._max_queue:
            raise QueueFullError
        loop = asyncio.get_running_loop()
        job: _Job[Work, Result] = _Job(work, size, loop.create_future())
        self._jobs.append(job)
        self.queued += size
        self._arrival.set()
        if self._running is None:
            self._running = loop.create_task(self._run())
        try:
            return await job.future
        except asyncio.CancelledError:
            self._forget(job)
            raise

    async def close(self) -> None:
        """Waits for the works that are there, and ends the thread."""
        if self._running is not None:
            await self._running
        self._thread.shutdown()

    async def _run(self) -> None:
        self._last_size = 0  # it was idle: nothing to wait for
        try:
            while self._jobs:
                await self._wait_for_more()
                batch = self._take()
                if batch:
                    await self._call(batch)
        finally:
            self._running = None

    async def _wait_for_more(self) -> None:
        await asyncio.sleep(0)  # whoever is ready in this turn of the loop takes part
        seconds = min(self._max_wait, self._last_seconds * _SHARE_OF_LAST_CALL)
        wanted = min(self._last_size, self._max_batch)
        end = time.monotonic() + seconds
        while self.queued < wanted and (left := end - time.monotonic()) > 0:
            self._arrival.clear()
            try:
                await asyncio.wait_for(self._arrival.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_Job[Work, Result]]:
        batch: list[_Job[Work, Result]] = []
        size = 0
        while self._jobs and (not batch or size + self._jobs[0].size <= self._max_batch):
            batch.append(self._jobs.popleft())
            size += batch[-1].size
        self.queued -= size
        return batch

    async def _call(self, batch: list[_Job[Work, Result]]) -> None:
        size = sum(job.size for job in batch)
        self._observe(len(batch), size)
        begin = time.monotonic()
        works = [job.work for job in batch]
        loop = asyncio.get_running_loop()
        results: Sequence[Result | Exception]
        try:
            results = await loop.run_in_executor(self._thread, self._answer, works)
        except Exception as error:  # of all works alike
            results = [error] * len(batch)
        self._last_size, self._last_seconds = size, time.monotonic() - begin
        for job, result in zip(batch, results, strict=True):
            if job.future.done():  # cancelled meanwhile
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

    def _forget(self, job: _Job[Work, Result]) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
            self.queued -= job.size
