"""A saved FlatIndex: a safetensors file per segment, and a JSON manifest with checksums."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import BFLOAT16, as_vectors, check_unique
from ..files.storage import open_folder, publish
from ..files.tensors import CorruptedFolderError, map_tensors, write_tensors
from ..integers import as_integer
from .dense_numbers import renumbered
from .encoded_shard import check_name_ends, named, with_names
from .id_table import Names
from .l2_search import checked_exponent
from .metric import checked_metric
from .packing import BLOCK_ROWS, Packed
from .removed_rows import RemovedRows, no_rows
from .segment import Segment

_KIND = "tilefold.FlatIndex"
# Version 2 has a metric and removed documents. Version 3 has the direction of packed documents, and
# their part along it in `bounds` where earlier versions have a radius that is not used any more.
# Version 4 has ids that are strings; an index with integers is still written as version 3, which
# earlier versions of tilefold read.
_VERSION = 4
_VERSION_OF_INTEGERS = 3
_REMOVED = "removed.safetensors"
_STRINGS = "strings.safetensors"
# Tensors of a segment's file beside its vectors, whose dtype is up to the index.
_DTYPES = {
    "ids": np.int64,
    "codes": np.uint8,
    "bounds": np.float32,
    "direction": np.float32,
    "live": np.bool_,
    "nonfinite": np.bool_,
}


def checked_dim(dim: Any, op: str) -> int:
    """Checks the dim of an index."""
    number = as_integer(dim, op, "dim")
    if number < 1:
        raise ValueError(f"{op}: dim must be at least 1, got {number}")
    return number


@dataclass(frozen=True)
class SavedIndex:
    """The content of an index at one moment.

    Attributes:
        dim: dimensions of the vectors.
        metric: of the index.
        removed: documents that can be restored.
        segments: documents.
        next_id: first id that has never been used.
        exponent: of the stored vectors of metric "l2"; None before the first.
        names: ``[next_id]`` the string of each id in `segments` and `removed`; None where ids are
            integers.
    """

    dim: int
    metric: str
    removed: RemovedRows
    segments: tuple[Segment, ...] = ()
    next_id: int = 0
    exponent: int | None = None
    names: Names | None = None


def write_folder(folder: Path, content: SavedIndex) -> None:
    """Replaces a folder by the saved form of an index; see `FlatIndex.save`."""
    segments, removed = content.segments, content.removed
    manifest: dict[str, Any] = {
        "dim": content.dim,
        "next_id": content.next_id,
        "rotated": [bool(s.packed and s.packed.rotated) for s in segments],
    }
    writers = {f"{i}.safetensors": _segment_writer(s) for i, s in enumerate(segments)}
    if content.metric != "ip":
        manifest |= {"metric": content.metric, "exponent": content.exponent}
    if len(removed):
        # An unpacked segment: the file has the vectors and the ids.
        writers[_REMOVED] = _segment_writer(Segment(removed.vectors, removed.ids, None))
    version = _VERSION_OF_INTEGERS
    if content.names is not None:
        version, writers[_STRINGS] = _VERSION, _strings_writer(content, content.names)
    publish(folder, _KIND, version, manifest, writers)


def read_folder(folder: Path, *, mmap: bool, verify: bool) -> SavedIndex:
    """Reads a saved index.

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
            metric = checked_metric(manifest.get("metric", "ip"), "load")
            exponent = checked_exponent(manifest.get("exponent"))
            width = dim + (metric == "l2")  # see l2_search
            removed = no_rows(width)
            if _REMOVED in files:
                kept = _read_segment(files.pop(_REMOVED), width, False, manifest, mmap)
                removed = RemovedRows(kept.vectors, kept.ids)
            strings = files.pop(_STRINGS, None)
            rotated = _checked_rotated(manifest["rotated"], len(files))
            segments = tuple(
                _read_segment(files[f"{i}.safetensors"], width, is_rotated, manifest, mmap)
                for i, is_rotated in enumerate(rotated)
            )
            _check_ids(segments, verify)
            next_id = _checked_next_id(manifest["next_id"], segments)
            _check_removed(removed, segments, next_id)
            if metric == "l2" and exponent is None and (segments or len(removed)):
                raise ValueError("an index of L2 distances has no exponent")
        except CorruptedFolderError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptedFolderError(f"load: {folder} has a wrong manifest: {error}") from error
    content = SavedIndex(dim, metric, removed, segments, next_id, exponent)
    return content if strings is None else _with_strings(content, strings)


