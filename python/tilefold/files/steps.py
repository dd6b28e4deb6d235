"""Steps of a long study, each kept when it is done: a study that was stopped goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..version import __version__
from .atomic import replacing
from .storage import CorruptedFolderError, map_tensors, write_tensors

Arrays = Mapping[str, NDArray[Any]]


class Steps:
    """Results of steps in a folder, under names that have a digest of all that they depend on.

    Args:
        folder: is made if it does not exist.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.resumed = 0  # steps that were done before

    def once(self, name: str, depends: Any, make: Callable[[], Arrays]) -> dict[str, NDArray[Any]]:
        """The arrays that `make` gives, or those that it gave before.

        Args:
            name: of the step, for people.
            depends: everything that the result follows from, as JSON can have it.
            make: is called where there is no such result.
        """
        asked = json.dumps([__version__, name, depends], sort_keys=True)
        digest = hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()
        path = self._folder / f"{name.replace(' ', '-')}-{digest}.safetensors"
        found = _read(path)
        if found is not None:
            self.resumed += 1
            return found
        made = {key: np.asarray(array) for key, array in make().items()}
        with replacing(path) as partial:
            write_tensors(partial, made)
        return made


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """None where there is nothing, or what is there is torn: it is done again."""
    try:
        return {key: np.array(array) for key, array in map_tensors(path).items()}
    except (FileNotFoundError, CorruptedFolderError):
        return None


def digest_of(texts: Any) -> str:
    """A short name for texts or other values, for what a step depends on."""
    asked = json.dumps(texts, ensure_ascii=False)
    return hashlib.blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
