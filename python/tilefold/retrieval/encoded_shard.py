"""One shard of an encoded corpus: its names as tensors, and the checks before it is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files.done_once import map_checked
from ..files.tensors import CorruptedFolderError, map_tensors


def with_names(names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Converts names to tensors: their bytes, and the end of each."""
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    return {
        "names": np.frombuffer(b"".join(encoded), np.uint8),
        "name_ends": np.cumsum([len(name) for name in encoded], dtype=np.int64),
    }


def named(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    """Returns the names of `with_names`."""
    text, ends = tensors["names"].tobytes(), tensors["name_ends"].tolist()
    return [text[begin:end].decode("utf-8", "surrogatepass") for begin, end in pairwise([0, *ends])]


def names_of(paths: Sequence[str | Path]) -> list[str]:
    """Returns the names of documents, by row of the corpus.

    Rows are the ids in the shards, whatever their order.

    Args:
        paths: all shards, of `shards_of`.

    Raises:
        CorruptedFolderError: a row is missing or twice, or names cannot be read.
    """
    shards = [_named_rows(Path(path)) for path in paths]
    rows = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in shards)])
    order = np.argsort(rows, kind="stable")
    wrong = np.flatnonzero(rows[order] != np.arange(len(rows)))
    if len(wrong):
        raise CorruptedFolderError(
            f"names_of: expected the documents 0 to {len(rows) - 1}, each in one of the "
            f"{len(shards)} shards, but {wrong[0]} is missing or twice"
        )
    names = [name for _, own in shards for name in own]
    return [names[place] for place in order.tolist()]


def check_shard(path: Path, plan: str, rows: range, *, verify: bool = True) -> None:
    """Checks that a shard is whole and is the part of the corpus that its name says.

    Args:
        path: of the shard.
        plan: the key of the plan beside it.
        rows: of the corpus that it holds according to the plan.
        verify: whether to compare the checksum, which reads every byte once.

    Raises:
        CorruptedFolderError: it is truncated, was changed, belongs to another plan or another
            place, or its tensors do not fit each other.
    """
    tensors = map_checked(path, verify=verify)
    _check_tensors(path, tensors)
    found = tensors["plan"].tobytes().decode("ascii", "replace")
    if found != plan:
        raise CorruptedFolderError(
            f"{path} belongs to another encoding than the plan beside it; was it copied there? "
            "Remove it, and encode again"
        )
    ids = tensors["ids"]
    if not np.array_equal(ids, np.arange(rows.start, rows.stop)):
        held = f"{ids[0]} to {ids[-1]}" if len(ids) else "none"
        raise CorruptedFolderError(
            f"{path}: expected documents {rows.start} to {rows.stop - 1}, got {held}; was it "
            "renamed?"
        )


def _check_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Checks that there are all tensors, with a row for each document."""
    missing = {"vectors", "ids", "names", "name_ends", "plan"} - tensors.keys()
    if missing:
        raise CorruptedFolderError(f"{path}: expected a tensor {min(missing)}, got {[*tensors]}")
    vectors, ids, ends = tensors["vectors"], tensors["ids"], tensors["name_ends"]
    shapes = vectors.shape[:1], ids.shape, ends.shape
    if vectors.ndim != 2 or len(set(shapes)) > 1 or ids.dtype != np.int64:
        raise CorruptedFolderError(
            f"{path}: expected vectors, int64 ids and names of as many documents, got shapes "
            f"{vectors.shape}, {ids.shape} {ids.dtype} and {ends.shape}"
        )
    check_name_ends(path, tensors)


def check_name_ends(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Raises CorruptedFolderError where the ends of names do not fit their bytes."""
    bounds = np.concatenate([[0], tensors["name_ends"].astype(np.int64), [len(tensors["names"])]])
    if (np.diff(bounds) < 0).any() or bounds[-2] != bounds[-1]:
        raise CorruptedFolderError(f"{path}: the ends of names do not rise to {bounds[-1]}")


def _named_rows(path: Path) -> tuple[NDArray[np.int64], list[str]]:
    """Returns the row and the name of each document of a shard."""
    tensors = map_tensors(path)
    try:
        return np.array(tensors["ids"], np.int64), named(tensors)
    except (KeyError, UnicodeDecodeError) as error:
        raise CorruptedFolderError(f"{path}: not a shard with names: {error}") from error
