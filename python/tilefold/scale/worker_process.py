"""The half of a worker that runs in a process of the cluster."""

from __future__ import annotations

import importlib.metadata
import socket
from collections.abc import Callable, Mapping
from typing import Any

from ..version import __version__

# Does one task: from what all tasks of a run share, and the task.
Work = Callable[[Any, Any], Any]


class WorkerProcess:
    """An actor of Ray that opens its work once, and then does tasks one after another.

    Its constructor does nothing, because Ray hides which exception a constructor raised.
    """

    def __init__(self) -> None:
        self._work: Work | None = None

    def open(self, open_work: Callable[[], Work], versions: Mapping[str, str | None]) -> None:
        """Compares the versions of packages with those of the caller, and opens the work."""
        check_versions(versions)
        self._work = open_work()

    def run(self, shared: Any, task: Any) -> Any:
        """Does one task."""
        assert self._work is not None
        return self._work(shared, task)


def versions_of(packages: tuple[str, ...]) -> dict[str, str | None]:
    """Returns the installed versions of tilefold and of other packages; None for a missing one."""
    return {"tilefold": __version__, **{name: _version_of(name) for name in packages}}


def check_versions(expected: Mapping[str, str | None]) -> None:
    """Compares versions with those that are installed here.

    Raises:
        VersionMismatchError: one differs, so that bits or file formats may differ as well.
    """
    found = versions_of(tuple(name for name in expected if name != "tilefold"))
    for name, version in expected.items():
        if found[name] != version:
            raise VersionMismatchError(
                f"the worker on {socket.gethostname()} has {name} {found[name]}, expected "
                f"{version}: install the same versions on all machines"
            )


class VersionMismatchError(ValueError):
    """A worker has another version of a package than the process that started it."""


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
