"""A folder that appears whole: written aside, then moved to its name."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .atomic import remove_staging_of, staging_path, sync
from .staging import staged


@contextlib.contextmanager
def written_aside(folder: str | os.PathLike[str], marker: str) -> Iterator[Path]:
    """Yields a new folder beside `folder` that takes its name when the block ends.

    A folder that was saved before is replaced as a whole, and stays as it was after an exception.
    Its files are on the disk before it takes the name. A process killed between the last two
    renames leaves the old one as `.<name>.<number>.old`.

    Args:
        folder: its path; a symbolic link is followed.
        marker: name of a file in every folder of this kind; a folder with other contents is not
            replaced.

    Raises:
        FileExistsError: there is a folder of another kind: what it holds would be lost.
    """
    target = Path(os.path.realpath(folder))
    if target.exists() and not _replaceable(target, marker):
        raise FileExistsError(
            f"{folder} exists, and neither is it empty nor does it hold {marker}: name a new folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_staging_of(target)
    staging = staging_path(target)
    with staged(staging):
        partial = staging / target.name
        partial.mkdir()
        yield partial
        _sync_tree(partial)
        _take_place(partial, target, staging.with_suffix(".old"))
        sync(target.parent)


def _replaceable(folder: Path, marker: str) -> bool:
    return folder.is_dir() and ((folder / marker).is_file() or not any(folder.iterdir()))


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() or path.is_dir():
            sync(path)
    sync(folder)


def _take_place(partial: Path, target: Path, old: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    target.rename(old)
    try:
        partial.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)
