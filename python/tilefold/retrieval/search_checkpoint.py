"""Checkpoints of a search over shards: the answers after each shard, and what they depend on.

A checkpoint holds digests of the contents of the shards that are finished. Shards that are not yet
finished may still change, for the answers do not depend on them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files.done_once import digest_of_array, read_checked, result_key, write_checked
from ..files.locked import locked_beside
from ..files.tensors import CorruptedFolderError, map_tensors
from .device_search import AnySearch
from .running_search import CertifiedResult, SearchResult
from .shard_parts import Part, PartDigest

# Raised when a checkpoint of before must not be continued.
_VERSION = 2


def resumable_search(
    running: AnySearch, parts: list[Part], chunk: int, checkpoint: Path
) -> SearchResult | CertifiedResult:
    """Folds shards into a search, keeping its answers in a file after each.

    Args:
        running: the search, into which nothing is folded yet.
        parts: of the corpus, in order.
        chunk: rows that are folded at a time.
        checkpoint: the file; it is removed when the search is finished.

    Raises:
        ValueError: the file belongs to another search, is corrupted, or in use.
        OSError: it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked_beside(checkpoint, wait=False))
        except BlockingIOError:
            raise ValueError(
                f"{running.op}: another search is using {checkpoint}; wait for its end or name "
                "another checkpoint"
            ) from None
        return _fold_rest(running, parts, chunk, checkpoint)


def _fold_rest(
    running: AnySearch, parts: list[Part], chunk: int, checkpoint: Path
) -> SearchResult | CertifiedResult:
    key = _search_key(running, parts)
    contents = _restore(running, parts, chunk, checkpoint, key)
    running.skip(sum(part.rows for part in parts[: len(contents)]))
    for part in parts[len(contents) :]:
        digest = PartDigest(part)
        part.fold_into(running, chunk, digest)
        contents.append(digest.hexdigest())
        _keep(running, checkpoint, key, contents)
    checkpoint.resolve().unlink(missing_ok=True)  # a link to it stays
    return running.result()


def _search_key(running: AnySearch, parts: list[Part]) -> str:
    """Computes the key of a search: queries, options, and numbers and ids of documents."""
    filters = {
        name: None if value is None else digest_of_array(value)
        for name, value in vars(running.filters).items()
    }
    shapes = [[*part.vectors.shape, part.vectors.dtype.str, *part.id_range()] for part in parts]
    queries = digest_of_array(running.queries_on_host())
    settings = [queries, running.k, running.nonfinite, filters, shapes]
    return result_key(running.op, _VERSION, settings)


def _restore(
    running: AnySearch, parts: list[Part], chunk: int, checkpoint: Path, key: str
) -> list[str]:
    """Restores the answers of a checkpoint; returns the digests of finished parts."""
    if not checkpoint.exists():
        return []
    if "key" not in map_tensors(checkpoint):
        raise _another_search(running, checkpoint)
    kept = read_checked(checkpoint)
    _check_answers(running, kept, checkpoint)
    if kept["key"].tobytes().decode() != key:
        raise _another_search(running, checkpoint)
    done = int(kept["done"][0])
    contents = kept["contents"].tobytes().decode().split()
    if not 0 <= done <= len(parts) or done != len(contents):
        raise CorruptedFolderError(
            f"{running.op}: {checkpoint} has {done} finished parts, expected 0 to {len(parts)}; "
            "remove it"
        )
    for part, expected in zip(parts, contents, strict=False):
        if part.digest(chunk) != expected:
            raise _another_search(running, checkpoint)
    running.restore(kept["scores"], kept["ids"])
    return contents


def _check_answers(running: AnySearch, kept: dict[str, NDArray[Any]], checkpoint: Path) -> None:
    """Raises where answers of a checkpoint cannot be those of any search, whoever wrote it."""
    names = {"key", "contents", "scores", "ids", "done"}
    if kept.keys() != names:
        raise CorruptedFolderError(
            f"{running.op}: {checkpoint} has the tensors {sorted(kept)}, expected {sorted(names)}"
        )
    scores, ids = running.answers()
    for name, own in (("scores", scores), ("ids", ids), ("done", np.zeros(1, int))):
        if (kept[name].shape, kept[name].dtype) != (own.shape, own.dtype):
            raise _another_search(running, checkpoint)
    if (kept["ids"] < -1).any() or np.isnan(kept["scores"]).any():
        raise CorruptedFolderError(
            f"{running.op}: {checkpoint} has negative ids or scores that are no numbers; remove it"
        )


def _keep(running: AnySearch, checkpoint: Path, key: str, contents: list[str]) -> None:
    scores, ids = running.answers()
    state: dict[str, NDArray[Any]] = {
        "key": _as_bytes(key),
        "contents": _as_bytes(" ".join(contents)),
        "scores": scores,
        "ids": ids,
        "done": np.array([len(contents)]),
    }
    write_checked(checkpoint, state)


def _as_bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _another_search(running: AnySearch, checkpoint: Path) -> ValueError:
    return ValueError(
        f"{running.op}: {checkpoint} belongs to another search (other queries, k, filters or "
        "shards); remove it or name another checkpoint"
    )
