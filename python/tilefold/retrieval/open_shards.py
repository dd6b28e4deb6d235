"""Opening the shards of a corpus: files, saved indexes, and objects in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import BFLOAT16, BFLOAT16_BITS, as_ids, as_vectors
from ..files.done_once import map_checked
from ..files.storage import MANIFEST
from ..files.tensors import map_tensors
from .flat_index import FlatIndex
from .shard_parts import Part

Shard = Any  # a path to .npy, .safetensors or a saved index; a FlatIndex; or an array

_VECTOR_NAMES = ("vectors", "embeddings")


def open_shards(shards: Iterable[Shard], op: str, *, verify: bool = False) -> list[Part]:
    """Opens shards in order; ids of shards without any continue from the shard before.

    Args:
        shards: paths and objects.
        op: name of the operation, for messages.
        verify: whether to compare the checksums of files, each of which must carry some.

    Raises:
        TypeError: shards is neither a list nor a generator.
        FileNotFoundError: a path does not exist.
        ValueError: a file is corrupted, of another kind or without a checksum to verify, or ids
            would reach 2^63.
    """
    if isinstance(shards, Iterator):
        shards = list(shards)
    if isinstance(shards, (str, Path)) or not isinstance(shards, Sequence):
        raise TypeError(f"{op}: shards must be a list of shards, got {type(shards).__name__}")
    parts: list[Part] = []
    next_id = 0
    for number, shard in enumerate(shards):
        if isinstance(shard, (str, Path)):
            opened = _open_path(Path(shard), next_id, op, verify)
        else:
            opened = _open_object(shard, f"shards[{number}]", next_id, op)
        parts += opened
        next_id = max([next_id, *(part.id_range()[1] for part in opened)])
        if next_id > 2**63:
            raise ValueError(f"{op}: ids of {parts[-1].name} would reach 2^63")
    return parts


def _open_path(path: Path, first_id: int, op: str, verify: bool) -> list[Part]:
    name = str(path)
    if (path / MANIFEST).is_file():
        return _parts_of_index(FlatIndex.load(path, verify=verify), name, path, op)
    if path.suffix == ".npy" and path.is_file():
        if verify:
            raise ValueError(
                f"{op}: {path} carries no checksum to verify, as no .npy array does; save it as an "
                "index, or pass verify=False"
            )
        return [Part(name, _checked(_load_npy(path, op), op, name), None, first_id, path)]
    if path.suffix == ".safetensors" and path.is_file():
        return [_open_safetensors(path, first_id, op, verify)]
    if not path.exists():
        raise FileNotFoundError(f"{op}: {path} does not exist")
    raise ValueError(f"{op}: {path} is no .npy, .safetensors or saved index")


def _open_safetensors(path: Path, first_id: int, op: str, verify: bool) -> Part:
    tensors = map_checked(path) if verify else map_tensors(path)
    found = [tensors[name] for name in _VECTOR_NAMES if name in tensors]
    if not found:
        raise ValueError(f"{op}: {path} has no tensor named vectors; got {sorted(tensors)}")
    vectors, ids = _checked(found[0], op, str(path)), tensors.get("ids")
    if ids is not None:
        ids = as_ids(ids, op, f"ids of {path}")
        if len(ids) != len(vectors):
            raise ValueError(f"{op}: {path} has {len(vectors)} vectors and {len(ids)} ids")
    return Part(str(path), vectors, ids, first_id, path)


def _open_object(shard: Shard, name: str, first_id: int, op: str) -> list[Part]:
    if isinstance(shard, FlatIndex):
        return _parts_of_index(shard, name, None, op)
    vectors = as_vectors(shard, op, name)
    if vectors.dtype == BFLOAT16:
        # Part.fold_into calls as_vectors again, which rejects uint16 without this metadata.
        vectors = vectors.view(BFLOAT16_BITS)
    return [Part(name, vectors, first_id=first_id)]


def _parts_of_index(index: FlatIndex, name: str, path: Path | None, op: str) -> list[Part]:
    if index.metric != "ip":
        raise ValueError(
            f'{op}: {name} has metric="{index.metric}", expected "ip"; FlatIndex.search searches it'
        )
    if not index.segments:
        return [Part(name, np.empty((0, index.dim), np.float32))]
    return [Part(name, segment, path=path) for segment in index.segments]


def _load_npy(path: Path, op: str) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{op}: {path} is not a whole .npy array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{op}: {path} is an archive, expected one .npy array")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{op}: {path} is in Fortran order, so its rows cannot be streamed; save "
            "np.ascontiguousarray of it"
        )
    return array


def _checked(array: NDArray[Any], op: str, name: str) -> NDArray[Any]:
    """Checks shape and dtype of vectors on disk, which are converted later, chunk by chunk."""
    if array.ndim != 2:
        raise ValueError(f"{op}: {name} must have 2 dimensions [rows, dim], got {array.ndim}")
    as_vectors(array[:1], op, name)  # warns once about float64, instead of once per chunk
    return array
