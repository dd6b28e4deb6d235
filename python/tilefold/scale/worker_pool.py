"""WorkerPool: tasks on processes of a Ray cluster, each done once, also where processes die."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from .ray_cluster import connected, room_for
from .worker_process import Work, WorkerProcess, versions_of
from .workers import Workers

# Processes that may die over one task, or while one worker starts, before that is an error: a task
# that needs more memory than there is would kill workers for ever.
ATTEMPTS = 3
# Seconds after which waiting looks for Ctrl-C again.
_INTERVAL = 1.0


class _Slot:
    """A place for a worker: the process that has it, and what that does.

    Attributes:
        actor: the process.
        ref: what Ray gives for the call that runs; None where none does.
        task: number of the task that the call is for; None while the worker opens, or for a task
            of a run that was given up.
        open: whether the process has opened its work.
        failed_starts: processes in a row that died before they had.
    """

    def __init__(self) -> None:
        self.actor: Any = None
        self.ref: Any = None
        self.task: int | None = None
        self.open = False
        self.failed_starts = 0


class WorkerPool:
    """Processes of a cluster that do tasks while a `with` block runs.

    A process that dies is replaced, and its task is done by another one; a task is given up with an
    error when three processes have died over it. An exception that a task raises is raised here, at
    once: it would be raised again. Runs of several threads take turns.

    Args:
        op: name of the operation, for messages.
        open_work: called once in each process; returns a function of what the tasks of a run share
            and of a task. Both are sent to the processes.
        workers: the cluster and what a worker has there.
        most: workers are never more than this.
        packages: whose versions have to be those of this process, besides tilefold.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: no cluster answers at the address.
        ValueError: no machine of the cluster has room for one worker.

    Example:
        >>> def open_work():
        ...     return lambda shared, task: shared * task
        >>> with WorkerPool("multiply", open_work, Workers(number=2)) as pool:  # doctest: +SKIP
        ...     print(sorted(pool.run([1, 2, 3], shared=10)))
        [(0, 10), (1, 20), (2, 30)]
    """

    def __init__(
        self,
        op: str,
        open_work: Callable[[], Work],
        workers: Workers,
        *,
        most: int | None = None,
        packages: tuple[str, ...] = (),
    ) -> None:
        self._op, self._open_work, self._workers, self._most = op, open_work, workers, most
        self._versions = versions_of(packages)
        self._stack = contextlib.ExitStack()
        self._slots: list[_Slot] = []
        self._ray: Any = None
        self._turn = threading.Lock()
        self._runner: int | None = None  # the thread that has the turn

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._ray = stack.enter_context(connected(self._workers, self._op))
            stack.callback(self._kill_all)
            self._slots = [_Slot() for _ in range(self._number())]
            for slot in self._slots:
                self._start(slot)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(self, tasks: Sequence[Any], shared: Any = None) -> Iterator[tuple[int, Any]]:
        """Does all tasks, and yields the number and the result of each as it is finished.

        Tasks of successive runs go to the same workers, number by number, as long as these have the
        time; whoever is idle takes a task of another.

        Args:
            tasks: what differs between them.
            shared: what all of them get, sent to each machine once.

        Raises:
            ChildProcessError: three processes died over one task, or while one worker started.
            RuntimeError: an earlier run of this thread has not ended.
            ValueError: outside of a `with` block.
            Exception: what a task or `open_work` raised.
        """
        if self._runner == threading.get_ident():
            raise RuntimeError(f"{self._op}: another run of this thread has not ended")
        with self._turn:
            self._runner = threading.get_ident()
            try:
                yield from self._run(tasks, shared)
            finally:
                self._runner = None

    def _run(self, tasks: Sequence[Any], shared: Any) -> Iterator[tuple[int, Any]]:
        if not self._slots:
            raise ValueError(f"{self._op}: workers run inside a `with` block, and there is none")
        waiting = deque(range(len(tasks)))
        deaths: Counter[int] = Counter()
        left, shared_ref = len(tasks), self._ray.put(shared)
        try:
            while left:
                self._hand_out(waiting, tasks, shared_ref)
                slot = self._next_finished()
                number, slot.task = slot.task, None
                try:
                    result = self._result_of(slot, of_this_run=number is not None)
                except _WorkerDiedError as error:
                    self._start(slot)
                    if number is not None:
                        deaths[number] += 1
                        _give_up(deaths[number], f"{self._op}: task {number}", error)
                        waiting.appendleft(number)
                    continue
                if number is not None:
                    left -= 1
                    yield number, result
        finally:
            for slot in self._slots:
                slot.task = None

    def _hand_out(self, waiting: deque[int], tasks: Sequence[Any], shared_ref: Any) -> None:
        """Gives each idle worker a task, one of its own where there is any."""
        for place, slot in enumerate(self._slots):
            if slot.ref is None and waiting:
                own = (number for number in waiting if number % len(self._slots) == place)
                slot.task = next(own, waiting[0])
                waiting.remove(slot.task)
                slot.ref = slot.actor.run.remote(shared_ref, tasks[slot.task])

    def _next_finished(self) -> _Slot:
        by_ref = {slot.ref: slot for slot in self._slots if slot.ref is not None}
        while True:
            ready, _ = self._ray.wait(list(by_ref), num_returns=1, timeout=_INTERVAL)
            if ready:
                return by_ref[ready[0]]

    def _result_of(self, slot: _Slot, *, of_this_run: bool) -> Any:
        """Returns what a finished call returned, or raises what it raised.

        What a task of an earlier run raised is dropped.
        """
        errors = self._ray.exceptions
        ref, slot.ref = slot.ref, None
        try:
            result = self._ray.get(ref)
        except errors.RayTaskError as error:
            if of_this_run or not slot.open:
                raise _raised_there(error) from None
            return None
        except errors.RayError as error:  # all others: the process, its machine or its result
            slot.failed_starts += not slot.open
            _give_up(slot.failed_starts, f"{self._op}: a worker that starts", error)
            raise _WorkerDiedError(str(error)) from error
        slot.open, slot.failed_starts = True, 0
        return result

    def _start(self, slot: _Slot) -> None:
        """Starts a process in a slot, in place of the one that had it."""
        self._kill(slot)
        actor = self._ray.remote(
            num_cpus=self._workers.threads, num_gpus=self._workers.gpus, max_restarts=0
        )(WorkerProcess)
        slot.actor, slot.open = actor.remote(), False
        slot.ref = slot.actor.open.remote(self._open_work, self._versions)

    def _kill(self, slot: _Slot) -> None:
        if slot.actor is not None:
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.kill(slot.actor)

    def _kill_all(self) -> None:
        for slot in self._slots:
            self._kill(slot)
        self._slots = []

    def _number(self) -> int:
        number = self._workers.number or room_for(self._ray, self._workers)
        return number if self._most is None else min(number, self._most)


class _WorkerDiedError(Exception):
    """A process died, or its machine: another one may do the task."""


def _give_up(deaths: int, subject: str, error: Exception) -> None:
    """Raises where too many processes died."""
    if deaths >= ATTEMPTS:
        raise ChildProcessError(
            f"{subject} killed {deaths} processes, the last with: {' '.join(str(error).split())}"
        ) from error


def _raised_there(error: Any) -> BaseException:
    """Returns the exception that a task raised, with its traceback there as a note."""
    cause = error.cause
    if not isinstance(cause, Exception):
        return error  # type: ignore[no-any-return]
    cause.add_note(f"raised by a worker:\n{error}")
    return cause
