"""The batcher: what waits while a call runs is the next call, and nobody spoils it for others."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

pytest.importorskip("starlette", reason="not installed: pip install tilefold[serve]")

from tilefold.service.batcher import Batcher, QueueFullError


class Calls:
    """Answers numbers by their squares; a call can be held until it is released."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.started, self.release = threading.Event(), threading.Event()
        self.release.set()

    def __call__(self, works: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(works))
        self.started.set()
        assert self.release.wait(20)
        return [ValueError(f"{work}") if work < 0 else work * work for work in works]


def batcher_of(calls: Calls, **options) -> Batcher[int, int]:
    return Batcher(calls, **{"max_batch": 100, "max_queue": 1000, "max_wait": 0.005, **options})


def held(calls: Calls, batcher: Batcher[int, int]):
    """Returns a task whose call runs until it is released."""

    async def begin() -> asyncio.Task[int]:
        calls.release.clear()
        task = asyncio.ensure_future(batcher.submit(1, 1))
        await asyncio.to_thread(calls.started.wait)
        return task

    return begin()


async def queue(batcher: Batcher[int, int], numbers: Sequence[int], size: int = 1):
    tasks = [asyncio.ensure_future(batcher.submit(number, size)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


def test_works_that_wait_while_a_call_runs_are_the_next_call():
    async def main():
        calls = Calls()
        batcher = batcher_of(calls)
        first = await held(calls, batcher)
        tasks = await queue(batcher, range(2, 40))
        assert batcher.queued == 38
        calls.release.set()
        assert await asyncio.gather(first, *tasks) == [i * i for i in range(1, 40)]
        assert calls.batches == [[1], list(range(2, 40))]
        assert batcher.queued == 0
        await batcher.close()

    asyncio.run(main())


def test_a_batch_holds_at_most_its_size_and_a_larger_work_alone():
    async def main():
        calls = Calls()
        batcher = batcher_of(calls, max_batch=10, max_wait=0)
        first = await held(calls, batcher)
        tasks = await queue(batcher, [2, 3, 4], size=4)
        tasks += await queue(batcher, [5], size=50)
        calls.release.set()
        await asyncio.gather(first, *tasks)
        assert calls.batches == [[1], [2, 3], [4], [5]]
        await batcher.close()

    asyncio.run(main())


def test_a_batch_of_one_answers_each_work_alone():
    async def main():
        calls = Calls()
        batcher = batcher_of(calls, max_batch=1)
        await asyncio.gather(*await queue(batcher, range(20)))
        assert calls.batches == [[i] for i in range(20)]
        await batcher.close()

    asyncio.run(main())


def test_an_error_is_that_of_its_own_work():
    async def main():
        batcher = batcher_of(Calls())
        results = await asyncio.gather(*await queue(batcher, [2, -3, 4]), return_exceptions=True)
        assert results[0::2] == [4, 16]
        assert isinstance(results[1], ValueError)
        await batcher.close()

    asyncio.run(main())


def test_a_call_that_fails_as_a_whole_does_not_end_the_batcher():
    async def main():
        def fail(works):
            if len(works) > 1:
                raise RuntimeError("all")
            return [0]

        batcher = Batcher(fail, max_batch=9, max_queue=9, max_wait=0)
        results = await asyncio.gather(*await queue(batcher, [1, 2]), return_exceptions=True)
        assert [str(error) for error in results] == ["all", "all"]
        assert await batcher.submit(3, 1) == 0
        await batcher.close()

    asyncio.run(main())


def test_a_cancelled_caller_leaves_its_batch_alone():
    async def main():
        calls = Calls()
        batcher = batcher_of(calls)
        running = await held(calls, batcher)
        waiting = await queue(batcher, [2, 3, 4])
        running.cancel()
        waiting[1].cancel()
        await asyncio.sleep(0)
        assert batcher.queued == 2
        calls.release.set()
        assert await asyncio.gather(waiting[0], waiting[2]) == [4, 16]
        assert calls.batches == [[1], [2, 4]]
        assert running.cancelled()
        await batcher.close()

    asyncio.run(main())


def test_a_full_queue_refuses_and_has_room_again():
    async def main():
        calls = Calls()
        batcher = batcher_of(calls, max_queue=5)
        first = await held(calls, batcher)
        waiting = await queue(batcher, [2], size=5)
        with pytest.raises(QueueFullError):
            await batcher.submit(3, 1)
        calls.release.set()
        await asyncio.gather(first, *waiting)
        assert await batcher.submit(3, 1) == 9
        await batcher.close()

    asyncio.run(main())


def test_an_idle_batcher_does_not_wait():
    """With a wait of a minute, this test would not end."""

    async def main():
        batcher = batcher_of(Calls(), max_wait=60)
        batcher._last_size, batcher._last_seconds = 9, 1000.0  # of the last call before it was idle
        for i in range(50):
            assert await batcher.submit(i, 1) == i * i
        await batcher.close()

    asyncio.run(asyncio.wait_for(main(), 50))


def test_a_call_waits_for_the_clients_that_were_just_answered():
    async def main():
        calls = Calls()
        batcher = batcher_of(calls, max_wait=10)
        batcher._last_seconds = 100.0  # a call that took long is worth a wait
        first = await held(calls, batcher)
        tasks = await queue(batcher, [2, 3, 4])
        calls.release.set()
        await asyncio.gather(first, *tasks)
        assert calls.batches == [[1], [2, 3, 4]]
        await batcher.close()

    asyncio.run(asyncio.wait_for(main(), 30))
