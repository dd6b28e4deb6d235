"""Folders that files are written into before they take their names, removed after a kill, too.

They hold a file that marks them: whatever else has such a name is not removed.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from .locked import locked

MARK = ".tilefold"
_DIGITS = 12
HEX = "[0-9a-f]" * _DIGITS  # for patterns of names of staging folders


def remove_marked(folder: Path) -> None:
    """Removes a folder with a mark, or an empty one; anything else stays, and so do links.

    The mark goes last, so that a removal that is killed can be completed.
    """
    if folder.is_symlink():
        return
    with contextlib.suppress(OSError):
        if is_marked(folder):
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != MARK:
                    entry.unlink(missing_ok=True)
            (folder / MARK).unlink(missing_ok=True)
        folder.rmdir()


def mark(folder: Path) -> None:
    """Marks a folder as written by this library, which may remove it.

    Raises:
        OSError: the folder is absent or cannot be written.
    """
    (folder / MARK).touch()


def is_marked(folder: Path) -> bool:
    """Returns whether `mark` marked a folder."""
    return (folder / MARK).is_file()


@contextlib.contextmanager
def staged(folder: Path, clear: Callable[[Path], None] = remove_marked) -> Iterator[None]:
    """Creates a marked folder and holds its lock; clears it away when the block ends.

    Args:
        folder: its path, with a new name.
        clear: removes it.

    Raises:
        OSError: it cannot be created.
    """
    with contextlib.ExitStack() as stack:
        try:
            _create(folder, stack)
            yield
        finally:
            to_the_end(clear, folder)


def to_the_end(remove: Callable[[Path], object], folder: Path) -> None:
    """Removes a folder, also where Ctrl-C interrupts that; the interrupt is raised afterwards.

    Args:
        remove: may be called a second time, for what the first call left.
        folder: what is removed.
    """
    try:
        remove(folder)
    except KeyboardInterrupt:
        remove(folder)
        raise


def remove_leftovers(
    parent: Path, pattern: str, clear: Callable[[Path], None] = remove_marked
) -> None:
    """Clears away the staging folders that killed processes left.

    Args:
        parent: where they are.
        pattern: of their names, as in `Path.glob`.
        clear: removes one.
    """
    for folder in parent.glob(pattern):
        if folder.is_symlink() or not folder.is_dir():
            continue
        with contextlib.suppress(OSError), locked(folder, wait=False):
            clear(folder)


def _create(folder: Path, stack: contextlib.ExitStack) -> None:
    """Creates, locks and marks a folder; another process may remove it before it is locked."""
    while True:
        folder.mkdir(exist_ok=True)
        with contextlib.ExitStack() as attempt:
            try:
                attempt.enter_context(locked(folder))
                mark(folder)
            except FileNotFoundError:
                continue
            stack.enter_context(attempt.pop_all())
            return
