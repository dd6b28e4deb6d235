"""SignalledServer: uvicorn's server that ends well at SIGTERM, and reloads at SIGHUP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn


class SignalledServer(uvicorn.Server):
    """A server with signals of its own.

    uvicorn raises a signal again when it has ended, so that a process that answered every request
    looks killed.

    Args:
        config: of uvicorn.
        reload: is called at SIGHUP.
        started: is called when connections are taken.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        reload: Callable[[], Awaitable[object]],
        started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._reload, self._started = reload, started
        self._reloads: set[asyncio.Future[object]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals within the event loop, so that none interrupts a request."""
        loop = asyncio.get_running_loop()
        actions = dict.fromkeys((signal.SIGINT, signal.SIGTERM), self._end)
        if hasattr(signal, "SIGHUP"):  # Windows has none: POST /reload does the same
            actions[signal.SIGHUP] = self._start_reload
        for number, action in actions.items():
            _handle(loop, number, action)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes connections, and says so."""
        await super().startup(sockets=sockets)
        self._started()

    def _end(self) -> None:
        if self.should_exit:  # the second signal does what it does to other processes
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        self.should_exit = True

    def _start_reload(self) -> None:
        task = asyncio.ensure_future(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)


def _handle(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, run: Callable[[], None]
) -> None:
    """Runs a function in the event loop at a signal."""
    try:
        loop.add_signal_handler(number, run)
    except NotImplementedError:  # of the loops of Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(run))
