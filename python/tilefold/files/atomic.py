"""Atomic replacement of files: written aside, then renamed over the target."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .staging import HEX, remove_leftovers, staged
from .write_errors import write_errors

StrPath = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: StrPath, *, durable: bool = True) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it takes the name when the block ends.

    After an exception, a full disk or a kill, `path` is what it was before. A killed process leaves
    a folder ``.<name>.<number>.partial`` beside it, which the next replacement removes.
    Several processes may replace one file at a time: the last one wins, whole.

    Args:
        path: a file to be replaced or created. A symbolic link is followed: its target is replaced.
        durable: sync the file and its folder to the disk before returning.

    Raises:
        ValueError: `path` is a folder, a device, a pipe or a socket.
        OSError: it could not be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.bin"
        >>> with replacing(path) as partial:
        ...     _ = partial.write_bytes(b"123")
        >>> path.read_bytes()
        b'123'
    """
    target = _regular(path)
    remove_staging_of(target)
    staging = staging_path(target)
    partial = staging / target.name
    with write_errors(target), staged(staging):
        yield partial
        if target.exists():
            shutil.copymode(target, partial)
        if durable:
            sync(partial)
        os.replace(partial, target)
        if durable:
            sync(target.parent)


@contextlib.contextmanager
def replacing_text(path: StrPath, *, durable: bool = True) -> Iterator[IO[str]]:
    """Opens a UTF-8 text file for writing that replaces `path` when the block ends.

    Lines end with a line feed on every system. Guarantees and errors are those of `replacing`.
    """
    with (
        replacing(path, durable=durable) as partial,
        partial.open("w", encoding="utf-8", newline="\n") as file,
    ):
        yield file


def staging_path(target: Path) -> Path:
    """Returns a new hidden name in the folder of `target`."""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")


def remove_staging_of(target: Path) -> None:
    """Removes the staging folders of `target` that killed processes left."""
    remove_leftovers(target.parent, f".{glob.escape(target.name)}.{HEX}.partial")


def sync(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # not every file system syncs folders
            raise
    finally:
        os.close(handle)


def _regular(path: StrPath) -> Path:
    """Returns the file that `path` leads to, if it may be replaced."""
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path}: expected a regular file or a new name, got {_kind(mode)}")
    return target


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")
