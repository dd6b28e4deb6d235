"""search_shards(): exact search over a corpus that does not fit in memory."""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Array, Vectors, as_ids, as_vectors
from .index import FlatIndex
from .packing import BLOCK_ROWS
from .running import CertifiedResult, Progress, RunningSearch, SearchResult
from .search import fold_array
from .segment import Segment
from .storage import MANIFEST, map_tensors, write_tensors

Shard = Any  # a path to .npy, .safetensors or a saved index; a FlatIndex; or an array

_OP = "search_shards"
_VECTOR_NAMES = ("vectors", "embeddings")
_SMALLEST_CHUNK = 1024
_MEGABYTE = 1 << 20


def search_shards(
    queries: Array,
    shards: Sequence[Shard],
    k: int,
    *,
    memory_limit: int = 1 << 30,
    checkpoint: str | Path | None = None,
    allowed: Array | None = None,
    exclude: Any = None,
    min_score: Any = None,
    max_score: Any = None,
    nonfinite: str = "error",
    num_threads: int | None = None,
    progress: Progress | None = None,
    return_certificate: bool = False,
) -> SearchResult | CertifiedResult:
    """The k best documents of a corpus in shards, streamed from disk.

    Equals `search` over the concatenated shards, to the bit, whatever their number and order of
    sizes. Shards are read forwards once, a chunk at a time; the next chunk is requested from the
    disk while one is searched, and memory maps are released behind the search.

    Args:
        queries: as in `search`.
        shards: paths to ``.npy`` arrays, to ``.safetensors`` files with a tensor ``vectors`` (or
            ``embeddings``) and perhaps ``ids``, to folders that `FlatIndex.save` wrote; or
            `FlatIndex` objects and arrays. Shards without ids of their own are numbered on through
            the corpus: the first row of a shard follows the last row of the shard before it.
        k: answers per query.
        memory_limit: bytes that this call may add to what the process holds, results included;
            arrays and indexes already in memory do not count.
        checkpoint: a file that keeps the answers after each shard. A call with the same arguments
            that finds it goes on after the last finished shard, and removes it at the end.
        allowed, exclude, min_score, max_score, nonfinite, num_threads, return_certificate: as in
            `search`; ids are those of the corpus. A resumed search gives no certificate.
        progress: called as ``progress(documents_done, documents)`` a few times a second.

    Returns:
        As `search`.

    Raises:
        FileNotFoundError, ValueError, TypeError: a shard that is absent, of another dim, of another
            kind of file, or with an id that an earlier shard had; a checkpoint of another search;
            a memory limit too small for one chunk.

    Example:
        >>> import numpy as np, tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> np.save(folder / "0.npy", np.eye(3, 4, dtype=np.float32))
        >>> np.save(folder / "1.npy", 2 * np.eye(3, 4, dtype=np.float32))
        >>> shards = sorted(folder.glob("*.npy"))
        >>> search_shards(np.ones((1, 4), np.float32), shards, k=4).ids
        array([[3, 4, 5, 0]])
    """
    opened = _open(shards)
    running = RunningSearch(
        _OP,
        queries,
        k,
        allowed=allowed,
        exclude=exclude,
        min_score=min_score,
        max_score=max_score,
        nonfinite=nonfinite,
        num_threads=num_threads,
        progress=progress,
        total=sum(s.rows for s in opened),
        certify=return_certificate,
    )
    for shard in opened:
        shard.check_dim(running.queries.shape[1])
    chunk = _chunk_rows(running, memory_limit)
    if checkpoint is None:
        for shard in opened:
            shard.fold_into(running, chunk)
        return running.result()
    if return_certificate:
        raise ValueError(f"{_OP}: a search with a checkpoint gives no certificate")
    return _resumable(running, opened, chunk, Path(checkpoint))


