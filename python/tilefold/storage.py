"""Folders on disk: safetensors beside a JSON manifest, published by one rename.

Tensors are written under fresh names, synced, and only then does a new manifest replace the old
one; files that no manifest names are removed last. Killed at any moment, the folder holds a whole
index: the old one or the new one. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
import struct
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import TensorSpec, serialize_file

MANIFEST = "manifest.json"
_CHUNK = 8 << 20
_LONGEST_HEADER = 100_000_000  # the limit of the safetensors format
_DTYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I8": np.int8,
    "U8": np.uint8,
    "U32": np.uint32,
    "I64": np.int64,
    "BOOL": np.bool_,
}


class CorruptedFolderError(ValueError):
    """A folder on disk is not what its manifest says."""


def write_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], bfloat16: frozenset[str] = frozenset()
) -> None:
    """Writes contiguous arrays as safetensors; those named in `bfloat16` hold bits of bfloat16."""
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    specs = {
        name: TensorSpec(
            dtype="bfloat16" if name in bfloat16 else tensor.dtype.name,
            shape=list(tensor.shape),
            data_ptr=tensor.ctypes.data,
            data_len=tensor.nbytes,
        )
        for name, tensor in contiguous.items()
    }
    serialize_file(specs, os.fspath(path))


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file as read-only memory maps; bfloat16 as its bits in uint16.

    The layout (https://huggingface.co/docs/safetensors): 8 bytes little-endian length, a JSON
    header with dtype, shape and offsets of each tensor, then the data.

    Raises:
        CorruptedFolderError: the file is truncated, or its header does not describe it.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_LONGEST_HEADER, size - 8):
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return {
                name: _tensor(data, 8 + length, size, entry)
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptedFolderError(f"{path}: not a whole safetensors file: {error}") from error


def _tensor(data: mmap.mmap, start: int, size: int, entry: dict[str, Any]) -> NDArray[Any]:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {entry['dtype']} is not supported")
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    begin, end = (start + offset for offset in entry["data_offsets"])
    if end > size or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError("it is truncated")
    if begin == end:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype, math.prod(shape), begin).reshape(shape)


def sha256(path: Path) -> str:
    """Checksum of a file."""
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

    Args:
        folder: created if absent; if it holds anything, that must be a folder of the same kind.
        kind: what the folder is, for example "tilefold.FlatIndex".
        version: of its format.
        manifest: further entries of the manifest.
        writers: file suffix (such as "0.safetensors") to a function that writes that path.
    """
    folder = Path(folder)
    created = not folder.exists()
    if not created and not (folder.is_dir() and _may_replace(folder, kind)):
        raise ValueError(f"save: {folder} exists and is no {kind}; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    generation = uuid.uuid4().hex[:12]
    written: list[Path] = []
    try:
        files = {}
        for suffix, write in writers.items():
            path = folder / f"{generation}-{suffix}"
            written.append(path)
            write(path)
            _sync(path)
            files[suffix] = {
                "name": path.name,
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
            }
        temporary = folder / f"{generation}-{MANIFEST}"
        written.append(temporary)
        content = {"kind": kind, "version": version, **manifest, "files": files}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        _sync(temporary)
        os.replace(temporary, folder / MANIFEST)
    except BaseException:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        if created:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    _sync(folder)
    keep = {MANIFEST, *(file["name"] for file in files.values())}
    for path in folder.iterdir():
        if path.name not in keep:
            path.unlink(missing_ok=True)


def open_folder(
    folder: Path, kind: str, version: int, *, verify: bool
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Reads and checks a folder that `publish` wrote.

    Returns:
        The manifest, and the path of each file by its suffix.

    Raises:
        FileNotFoundError: no such folder, or no manifest in it.
        ValueError: another kind of folder, or one of a newer version.
        CorruptedFolderError: a file is missing or differs from what the manifest says.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"load: {folder} holds no {MANIFEST}; expected a saved {kind}")
    manifest = _manifest(path)
    if manifest.get("kind") != kind:
        raise ValueError(f"load: {folder} holds a {manifest.get('kind')}, expected a {kind}")
    found = manifest.get("version")
    if not isinstance(found, int) or found > version:
        raise ValueError(
            f"load: {folder} has format version {found}, and this tilefold reads up to {version}; "
            "upgrade tilefold"
        )
    files = {}
    try:
        for suffix, entry in manifest["files"].items():
            files[suffix] = folder / Path(entry["name"]).name
            _check_file(files[suffix], entry, verify=verify)
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptedFolderError(f"load: {path} lacks the entry {error}") from error
    return manifest, files


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
    except ValueError as error:
        raise CorruptedFolderError(f"load: {path} is not valid JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise CorruptedFolderError(f"load: {path} is not a JSON object")
    return manifest


def _may_replace(folder: Path, kind: str) -> bool:
    """Whether a folder is of this kind, empty, or what a killed first save left."""
    path = folder / MANIFEST
    if path.is_file():
        return bool(_manifest(path).get("kind") == kind)
    return all(_is_leftover(entry) for entry in folder.iterdir())


def _is_leftover(path: Path) -> bool:
    generation, _, rest = path.name.partition("-")
    return bool(rest) and len(generation) == 12 and path.suffix in (".safetensors", ".bin", ".json")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # not every file system syncs folders
            raise
    finally:
        os.close(handle)
