"""Checks destinations of a verb before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path


def check_writable(path: str | None, option: str) -> None:
    """Checks that a file can be written.

    Raises:
        FileNotFoundError: its folder does not exist.
        IsADirectoryError: it is a folder.
        PermissionError: nothing can be written to its folder.
    """
    if path is None:
        return
    target = Path(path).absolute()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: its folder does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"{option} {path}: it is a folder")
    _check_permission(Path(os.path.realpath(target)).parent, option, path)


def check_folder(path: str, option: str) -> Path:
    """Checks that a folder can be written to, and returns it.

    Raises:
        NotADirectoryError: it is a file, or in one.
        PermissionError: it cannot be created or written to.
        ValueError: the path is empty.
    """
    if not path:
        raise ValueError(f"{option}: expected a folder, got ''")
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{option} {path}: it is a file")
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"{option} {path}: {existing} is a file")
    _check_permission(existing, option, path)
    return folder


def _check_permission(folder: Path, option: str, path: str) -> None:
    """Raises PermissionError for a folder without permission to write, or on a read-only disk."""
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{option} {path}: {folder} cannot be written to")
