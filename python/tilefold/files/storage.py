"""Folders on disk: safetensors beside a JSON manifest, published by one rename.

Files are written aside, synced, moved in under fresh names, and only then does a new manifest
replace the old one; the files of the old manifest are removed last. Killed at any moment, the
folder holds a whole index: the old one or the new one. What a kill leaves is recorded by name in
the staging folder, and the next save removes that and nothing else. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .atomic import sync
from .locked import locked
from .staging import HEX, is_marked, remove_leftovers, remove_marked, staged
from .tensors import CorruptedFolderError

MANIFEST = "manifest.json"
_RECORD = "files.json"  # in a staging folder: names of the files that a save adds or replaces
_STAGING = ".saving-"
_OURS = re.compile(r"[0-9a-f]{12}-[a-z0-9]+\.(safetensors|bin)")
_CHUNK = 8 << 20


def sha256(path: Path) -> str:
    """Computes the SHA-256 checksum of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def publish(
    folder: Path,
    kind: str,
    version: int,
    manifest: Mapping[str, Any],
    writers: Mapping[str, Callable[[Path], object]],
) -> None:
    """Writes a folder of files and a manifest, so that a reader sees all of it or none.

    Several processes may publish to one folder: the last one wins, whole.

    Args:
        folder: created if absent; if it holds anything, that must be a folder of the same kind.
        kind: what the folder is, for example "tilefold.FlatIndex".
        version: of its format.
        manifest: further entries of the manifest.
        writers: file suffix (such as "0.safetensors") to a function that writes that path.

    Raises:
        ValueError: the folder holds something else.
        OSError: something could not be written; what was there before is intact.
    """
    created = not folder.exists()
    if not created and not (folder.is_dir() and _may_replace(folder, kind)):
        raise ValueError(f"save: {folder} exists and is no {kind}; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    generation = uuid.uuid4().hex[:12]
    staging = folder / f"{_STAGING}{generation}"
    try:
        with contextlib.ExitStack() as stack:
            with locked(folder):
                remove_leftovers(folder, f"{_STAGING}{HEX}", _clear)
                stack.enter_context(staged(staging, _clear))
            files = {}
            for suffix, write in writers.items():
                path = staging / f"{generation}-{suffix}"
                write(path)
                files[suffix] = _describe(path)
            content = {"kind": kind, "version": version, **manifest, "files": files}
            content["checksum"] = _checksum(content)
            text = json.dumps(content, indent=1) + "\n"
            (staging / MANIFEST).write_text(text, encoding="utf-8")
            sync(staging / MANIFEST)
            with locked(folder):
                _replace(folder, staging, [entry["name"] for entry in files.values()])
    except BaseException:
        if created:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def published_checksum(folder: Path) -> str:
    """Returns the checksum of a published folder's manifest, and so of everything in the folder.

    Raises:
        FileNotFoundError: there is no manifest.
        CorruptedFolderError: the manifest has no checksum.
    """
    checksum = _manifest(folder / MANIFEST).get("checksum")
    if not isinstance(checksum, str):
        raise CorruptedFolderError(f"load: {folder / MANIFEST} has no checksum")
    return checksum


def published_kind(folder: Path) -> str | None:
    """Returns what a folder is by its manifest, such as "tilefold.FlatIndex"; None for others.

    Raises:
        CorruptedFolderError: the manifest is not a JSON object.
    """
    path = folder / MANIFEST
    kind = str(_manifest(path).get("kind")) if path.is_file() else ""
    return kind if kind.startswith("tilefold.") else None


def _describe(path: Path) -> dict[str, Any]:
    sync(path)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _checksum(content: Mapping[str, Any]) -> str:
    """Computes the checksum of a manifest without its own entry."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _replace(folder: Path, staging: Path, names: list[str]) -> None:
    """Moves new files into the folder, and then the manifest over the old one."""
    replaced: set[str] = set()
    with contextlib.suppress(CorruptedFolderError):  # the files of an unreadable one stay
        replaced = _named(folder)
    record = staging / _RECORD
    record.write_text(json.dumps([*names, *sorted(replaced)]), encoding="utf-8")
    for name in names:
        os.replace(staging / name, folder / name)
    sync(folder)
    os.replace(staging / MANIFEST, folder / MANIFEST)
    sync(folder)


def _clear(staging: Path) -> None:
    """Removes a staging folder, and those of its recorded files that the manifest does not name."""
    folder = staging.parent
    recorded = _recorded(staging)
    try:
        unused = recorded - _named(folder) if recorded else set()
    except CorruptedFolderError:  # whatever it names is kept
        unused = set()
    for name in unused:
        (folder / name).unlink(missing_ok=True)
    remove_marked(staging)


def _recorded(staging: Path) -> set[str]:
    """Returns the names of the files that a save adds or replaces; none before it does so."""
    if staging.is_symlink() or not is_marked(staging):
        return set()
    try:
        names = json.loads((staging / _RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):  # killed before files were moved
        return set()
    listed = names if isinstance(names, list) else []
    return {name for name in listed if isinstance(name, str) and _OURS.fullmatch(name)}


def _named(folder: Path) -> set[str]:
    """Returns the names of the files in the manifest of a folder."""
    path = folder / MANIFEST
    if not path.is_file():
        return set()
    try:
        return {entry["name"] for entry in _manifest(path)["files"].values()}
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptedFolderError(f"save: {path} lacks the entry {error}") from error


@contextlib.contextmanager
def open_folder(
    folder: Path, kind: str, version: int, *, verify: bool
) -> Iterator[tuple[dict[str, Any], dict[str, Path]]]:
    """Reads and checks a folder that `publish` wrote; nobody replaces it inside the block.

    Yields:
        The manifest, and the path of each file by its suffix.

    Raises:
        FileNotFoundError: no such folder, or no manifest in it.
        ValueError: another kind of folder, or one of a newer version.
        CorruptedFolderError: a file is missing or differs from what the manifest says.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise FileNotFoundError(f"load: there is no folder {folder}")
    if not path.is_file():
        raise FileNotFoundError(f"load: {folder} holds no {MANIFEST}; expected a saved {kind}")
    with locked(folder, shared=True):
        manifest = _manifest(path)
        if manifest.get("kind") != kind:
            raise ValueError(f"load: {folder} holds a {manifest.get('kind')}, expected a {kind}")
        found = manifest.get("version")
        if not isinstance(found, int) or found < 1:
            raise CorruptedFolderError(f"load: {path} has version {found!r}, expected a number")
        if found > version:
            raise ValueError(
                f"load: {folder} has format version {found}, and this tilefold reads up to "
                f"{version}; upgrade tilefold"
            )
        if manifest.get("checksum") != _checksum(manifest):
            raise CorruptedFolderError(f"load: {path} does not match its checksum")
        yield manifest, _checked_files(path, manifest, verify=verify)


def _checked_files(path: Path, manifest: dict[str, Any], *, verify: bool) -> dict[str, Path]:
    files = {}
    try:
        for suffix, entry in manifest["files"].items():
            files[suffix] = path.parent / Path(entry["name"]).name
            _check_file(files[suffix], entry, verify=verify)
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptedFolderError(f"load: {path} lacks the entry {error}") from error
    return files


def _check_file(path: Path, entry: dict[str, Any], *, verify: bool) -> None:
    if not path.is_file():
        raise CorruptedFolderError(f"load: {path} is missing")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise CorruptedFolderError(f"load: {path} has {size} bytes, expected {entry['bytes']}")
    if verify and sha256(path) != entry["sha256"]:
        raise CorruptedFolderError(f"load: {path} does not match its checksum")


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptedFolderError(f"load: {path} is not valid JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise CorruptedFolderError(f"load: {path} is not a JSON object")
    return manifest


def _may_replace(folder: Path, kind: str) -> bool:
    """Returns whether a folder is of this kind, empty, or left by a killed first save."""
    path = folder / MANIFEST
    if path.is_file():
        return bool(_manifest(path).get("kind") == kind)
    leftovers = {path for path in folder.glob(f"{_STAGING}{HEX}") if _is_staging(path)}
    moved = {folder / name for staging in leftovers for name in _recorded(staging)}
    return set(folder.iterdir()) <= leftovers | moved


def _is_staging(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    return is_marked(path) or not any(path.iterdir())
