"""search_shards(): exact search over a corpus that does not fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import _native
from ..arrays import Array, check_dim
from ..progress import Progress
from .packing import BLOCK_ROWS
from .running_search import CertifiedResult, RunningSearch, SearchResult
from .search_checkpoint import resumable_search
from .search_options import SearchOptions, as_integer
from .shard_parts import Part, Shard, check_disjoint, open_shards

_OP = "search_shards"
_SMALLEST_CHUNK = 1024
_LARGEST_CHUNK = 1 << 22
_OVERHEAD = 16 << 20  # stacks, allocator, interpreter


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
            Of saved indexes sizes and headers are checked, not checksums.
        k: answers per query.
        memory_limit: bytes that this call may add to what the process holds, results included;
            arrays and indexes already in memory do not count. float64 on disk is converted a
            chunk at a time.
        checkpoint: a file that keeps the answers after each shard. A call with the same arguments
            that finds it goes on after the last finished shard, and removes it at the end. It
            names the contents of finished shards, which costs about a second per GB: once as they
            are searched, and once more, with reading them, when the search goes on.
        allowed, exclude, min_score, max_score, nonfinite, num_threads, return_certificate: as in
            `search`; ids are those of the corpus. A resumed search gives no certificate.
        progress: called as ``progress(documents_done, documents)`` a few times a second.

    Returns:
        As `search`.

    Raises:
        FileNotFoundError, ValueError, TypeError: a shard that is absent, of another dim, of another
            kind of file, or with an id that an earlier shard had; a checkpoint of another search,
            one that is corrupted, or that another search is using; a memory limit too small for
            one chunk.

    Example:
        >>> import numpy as np, tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> np.save(folder / "0.npy", np.eye(3, 4, dtype=np.float32))
        >>> np.save(folder / "1.npy", 2 * np.eye(3, 4, dtype=np.float32))
        >>> shards = sorted(folder.glob("*.npy"))
        >>> search_shards(np.ones((1, 4), np.float32), shards, k=4).ids
        array([[3, 4, 5, 0]])
    """
    options = SearchOptions(
        op=_OP,
        allowed=allowed,
        exclude=exclude,
        min_score=min_score,
        max_score=max_score,
        nonfinite=nonfinite,
        num_threads=num_threads,
        progress=progress,
        return_certificate=return_certificate,
    )
    parts = open_shards(shards, _OP)
    running = RunningSearch(queries, k, options, total=sum(part.rows for part in parts))
    dim = running.queries.shape[1]
    for part in parts:
        check_dim(_OP, "queries", dim, f"{part.name} has", part.vectors.shape[1])
    memory_limit = as_integer(memory_limit, _OP, "memory_limit")
    chunk = _chunk_rows(running, parts, memory_limit)
    check_disjoint(parts, memory_limit - _OVERHEAD, _OP)
    if checkpoint is None:
        for part in parts:
            part.fold_into(running, chunk)
        return running.result()
    if return_certificate:
        raise ValueError(f"{_OP}: a search with a checkpoint gives no certificate")
    return resumable_search(running, parts, chunk, Path(checkpoint))


def _chunk_rows(running: RunningSearch, parts: list[Part], memory_limit: int) -> int:
    """Rows per chunk, whose vectors are mapped, perhaps converted, and packed."""
    n, dim = running.queries.shape
    threads = running.num_threads or _native.num_threads()
    answers = 4 * n * running.k * 12
    prepared = threads * min(n, 256) * dim * 17
    fixed = _OVERHEAD + answers + prepared + _list_bytes(n, running.k, threads)
    converted = 4 if any(part.vectors.dtype.itemsize == 8 for part in parts) else 0
    itemsize = max((part.vectors.itemsize for part in parts), default=4)
    per_row = (itemsize + converted + 1) * dim + 64
    rows = (memory_limit - fixed) // per_row // BLOCK_ROWS * BLOCK_ROWS
    if rows < _SMALLEST_CHUNK:
        needed = fixed + _SMALLEST_CHUNK * per_row
        raise ValueError(
            f"{_OP}: memory_limit must be at least {needed} bytes for {n} queries of dim {dim}, "
            f"k = {running.k} and {threads} threads, got {memory_limit}"
        )
    return int(min(rows, _LARGEST_CHUNK))


def _list_bytes(n: int, k: int, threads: int) -> int:
    """At most what the candidate lists of a search hold; csrc/cpu/host/search.cpp plans them."""
    one = _native.list_bytes(k)
    if n >= 16 * threads:
        return threads * max(one, min(_native.LIST_BYTES_PER_THREAD, min(n, 256) * one))
    return max(threads * one, min(_native.LIST_BYTES_TOGETHER, 4 * threads * n * one)) + n * one
