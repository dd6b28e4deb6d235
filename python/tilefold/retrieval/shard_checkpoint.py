"""Checkpoints of a search over shards: the answers after each shard, in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files.atomic import replacing
from ..files.storage import map_tensors, write_tensors
from .running_search import CertifiedResult, RunningSearch, SearchResult
from .shard_parts import Part

# Rows of each part that the fingerprint includes: enough to notice regenerated vectors, and cheap.
_SAMPLED_ROWS = 64


def resumable_search(
    running: RunningSearch, parts: Sequence[Part], chunk: int, path: Path
) -> SearchResult | CertifiedResult:
    """Folds the parts that a checkpoint does not cover, and writes it after each.

    Args:
        running: the search, before its first fold.
        parts: the parts of the corpus, in order.
        chunk: rows that are folded at once.
        path: the checkpoint, which is removed at the end.

    Raises:
        ValueError: the checkpoint belongs to another search.
        OSError: it cannot be written.
    """
    checkpoint = _Checkpoint(path, running, parts)
    done = checkpoint.restore()
    running.skip(sum(part.rows for part in parts[:done]))
    for number in range(done, len(parts)):
        parts[number].fold_into(running, chunk)
        checkpoint.write(number + 1)
    checkpoint.remove()
    return running.result()


class _Checkpoint:
    """The answers of one search so far, in a file that no other search may resume from.

    Args:
        path: the file; created by the first `write`.
        running: the search, before its first fold.
        parts: the parts that it folds, in order.
    """

    def __init__(self, path: Path, running: RunningSearch, parts: Sequence[Part]) -> None:
        self._path, self._running = path, running
        self._fingerprint = _fingerprint(running, parts)

    def restore(self) -> int:
        """Reads the answers into the search.

        Returns:
            The number of parts that have been folded; 0 without a file.

        Raises:
            ValueError: the file belongs to another search.
        """
        if not self._path.exists():
            return 0
        tensors = map_tensors(self._path)
        if not np.array_equal(tensors.get("fingerprint", np.empty(0)), self._fingerprint):
            raise ValueError(
                f"{self._running.op}: {self._path} belongs to another search (other queries, k, "
                "filters or shards); remove it or name another checkpoint"
            )
        self._running.scores[:] = tensors["scores"]
        self._running.ids[:] = tensors["ids"]
        return int(tensors["done"][0])

    def write(self, done: int) -> None:
        """Replaces the file by the answers after `done` parts."""
        tensors: dict[str, NDArray[Any]] = {
            "fingerprint": self._fingerprint,
            "scores": self._running.scores,
            "ids": self._running.ids,
            "done": np.array([done]),
        }
        with replacing(self._path) as partial:
            write_tensors(partial, tensors)

    def remove(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)


def _fingerprint(running: RunningSearch, parts: Sequence[Part]) -> NDArray[np.uint8]:
    """Computes a digest of everything that the answers depend on, vectors by sample and mtime."""
    digest = hashlib.sha256(np.ascontiguousarray(running.queries).tobytes())
    facts = [running.queries.dtype.str, running.k, running.nonfinite]
    digest.update(json.dumps(facts).encode())
    for value in vars(running.filters).values():
        digest.update(b"-" if value is None else np.ascontiguousarray(value).tobytes())
    for part in parts:
        vectors = part.vectors
        facts = [part.name, vectors.shape, vectors.dtype.str, part.id_range()]
        digest.update(json.dumps(facts).encode())
        sample = vectors[:: max(1, len(vectors) // _SAMPLED_ROWS)]
        digest.update(np.ascontiguousarray(sample).tobytes())
        if part.path is not None:
            digest.update(json.dumps(_file_stats(part.path)).encode())
    return np.frombuffer(digest.digest(), np.uint8)


def _file_stats(path: Path) -> list[tuple[str, int, int]]:
    """Returns path, size and modification time of a file, or of a folder and its files."""
    files = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