def _strings_writer(content: SavedIndex, names: Names) -> Callable[[Path], None]:
    numbers = _numbers_of(content)
    tensors = {"numbers": numbers, **with_names(names[numbers].tolist())}
    return lambda path: write_tensors(path, tensors)


def _numbers_of(content: SavedIndex) -> NDArray[np.int64]:
    """Returns the ids of documents, also of those that can be restored, in rising order."""
    ids = [*(s.live_ids() for s in content.segments), content.removed.ids]
    return np.sort(np.concatenate(ids))


def _with_strings(content: SavedIndex, path: Path) -> SavedIndex:
    """Reads the strings of ids, and numbers documents by their order alone.

    So the table is as long as there are rows, whatever numbers a file names.
    """
    tensors = map_tensors(path)
    missing = {"numbers", "names", "name_ends"} - tensors.keys()
    if missing:
        raise CorruptedFolderError(f"load: {path} has no tensor {min(missing)}")
    check_name_ends(path, tensors)
    numbers = _numbers_of(content)
    if not np.array_equal(tensors["numbers"], numbers):
        raise CorruptedFolderError(f"load: {path} has other ids than the documents beside it")
    strings = np.array(_checked_strings(path, tensors, len(numbers)), object)
    anew = renumbered(
        content.segments,
        content.removed,
        lambda ids: strings[np.searchsorted(numbers, ids)],
    )
    return replace(
        content,
        segments=anew.segments,
        removed=anew.removed,
        next_id=len(anew.names),
        names=anew.names,
    )


def _checked_strings(path: Path, tensors: dict[str, NDArray[Any]], n: int) -> list[str]:
    try:
        strings = named(tensors)
    except UnicodeDecodeError as error:
        raise CorruptedFolderError(f"load: {path} has ids that are no text: {error}") from error
    if len(strings) != n or len(set(strings)) != n or "" in strings:
        raise CorruptedFolderError(f"load: {path} must have {n} different ids, none empty")
    return strings


def _check_removed(removed: RemovedRows, segments: tuple[Segment, ...], next_id: int) -> None:
    """Raises if removed documents have ids that they cannot have."""
    ids = removed.ids
    if len(np.unique(ids)) != len(ids):
        raise ValueError("an id of removed documents is repeated")
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < next_id:
        raise ValueError(f"ids of removed documents must be 0 to {next_id - 1}")
    if any((segment.find(ids) >= 0).any() for segment in segments):
        raise ValueError("a document is both there and removed")


def _segment_writer(segment: Segment) -> Callable[[Path], None]:
    tensors: dict[str, NDArray[Any]] = {"vectors": segment.vectors, "ids": segment.ids}
    if segment.packed is not None:
        tensors |= {"codes": segment.packed.codes, "bounds": segment.packed.bounds}
        if segment.packed.direction is not None:
            tensors["direction"] = segment.packed.direction
    if segment.live is not None:
        tensors["live"] = segment.live
    if segment.nonfinite is not None:
        tensors["nonfinite"] = segment.nonfinite
    bfloat16 = frozenset({"vectors"} if segment.vectors.dtype == BFLOAT16 else ())
    return lambda path: write_tensors(path, tensors, bfloat16)


def _read_segment(
    path: Path, dim: int, rotated: bool, manifest: dict[str, Any], mmap: bool
) -> Segment:
    tensors = map_tensors(path)
    if not mmap:
        tensors = {name: tensor.copy() for name, tensor in tensors.items()}
    _check_tensors(path, tensors, dim)
    codes = tensors.get("codes")
    packed = None
    if codes is not None:
        bounds = tensors["bounds"]
        direction = tensors.get("direction")
        if manifest["version"] < 3:
            bounds, direction = bounds.copy(), None
            bounds[:, 3] = 0
        packed = Packed(codes, bounds, rotated, direction)
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
        "direction": (dim,),
        "live": (rows,),
        "nonfinite": (rows,),
    }
    for name, tensor in sorted(tensors.items(), key=lambda item: list(shapes).index(item[0])):
        if tensor.shape != shapes[name]:
            raise CorruptedFolderError(
                f"load: {path} has {name} of shape {tensor.shape}, expected {shapes[name]}"
            )
        if tensor.dtype != _DTYPES.get(name, tensor.dtype):
            raise CorruptedFolderError(
                f"load: {path} has {name} of dtype {tensor.dtype}, expected {_DTYPES[name]}"
            )
        if name == "direction" and not abs(np.linalg.norm(tensor.astype(np.float64)) - 1) < 1e-4:
            raise CorruptedFolderError(f"load: {path} has a direction that is no unit vector")
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
