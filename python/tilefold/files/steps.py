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

Arrays = Mapping[str, NDArray[Any]]

# Raised when the code of a study gives other results for the same inputs between two releases;
# a release does so by itself.
VERSION = 1


class Steps:
    """Keeps results of steps in a folder, in files named by a digest of all that they depend on.

    Args:
        folder: created if absent.

    Attributes:
        resumed: how many steps were read instead of computed.

    Raises:
        OSError: the folder cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.resumed = 0

    def once(self, name: str, depends: Any, make: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """Returns the arrays of `make`, or those that an earlier call with these arguments kept.

        Args:
            name: name of the step, for people.
            depends: everything that the result depends on, as JSON can hold it.
            make: computes the result; called where none is kept, or the file is truncated.

        Raises:
            WrongChecksumError: the file is whole, but not what was written.
        """
        key = result_key("step", VERSION, [__version__, name, depends])
        path = self._folder / f"{name.replace(' ', '-')}-{key}.safetensors"
        found = _read(path)
        if found is not None:
            self.resumed += 1
            return found
        made = {key: np.asarray(array) for key, array in make().items()}
        write_checked(path, made)
        return made


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """Returns None where there is no file or a truncated one."""
    try:
        return read_checked(path)
    except WrongChecksumError:
        raise
    except (FileNotFoundError, CorruptedFolderError):
        return None
