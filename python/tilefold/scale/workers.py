"""Workers: how many processes of which cluster, and what each of them has."""

from __future__ import annotations

from dataclasses import dataclass

from ..integers import as_integer


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Says which cluster of Ray runs tasks, and what a worker, one process, has there.

    Args:
        address: "host:port" of a cluster's head, or "auto" for the one that runs on this machine
            or that RAY_ADDRESS names. With None it is the cluster that this process is connected
            to, or else one that is started on this machine and ends with the work.
        number: of workers, or None for as many as the cluster has room for. There are never more
            than tasks.
        threads: of a worker: Ray reserves as many CPUs.
        gpus: of a worker.

    Raises:
        TypeError, ValueError: an argument of another type, or out of range.

    Example:
        >>> Workers(number=4, threads=2).threads
        2
    """

    address: str | None = None
    number: int | None = None
    threads: int = 1
    gpus: int = 0

    def __post_init__(self) -> None:
        if self.number is not None:
            _check_range("number", self.number, 1, 100_000)
        _check_range("threads", self.threads, 1, 1024)
        _check_range("gpus", self.gpus, 0, 1024)
        if self.address is None or self.address == "auto":
            return
        if not isinstance(self.address, str):
            raise TypeError(
                f"Workers: address must be a string or None, got {type(self.address).__name__}"
            )
        split_address(self.address)


def split_address(address: str) -> tuple[str, int]:
    """Splits "host:port".

    Raises:
        ValueError: it is something else.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f'Workers: address must be "auto" or "host:port", got {address!r}')
    return host, int(port)


def _check_range(name: str, value: int, least: int, most: int) -> None:
    number = as_integer(value, "Workers", name)
    if not least <= number <= most:
        raise ValueError(f"Workers: {name} must be {least} to {most:,}, got {number}")
