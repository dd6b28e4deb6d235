"""A saved FlatIndex: a safetensors file per segment, and a JSON manifest with checksums."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import BFLOAT16, as_vectors, check_unique
from ..files.storage import open_folder, publish
from ..files.tensors import CorruptedFolderError, map_tensors, write_tensors
from .metrics import Metric, checked_metric, stored_dim
from .packing import BLOCK_ROWS, Packed
from .search_options import as_integer
from .segment import Segment

_KIND = "tilefold.FlatIndex"
_VERSION = 1
# Tensors of a segment's file beside its vectors, whose dtype is up to the index.
_DTYPES = {
    "ids": np.int64,
    "codes": np.uint8,
    "bounds": np.float32,
    "live": np.bool_,
    "nonfinite": np.bool_,
}


def checked_dim(dim: Any, op: str) -> int:
    """Checks the dim of an index."""
    number = as_integer(dim, op, "dim")
    if number < 1:
        raise ValueError(f"{op}: dim must be at least 1, got {number}")
    return number


def write_folder(
    folder: Path, dim: int, metric: Metric, segments: tuple[Segment, ...], next_id: int
) -> None:
    """Replaces a folder by the saved form of an index; see `FlatIndex.save`."""
    segments = tuple(s for s in segments if len(s))
    manifest = {
        "dim": dim,
        "metric": metric,
        "next_id": next_id,
        "rotated": [bool(s.packed and s.packed.rotated) for s in segments],
    }
    writers = {f"{i}.safetensors": _segment_writer(s) for i, s in enumerate(segments)}
    publish(folder, _KIND, _VERSION, manifest, writers)


def read_folder(
    folder: Path, *, mmap: bool, verify: bool
) -> tuple[int, Metric, tuple[Segment, ...], int]:
    """Reads the dim, the metric, the segments and the next id of a saved index.

    Args:
        folder: the folder.
        mmap: whether to map the tensors into memory instead of reading them.
        verify: whether to compare checksums, and to look for repeated ids.

    Raises:
        FileNotFoundError: no index there.
        ValueError: another kind of folder, a newer format, or a corrupted file.
    """
    with open_folder(folder, _KIND, _VERSION, verify=verify) as (manifest, files):
        try:
            dim = checked_dim(manifest["dim"], "FlatIndex")
            # Folders of before there were metrics have none.
            metric = checked_metric(manifest.get("metric", "ip"), "FlatIndex")
            width = stored_dim(dim, metric)
            rotated = _checked_rotated(manifest["rotated"], len(files))
            segments = tuple(
                _read_segment(files[f"{i}.safetensors"], width, is_rotated, mmap)
                for i, is_rotated in enumerate(rotated)
            )
            _check_ids(segments, verify)
            next_id = _checked_next_id(manifest["next_id"], segments)
        except CorruptedFolderError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptedFolderError(f"load: {folder} has a wrong manifest: {error}") from error
    return dim, metric, segments, next_id


def _segment_writer(segment: Segment) -> Callable[[Path], None]:
    tensors: dict[str, NDArray[Any]] = {"vectors": segment.vectors, "ids": segment.ids}
    if segment.packed is not None:
        tensors |= {"codes": segment.packed.codes, "bounds": segment.packed.bounds}
    if segment.live is not None:
        tensors["live"] = segment.live
    if segment.nonfinite is not None:
        tensors["nonfinite"] = segment.nonfinite
    bfloat16 = frozenset({"vectors"} if segment.vectors.dtype == BFLOAT16 else ())
    return lambda path: write_tensors(path, tensors, bfloat16)


def _read_segment(path: Path, dim: int, rotated: bool, mmap: bool) -> Segment:
    tensors = map_tensors(path)
    if not mmap:
        tensors = {name: tensor.copy() for name, tensor in tensors.items()}
    _check_tensors(path, tensors, dim)
    codes = tensors.get("codes")
    packed = None if codes is None else Packed(codes, tensors["bounds"], rotated)
    optional = (tensors.get("live"), tensors.get("nonfinite"))
    vectors = as_vectors(tensors["vectors"], "load", f"vectors of {path}")
    return Segment(vectors, tensors["ids"], packed, *optional)


def _check_tensors(path: Path, tensors: dict[str, NDArray[Any]], dim: int) -> None:
    """Raises if a tensor has another shape or dtype than the format has."""
    rows = len(tensors["ids"])
    blocks = -(-rows // BLOCK_ROWS)
    shapes = {
        "vectors": (rows, dim),
        "ids": (rows,),
        "codes": (blocks, -(-dim // 8) * 2, BLOCK_ROWS, 4),
        "bounds": (blocks, 4, BLOCK_ROWS),
        "live": (rows,),
        "nonfinite": (rows,),
    }
    for name, tensor in tensors.items():
        if tensor.shape != shapes[name]:
            raise CorruptedFolderError(
                f"load: {path} has {name} of shape {tensor.shape}, expected {shapes[name]}"
            )
        if tensor.dtype != _DTYPES.get(name, tensor.dtype):
            raise CorruptedFolderError(
                f"load: {path} has {name} of dtype {tensor.dtype}, expected {_DTYPES[name]}"
            )
        if tensor.dtype == np.bool_ and (tensor.view(np.uint8) > 1).any():
            raise CorruptedFolderError(f"load: {path} has values in {name} besides 0 and 1")


def _checked_rotated(value: Any, n_segments: int) -> list[bool]:
    """Checks the manifest's list of segments whose vectors were rotated before quantization."""
    if not isinstance(value, list) or not all(isinstance(rotated, bool) for rotated in value):
        raise ValueError(f"rotated must be a list of true and false, got {value!r}")
    if len(value) != n_segments:
        raise ValueError(f"rotated must have {n_segments} entries, one per file, got {len(value)}")
    return value


def _check_ids(segments: tuple[Segment, ...], verify: bool) -> None:
    """Raises ValueError for a negative id, and with `verify` for one that is there twice.

    A removed row keeps its id, which a later segment may have again.
    """
    every = [s.ids for s in segments if len(s.ids)]
    if any(ids.min() < 0 for ids in every):
        raise ValueError(f"ids must not be negative, got {min(int(ids.min()) for ids in every)}")
    if not verify:
        return
    rising = all((ids[1:] > ids[:-1]).all() for ids in every)
    if rising and all(a[-1] < b[0] for a, b in itertools.pairwise(every)):
        return
    for ids in every:
        check_unique("ids", ids)
    if every:
        check_unique("ids", np.concatenate([s.live_ids() for s in segments]))


def _checked_next_id(value: Any, segments: tuple[Segment, ...]) -> int:
    number = as_integer(value, "load", "next_id")
    minimum = 1 + max((int(s.ids.max()) for s in segments if len(s.ids)), default=-1)
    if not minimum <= number <= 2**63:
        raise ValueError(f"next_id must be {minimum} to 2^63, got {number}")
    return number
