"""Reads and writes checkpoint files besides those of `transformers`, and checks completeness."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import TrainingSet
from ..files.done_once import digest_of_columns, read_checked, write_checked
from ..files.folder_digests import DIGESTS, check_digests, write_digests
from ..files.staging import is_marked, mark, remove_marked
from ..files.tensors import CorruptedFolderError
from ..ragged_lists import Lists
from ..ragged_lists import checked as checked_lists

MODEL = "model"  # folder that `BiEncoder.from_pretrained` loads
WEIGHTS = "objective.safetensors"  # of the model and of the loss, to resume from
_NEGATIVES = "negatives.safetensors"
_STATE = "trainer_state.json"
_KIND = "checkpoint of a training"  # key of the digests; users may rename the folder


def save_negatives(folder: Path, data: TrainingSet, step: int) -> None:
    """Saves mined negatives, the step before which they were mined, and a digest of the texts.

    Args:
        folder: of the checkpoint.
        data: with the mined negatives.
        step: before which they were mined.
    """
    arrays = {name: np.ascontiguousarray(x) for name, x in data.negatives._asdict().items()}
    facts = {"mined_at": np.array(step), "texts": _digest_of_texts(data)}
    write_checked(folder / _NEGATIVES, {**arrays, **facts})


def load_negatives(folder: Path, data: TrainingSet) -> tuple[Lists, int] | None:
    """Loads what `save_negatives` wrote; None if the checkpoint has no mined negatives.

    Args:
        folder: of the checkpoint.
        data: that training goes on with.

    Raises:
        CorruptedFolderError: the file was changed after it was written.
        ValueError: the negatives were mined from other texts than those of `data`.
    """
    path = folder / _NEGATIVES
    if not path.is_file():
        return None
    kept = read_checked(path)
    names = {"offsets", "indices", "mined_at", "texts"}
    if kept.keys() != names:
        raise CorruptedFolderError(
            f"{path} has the tensors {sorted(kept)}, expected {sorted(names)}; mine again"
        )
    if not np.array_equal(kept["texts"], _digest_of_texts(data)):
        raise ValueError(
            f"{path}: the negatives were mined from other queries or documents than those of the "
            "training set; resume with the same data"
        )
    lists = Lists(kept["offsets"], kept["indices"])
    checked_lists(lists, "load_negatives", "negatives", len(data.documents))
    return lists, int(kept["mined_at"])


def _digest_of_texts(data: TrainingSet) -> Any:
    digest = digest_of_columns(data.queries, data.prompts, data.documents, data.titles)
    return np.frombuffer(digest.encode(), np.uint8)


def begin_checkpoint(folder: Path) -> None:
    """Creates the folder of a checkpoint, and marks it as one that may be removed if unfinished.

    A folder that holds something already gets no mark, unless other processes of the training were
    faster to write their random states.
    """
    folder.mkdir(parents=True, exist_ok=True)
    states = r"rng_state_\d+\.pth"
    if _is_checkpoint(folder) and all(re.fullmatch(states, p.name) for p in folder.iterdir()):
        mark(folder)


def last_checkpoint(folder: str | Path) -> Path | None:
    """Returns the newest checkpoint that is complete; None if there is none."""
    steps = {path: _step(path) for path in _checkpoints(folder)}
    finished = {path: step for path, step in steps.items() if step is not None}
    return max(finished, key=finished.__getitem__, default=None)


def remove_unfinished(folder: str | Path) -> None:
    """Removes incomplete checkpoints, whose writer was killed or ran out of disk space.

    Only folders with the mark of `begin_checkpoint` are removed, and empty ones.
    """
    for path in _checkpoints(folder):
        if _step(path) is None and (is_marked(path) or not any(path.iterdir())):
            remove_marked(path)


def check_limit(folder: str | Path | None, limit: int | None) -> None:
    """Checks that a limit of checkpoints removes no folder that training did not write.

    transformers 5.23 removes any folder whose name begins with "checkpoint-".

    Args:
        folder: of the training.
        limit: `save_total_limit`.

    Raises:
        ValueError: there is a limit, and such a folder.
    """
    for path in Path(folder).glob("checkpoint-*") if limit and folder else ():
        ours = is_marked(path) or (path / WEIGHTS).is_file()
        if path.is_dir() and not ours and any(path.iterdir()):
            raise ValueError(
                f"save_total_limit: {path} was not written by this library, but the limit would "
                "remove it, as its name begins with checkpoint-; move it, or set no limit"
            )


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


def finish_checkpoint(folder: Path) -> None:
    """Writes digests of the files of a checkpoint that carry no checksums of their own."""
    write_digests(folder, _KIND, (WEIGHTS, _STATE))


def check_whole(folder: Path) -> None:
    """Checks that the files of a checkpoint are those that were written.

    `torch.load` does not compare the CRC-32 that its files carry, and would give other numbers.
    A checkpoint whose writer was killed before it wrote the digests is checked as far as it can be.

    Raises:
        CorruptedFolderError: names the file that was changed.
    """
    if (folder / DIGESTS).is_file():
        check_digests(folder, _KIND)
    if torch.serialization.get_crc32_options():
        for path in sorted(path for path in folder.iterdir() if path.suffix in (".pt", ".pth")):
            _check_zip(path)


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OSError) as error:
        raise CorruptedFolderError(f"{path} is not a whole file of torch: {error}") from error
    if wrong is not None:
        raise CorruptedFolderError(f"{path} does not match its checksum, at {wrong}")


def _checkpoints(folder: str | Path) -> list[Path]:
    """Lists the folders with the names of checkpoints; others are a user's own."""
    return [path for path in Path(folder).glob("checkpoint-*") if _is_checkpoint(path)]


def _is_checkpoint(path: Path) -> bool:
    return bool(re.fullmatch(r"checkpoint-\d+", path.name)) and path.is_dir()


def _step(path: Path) -> int | None:
    """Reads the step from the file that `transformers` writes last; None if incomplete."""
    try:
        state: dict[str, Any] = json.loads((path / _STATE).read_text("utf-8"))
        return int(state["global_step"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