@dataclass(frozen=True)
class _Part:
    """Rows that are folded alike: an array with ids or a first id, or a segment of an index."""

    name: str
    documents: Vectors | Segment
    ids: NDArray[np.int64] | None
    first_id: int

    @property
    def rows(self) -> int:
        return len(self.documents.ids if isinstance(self.documents, Segment) else self.documents)

    @property
    def dim(self) -> int:
        part = self.documents
        return int((part.vectors if isinstance(part, Segment) else part).shape[1])

    @property
    def id_range(self) -> tuple[int, int]:
        ids = self.documents.ids if isinstance(self.documents, Segment) else self.ids
        if ids is None:
            return self.first_id, self.first_id + self.rows
        return (int(ids.min()), int(ids.max()) + 1) if len(ids) else (0, 0)

    def all_ids(self) -> NDArray[np.int64]:
        if isinstance(self.documents, Segment):
            return self.documents.live_ids()
        return np.arange(*self.id_range) if self.ids is None else self.ids

    def check_dim(self, dim: int) -> None:
        if self.dim != dim:
            raise ValueError(f"{_OP}: queries have dim {dim} but {self.name} has dim {self.dim}")

    def fold_into(self, running: RunningSearch, chunk: int) -> None:
        arrays = _arrays(self.documents)
        for begin in range(0, self.rows, chunk):
            end = min(begin + chunk, self.rows)
            for array in arrays:
                _request(array, self.rows, end, min(end + chunk, self.rows))
            if isinstance(self.documents, Segment):
                self.documents.fold_into(running, begin=begin, end=end)
            else:
                fold_array(
                    running,
                    self.documents[begin:end],
                    ids=None if self.ids is None else self.ids[begin:end],
                    first_id=self.first_id + begin,
                    first_row=begin,
                )
            for array in arrays:
                _release(array, self.rows, begin, end)


def _open(shards: Sequence[Shard]) -> list[_Part]:
    if isinstance(shards, (str, Path)) or not isinstance(shards, Sequence):
        raise TypeError(f"{_OP}: shards must be a list of shards, got {type(shards).__name__}")
    parts: list[_Part] = []
    next_id = 0
    for number, shard in enumerate(shards):
        opened = list(_open_one(shard, number, next_id))
        parts += opened
        next_id = max([next_id, *(part.id_range[1] for part in opened)])
    _check_disjoint(parts)
    return parts


def _open_one(shard: Shard, number: int, first_id: int) -> Iterator[_Part]:
    if isinstance(shard, (str, Path)):
        path = Path(shard)
        name = str(path)
        if (path / MANIFEST).is_file():
            shard = FlatIndex.load(path, verify=False)
        elif path.suffix == ".npy":
            yield _Part(name, _vectors(_load_npy(path), name), None, first_id)
            return
        elif path.suffix == ".safetensors":
            tensors = map_tensors(path)
            found = [tensors[n] for n in _VECTOR_NAMES if n in tensors]
            if not found:
                raise ValueError(f"{_OP}: {path} has no tensor named vectors; got {list(tensors)}")
            ids = tensors.get("ids")
            names = None if ids is None else as_ids(ids, _OP, f"ids of {path}")
            if names is not None and len(names) != len(found[0]):
                raise ValueError(f"{_OP}: {path} has {len(found[0])} vectors and {len(names)} ids")
            yield _Part(name, _vectors(found[0], name), names, first_id)
            return
        else:
            if not path.exists():
                raise FileNotFoundError(f"{_OP}: {path} does not exist")
            raise ValueError(f"{_OP}: {path} is no .npy, .safetensors or saved index")
    else:
        name = f"shards[{number}]"
    if isinstance(shard, FlatIndex):
        for segment in shard._segments:
            yield _Part(name, segment, None, 0)
    else:
        yield _Part(name, _vectors(shard, name), None, first_id)


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{_OP}: {path} is not a whole .npy array: {error}") from error
    return np.asarray(array) if array.size == 0 else array


def _vectors(array: Array, name: str) -> Vectors:
    if isinstance(array, np.ndarray) and array.dtype == np.uint16:
        return array  # bits of bfloat16, from safetensors
    return as_vectors(array, _OP, name)


def _check_disjoint(parts: list[_Part]) -> None:
    """No id twice: neighbours by range can only clash where their ranges overlap."""
    ordered = sorted((p for p in parts if p.rows), key=lambda p: p.id_range)
    for left, right in itertools.pairwise(ordered):
        if left.id_range[1] <= right.id_range[0]:
            continue
        ids, counts = np.unique(np.concatenate([p.all_ids() for p in ordered]), return_counts=True)
        if (counts > 1).any():
            twice = ids[np.argmax(counts > 1)]
            raise ValueError(f"{_OP}: id {twice} is in more than one shard")
        return


