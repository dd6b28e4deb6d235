"""Keeps two runs of a study from training in the same folder at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..files.locked import locked
from .study import Reporter


@contextlib.contextmanager
def locked_training(folder: Path, progress: Reporter | None = None) -> Iterator[None]:
    """Holds the folder of a training until the block ends or the process dies.

    Where another run trains in the folder, waits for it. Look inside the block whether the
    training is done: the run that was waited for may have finished it.

    Args:
        folder: of checkpoints.
        progress: receives a warning where another run is waited for.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, wait=False))
        except BlockingIOError:
            if progress is not None:
                progress.warn(f"Waiting for another run, which trains in {folder}.")
            stack.enter_context(locked(folder))
        yield
