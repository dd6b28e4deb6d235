"""A folder that appears whole: written aside, then moved to its name."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .atomic import remove_staging_of, staging_path, sync
from .staging import staged, to_the_end
from .write_errors import write_errors

# Paths of the files that a save wrote, one list for each folder: what is not in it is a user's.
RECORD = ".tilefold-files"


@contextlib.contextmanager
def written_aside(folder: str | os.PathLike[str], marker: str) -> Iterator[Path]:
    """Yields a new folder beside `folder` that takes its name when the block ends.

    A folder that was saved before is replaced, and stays as it was after an exception; files that
    others put into it are kept. The new files are on the disk before the folder takes the name. A
    process killed between the last two renames leaves the old one as `.<name>.<number>.old`.

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
    with write_errors(target), staged(staging):
        partial = staging / target.name
        partial.mkdir()
        yield partial
        _record(partial)
        _sync_tree(partial)
        _take_place(partial, target, staging.with_suffix(".old"))
        sync(target.parent)


def _replaceable(folder: Path, marker: str) -> bool:
    return folder.is_dir() and ((folder / marker).is_file() or not any(folder.iterdir()))


def _record(folder: Path) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    (folder / RECORD).write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")


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
    _keep_others(old, target)
    to_the_end(shutil.rmtree, old)


def _keep_others(old: Path, target: Path) -> None:
    """Moves files that no save wrote from the old folder to the new one."""
    for path in _unrecorded(old):
        kept = target / path.relative_to(old)
        if not os.path.lexists(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.rename(kept)


def _unrecorded(folder: Path) -> list[Path]:
    """Lists files that the record of a folder does not name; none where it has no record."""
    recorded: set[str] = set()
    try:
        recorded = set(json.loads((folder / RECORD).read_bytes()))
    except FileNotFoundError:  # it was saved before there were records
        return []
    except (ValueError, TypeError, RecursionError):  # of a record that was changed nothing is lost
        pass
    files = {path: path.relative_to(folder).as_posix() for path in _files(folder)}
    return [path for path, name in files.items() if name not in {*recorded, RECORD}]


def _files(folder: Path) -> list[Path]:
    """Lists files and links in a folder and below it."""
    found = folder.rglob("*")
    return [path for path in found if path.is_symlink() or not path.is_dir()]