def _chunk_rows(running: RunningSearch, memory_limit: int) -> int:
    """Rows per chunk: two chunks of vectors are mapped at a time, one is packed."""
    n, dim = running.queries.shape
    answers = 3 * n * running.k * 12
    lists = running.k * 20 * 16 * min(n, 256) + 64 * _MEGABYTE // 4
    per_row = 2 * 4 * dim + dim + 64
    rows = (memory_limit - answers - lists - 16 * _MEGABYTE) // per_row // BLOCK_ROWS * BLOCK_ROWS
    if rows < _SMALLEST_CHUNK:
        needed = answers + lists + 16 * _MEGABYTE + _SMALLEST_CHUNK * per_row
        raise ValueError(
            f"{_OP}: memory_limit must be at least {needed} bytes for {n} queries of dim {dim} "
            f"and k = {running.k}, got {memory_limit}"
        )
    return int(min(rows, 1 << 22))


def _arrays(documents: Vectors | Segment) -> list[NDArray[Any]]:
    """The arrays that a search of the documents reads forwards, and that may be memory maps."""
    if not isinstance(documents, Segment):
        return [documents]
    arrays: list[NDArray[Any]] = [documents.vectors]
    if documents.packed is not None:
        arrays += [documents.packed.codes, documents.packed.bounds]
    return arrays


def _request(array: NDArray[Any], rows: int, begin: int, end: int) -> None:
    _advise(array, rows, begin, end, getattr(mmap, "MADV_WILLNEED", None))


def _release(array: NDArray[Any], rows: int, begin: int, end: int) -> None:
    _advise(array, rows, begin, end, getattr(mmap, "MADV_DONTNEED", None))


def _advise(array: NDArray[Any], rows: int, begin: int, end: int, advice: int | None) -> None:
    """Advises the kernel about the part of a mapped array that belongs to rows [begin, end)."""
    mapped = _map_of(array)
    if mapped is None or advice is None or begin >= end:
        return
    start = array.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
    first = start + array.nbytes * begin // rows
    last = start + array.nbytes * end // rows
    first -= first % mmap.PAGESIZE
    mapped.madvise(advice, first, last - first)


def _map_of(array: NDArray[Any]) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) and hasattr(base, "madvise") else None


def _resumable(
    running: RunningSearch, parts: list[_Part], chunk: int, checkpoint: Path
) -> SearchResult | CertifiedResult:
    """Folds shards, keeping the answers in a file after each."""
    print_of_search = _fingerprint(running, parts)
    done = _restore(running, checkpoint, print_of_search)
    for number in range(done, len(parts)):
        parts[number].fold_into(running, chunk)
        _keep(running, checkpoint, print_of_search, number + 1)
    checkpoint.unlink(missing_ok=True)
    return running.result()


def _fingerprint(running: RunningSearch, parts: list[_Part]) -> NDArray[np.uint8]:
    digest = hashlib.sha256(np.ascontiguousarray(running.queries).tobytes())
    digest.update(json.dumps([running.k, running.nonfinite]).encode())
    for part in parts:
        digest.update(json.dumps([part.name, part.rows, part.dim, part.id_range]).encode())
    for value in vars(running.filters).values():
        digest.update(b"-" if value is None else np.ascontiguousarray(value).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _restore(running: RunningSearch, checkpoint: Path, fingerprint: NDArray[np.uint8]) -> int:
    if not checkpoint.exists():
        return 0
    kept = map_tensors(checkpoint)
    if not np.array_equal(kept.get("fingerprint", np.empty(0)), fingerprint):
        raise ValueError(
            f"{_OP}: {checkpoint} belongs to another search (other queries, k, filters or shards); "
            "remove it or name another checkpoint"
        )
    running.scores[:] = kept["scores"]
    running.ids[:] = kept["ids"]
    return int(kept["done"][0])


def _keep(
    running: RunningSearch, checkpoint: Path, fingerprint: NDArray[np.uint8], done: int
) -> None:
    temporary = checkpoint.with_name(f"{checkpoint.name}.{os.getpid()}")
    state: dict[str, NDArray[Any]] = {
        "fingerprint": fingerprint,
        "scores": running.scores,
        "ids": running.ids,
        "done": np.array([done]),
    }
    try:
        write_tensors(temporary, state)
        os.replace(temporary, checkpoint)
    finally:
        temporary.unlink(missing_ok=True)
