"""Trains once in a folder: resumes what was stopped, and keeps two runs from training there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..files.atomic import replacing_text
from ..files.locked import locked
from .study import Reporter

Log = list[dict[str, float]]  # values by step


def train_once(
    folder: Path,
    make: Callable[[], Any],
    log: Callable[[Any], Log],
    *,
    name: str,
    progress: Reporter | None = None,
) -> tuple[Path, Log]:
    """Trains from the last checkpoint on, and saves the model, unless the training is done.

    Where another run trains in the folder, waits for it and takes its model.

    Args:
        folder: of checkpoints.
        make: makes the trainer, one of transformers.
        log: reads from the trainer what is kept of a training.
        name: of the file with the log, which is written when the training is done.
        progress: receives a warning where another run is waited for.

    Returns:
        The folder of the model, and the log.
    """
    from ..train.checkpoints import MODEL, last_checkpoint

    path = folder / name
    with locked_training(folder, progress):
        if not path.is_file():
            trainer = make()
            resumed = last_checkpoint(folder)
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
            trainer.save_model()
            with replacing_text(path) as file:
                json.dump(log(trainer), file)
    found: Log = json.loads(path.read_text())
    return folder / MODEL, found


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
