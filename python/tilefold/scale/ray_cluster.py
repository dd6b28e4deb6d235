"""The connection to a cluster of Ray, or a cluster of this machine for the time of a block."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

from .workers import Workers, split_address

# Seconds for a connection to the head of a cluster. Without this check, Ray 2.60 tries for more
# than three minutes and then ends the process.
_TIMEOUT = 10.0


def import_ray(op: str) -> Any:
    """Imports Ray.

    Raises:
        ImportError: it is not installed.
    """
    # Ray reads this when it starts a cluster; whoever wants to send reports sets it to 1.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError(f'{op} needs Ray ({error}): pip install "tilefold[ray]"') from error
    return ray


@contextlib.contextmanager
def connected(workers: Workers, op: str) -> Iterator[Any]:
    """Yields Ray, connected to a cluster until the block ends.

    A connection that the process has already is used, and stays.

    Args:
        workers: the cluster, and what the workers need there.
        op: name of the operation, for messages.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: no cluster answers at the address.
        ValueError: an address, although the process is connected to a cluster; no machine of the
            cluster has room for one worker.
    """
    ray = import_ray(op)
    if ray.is_initialized():
        if workers.address is not None:
            raise ValueError(
                f"{op}: this process is connected to a Ray cluster already, so address must be "
                f"None, got {workers.address!r}"
            )
        _check_room(ray, workers, op)
        yield ray
        return
    _connect(ray, workers, op)
    try:
        _check_room(ray, workers, op)
        yield ray
    finally:
        ray.shutdown()


def room_for(ray: Any, workers: Workers) -> int:
    """Returns how many workers the cluster has room for, busy or not."""
    return sum(_room_of(node, workers) for node in ray.nodes() if node["Alive"])


def _connect(ray: Any, workers: Workers, op: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if workers.address is None:
        ray.init(
            address="local",
            num_cpus=_local_cpus(workers),
            include_dashboard=False,
            **quiet,
        )
        return
    try:
        if workers.address != "auto":
            socket.create_connection(split_address(workers.address), timeout=_TIMEOUT).close()
        elif os.environ.get("RAY_ADDRESS"):
            address = split_address(os.environ["RAY_ADDRESS"])
            socket.create_connection(address, timeout=_TIMEOUT).close()
        ray.init(address=workers.address, **quiet)
    except (OSError, RuntimeError, SystemExit) as error:
        raise ConnectionError(
            f"{op}: no Ray cluster at {workers.address}: {error}; start one with "
            "'ray start --head', or leave the address out for one on this machine"
        ) from error


def _local_cpus(workers: Workers) -> int:
    """Returns the CPUs of a cluster of this machine: as many as asked for, or all."""
    if workers.number is not None:
        return workers.number * workers.threads
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(cores or 1, workers.threads)


def _check_room(ray: Any, workers: Workers, op: str) -> None:
    if not room_for(ray, workers):
        found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        have = ", ".join(f"{r.get('CPU', 0):g} CPUs and {r.get('GPU', 0):g} GPUs" for r in found)
        raise ValueError(
            f"{op}: a worker needs {workers.threads} CPUs and {workers.gpus} GPUs, but the "
            f"machines of the cluster have {have}"
        )


def _room_of(node: dict[str, Any], workers: Workers) -> int:
    has = node["Resources"]
    room = int(has.get("CPU", 0) // workers.threads)
    return min(room, int(has.get("GPU", 0) // workers.gpus)) if workers.gpus else room
