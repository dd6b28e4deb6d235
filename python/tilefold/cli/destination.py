"""Checks destinations of a verb before the work, not after it."""

from __future__ import annotations

from pathlib import Path


def check_writable(path: str | None, option: str) -> None:
    """Checks that a file can be written.

    Raises:
        FileNotFoundError: its folder does not exist.
        IsADirectoryError: it is a folder.
    """
    if path is None:
        return
    target = Path(path).absolute()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: its folder does not exist")
    if target.is_dir():
        raise IsADirectoryError(f"{option} {path}: it is a folder")


def check_folder(path: str, option: str) -> Path:
    """Checks that a folder can be written to, and returns it.

    Raises:
        NotADirectoryError: it is a file.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{option} {path}: it is a file")
    return folder
