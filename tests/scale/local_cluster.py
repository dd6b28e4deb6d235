"""A small cluster of Ray on this machine, and work whose first worker is killed in the middle."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def local_cluster() -> Iterator[Any]:
    """Yields Ray, connected to a cluster with two CPUs, and stops it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray = pytest.importorskip("ray")
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=200 << 20,
        )
        try:
            yield ray
        finally:
            ray.shutdown()


def dying(open_work: Callable[..., Any], begun: Path, deaths: int = 1) -> Callable[..., Any]:
    """Returns `open_work` whose work waits to be killed, the first times that a task begins."""

    def open_dying(*args: Any) -> Any:
        work = open_work(*args)

        def wait_or_work(*inputs: Any) -> Any:
            for number in range(deaths):
                try:
                    handle = os.open(f"{begun}-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                except FileExistsError:
                    continue
                os.write(handle, f"{os.getpid()}\n".encode())
                os.close(handle)
                time.sleep(600)
            return work(*inputs)

        return wait_or_work

    return open_dying


@contextmanager
def killer(begun: Path, deaths: int = 1) -> Iterator[list[int]]:
    """Kills each worker that says in a file that it has begun; yields their process ids."""
    killed: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while len(killed) < deaths and not stop.wait(0.02):
            path = Path(f"{begun}-{len(killed)}")
            text = path.read_text() if path.exists() else ""
            if text.endswith("\n"):
                os.kill(int(text), signal.SIGKILL)
                killed.append(int(text))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def command(*arguments: object, **env: str) -> "subprocess.Popen[str]":
    """Starts `tilefold` in a session of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", "tilefold", *map(str, arguments)],
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
