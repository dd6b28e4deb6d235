"""Digests of the files of a folder, kept in it, so that a change is noticed before it is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .atomic import replacing_text
from .done_once import WrongChecksumError, digest_of
from .published_folder import RECORD
from .storage import sha256
from .tensors import CorruptedFolderError

DIGESTS = "digests.json"


def write_digests(folder: Path, key: str, names: Sequence[str] | None = None) -> None:
    """Writes sizes and digests of files in a folder to a file in it.

    Args:
        folder: holds everything already.
        key: what the contents are, so that those of another folder are told apart.
        names: paths of files within the folder; by default all in it and below it.

    Raises:
        OSError: a file cannot be read, or the folder cannot be written.
    """
    files = {name: _describe(folder / name) for name in names or _files(folder)}
    content = {"key": key, "files": files, "checksum": digest_of([key, files])}
    with replacing_text(folder / DIGESTS) as file:
        file.write(json.dumps(content, indent=1) + "\n")


def check_digests(folder: Path, key: str) -> None:
    """Compares the files of a folder with what `write_digests` wrote; others may be added.

    Args:
        folder: with digests.
        key: that was given to `write_digests`.

    Raises:
        FileNotFoundError: the folder has no digests.
        CorruptedFolderError: a file is missing, the list of digests cannot be read, or it has
            another key.
        WrongChecksumError: a file, or the list of digests, has changed.
    """
    for name, expected in _read(folder / DIGESTS, key).items():
        path = folder / name
        if not path.is_file():
            raise CorruptedFolderError(f"{path} is missing: {_remedy(folder)}")
        if _describe(path) != expected:
            raise WrongChecksumError(f"{path} does not match its checksum: {_remedy(folder)}")


def _read(path: Path, key: str) -> dict[str, Any]:
    text = path.read_bytes()
    try:
        content = json.loads(text)
        files: dict[str, Any] = content["files"]
        found = content["key"]
        whole = content["checksum"] == digest_of([found, files]) and isinstance(files, dict)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        message = f"{path} is no list of digests ({error}): {_remedy(path.parent)}"
        raise CorruptedFolderError(message) from error
    if not whole:
        raise WrongChecksumError(f"{path} does not match its checksum: {_remedy(path.parent)}")
    if found != key:
        raise CorruptedFolderError(f"{path} is of {found}, expected {key}: {_remedy(path.parent)}")
    return files


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _files(folder: Path) -> list[str]:
    # The record of a folder's files is written last, when the folder takes its name.
    own = {DIGESTS, RECORD}
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in own)
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _remedy(folder: Path) -> str:
    return f"remove {folder}, and it is computed again"
