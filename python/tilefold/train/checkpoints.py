"""Reads and writes checkpoint files besides those of `transformers`, and checks completeness."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from ..ragged_lists import Lists

MODEL = "model"  # folder that `BiEncoder.from_pretrained` loads
WEIGHTS = "objective.safetensors"  # of the model and of the loss, to resume from
_NEGATIVES = "negatives.safetensors"
_STATE = "trainer_state.json"


def save_negatives(folder: Path, negatives: Lists, step: int) -> None:
    """Saves mined negatives, and the step before which they were mined."""
    arrays = {name: np.ascontiguousarray(x) for name, x in negatives._asdict().items()}
    save_file(arrays, folder / _NEGATIVES, metadata={"mined_at": str(step)})


def load_negatives(folder: Path) -> tuple[Lists, int] | None:
    """Loads what `save_negatives` wrote; None if the checkpoint has no mined negatives."""
    path = folder / _NEGATIVES
    if not path.is_file():
        return None
    with safe_open(path, framework="numpy") as file:
        lists = Lists(file.get_tensor("offsets"), file.get_tensor("indices"))
        return lists, int(file.metadata()["mined_at"])


def last_checkpoint(folder: str | Path) -> Path | None:
    """Returns the newest checkpoint that is complete; None if there is none."""
    steps = {path: _step(path) for path in _checkpoints(folder)}
    finished = {path: step for path, step in steps.items() if step is not None}
    return max(finished, key=finished.__getitem__, default=None)


def remove_unfinished(folder: str | Path) -> None:
    """Removes incomplete checkpoints, whose writer was killed or ran out of disk space."""
    for path in _checkpoints(folder):
        if _step(path) is None:
            shutil.rmtree(path)


def check_resumable(folder: Path) -> None:
    """Checks that training can be resumed exactly from a checkpoint.

    Raises:
        FileNotFoundError: the folder is no checkpoint, or lacks the optimizer.
    """
    for name in (WEIGHTS, "optimizer.pt", "scheduler.pt", _STATE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} cannot be resumed: it has no {name}; is it a checkpoint, saved without "
                "save_only_model?"
            )


def _checkpoints(folder: str | Path) -> list[Path]:
    """Lists the folders that training wrote, by their names; others are a user's own."""
    found = Path(folder).glob("checkpoint-*")
    return [path for path in found if re.fullmatch(r"checkpoint-\d+", path.name) and path.is_dir()]


def _step(path: Path) -> int | None:
    """Reads the step from the file that `transformers` writes last; None if incomplete."""
    try:
        state: dict[str, Any] = json.loads((path / _STATE).read_text("utf-8"))
        return int(state["global_step"])
    except (OSError, ValueError, KeyError):
        return None
