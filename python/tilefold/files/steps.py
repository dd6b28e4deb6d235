"""Steps of a long study, each kept when it is done: a study that was stopped goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..version import __version__
from .done_once import WrongChecksumError, digest_of, read_checked, result_key, write_checked
from .tensors import CorruptedFolderError

__all__ = ["Steps", "digest_of"]

_KEY = "key of the step"  # a tensor besides those of the result

Arrays = Mapping[str, NDArray[Any]]

# Raised when the code of a study gives other results for the same inputs between two releases;
# a release does so by itself.
VERSION = 2


class Steps:
    """Keeps results of steps in a folder, in files named by a digest of all that they depend on.

    Args:
        folder: created if absent.

    Attributes:
        resumed: how many steps of earlier runs were read instead of computed.

    Raises:
        OSError: the folder cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._seen: set[Path] = set()  # files that this object read or wrote
        self.resumed = 0

    def once(self, name: str, depends: Any, make: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """Returns the arrays of `make`, or those that an earlier call with these arguments kept.

        Args:
            name: name of the step, for people.
            depends: everything that the result depends on, as JSON can hold it.
            make: computes the result; called where none is kept, or the file is truncated.

        Raises:
            WrongChecksumError: the file is whole, but not what was written.
            CorruptedFolderError: the file is that of another step.
        """
        path, key = self._path(name, depends)
        found = _read(path, key)
        if found is not None:
            self.resumed += path not in self._seen
            self._seen.add(path)
            return found
        made = {name: np.asarray(array) for name, array in make().items()}
        write_checked(path, {**made, _KEY: _as_bytes(key)})
        self._seen.add(path)
        return made

    def folder(self, name: str, depends: Any) -> Path:
        """Returns a folder, created if absent, for a step that keeps files of its own.

        The same arguments give the same folder, so that a training that was stopped finds its
        checkpoints.

        Args:
            name: name of the step, for people.
            depends: everything that its files depend on, as JSON can hold it.
        """
        path = self._path(name, depends)[0].with_suffix("")
        path.mkdir(exist_ok=True)
        return path

    def _path(self, name: str, depends: Any) -> tuple[Path, str]:
        """Returns the file of a step, and its key."""
        key = result_key("step", VERSION, [__version__, name, depends])
        return self._folder / f"{name.replace(' ', '-')}-{key}.safetensors", key


def _read(path: Path, key: str) -> dict[str, NDArray[Any]] | None:
    """Returns None where there is no file or a truncated one."""
    try:
        found = read_checked(path)
    except WrongChecksumError:
        raise
    except (FileNotFoundError, CorruptedFolderError):
        return None
    if not np.array_equal(found.pop(_KEY, ()), _as_bytes(key)):
        raise CorruptedFolderError(
            f"{path} is the result of another step: remove it, and it is computed again"
        )
    return found


def _as_bytes(key: str) -> NDArray[np.uint8]:
    return np.frombuffer(key.encode(), np.uint8)
