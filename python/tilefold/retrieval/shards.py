"""search_shards(): exact search over a corpus that does not fit in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from ..arrays import Array, check_dim
from ..integers import as_integer
from ..progress import Progress
from .device_search import open_search
from .disjoint_ids import check_disjoint
from .document_fold import DocumentFold
from .foreign_names import explains_names
from .memory_budget import OVERHEAD, chunk_rows
from .open_shards import Shard, open_shards
from .running_range import CertifiedRangeResult, RangeResult, RunningRange
from .running_search import CertifiedResult, SearchResult
from .search_checkpoint import resumable_search
from .search_options import RangeKeywords, SearchKeywords, SearchOptions
from .shard_parts import Part

_OP = "search_shards"


@overload
def search_shards(
    queries: Array,
    shards: Iterable[Shard],
    k: int,
    *,
    memory_limit: int = 1 << 30,
    checkpoint: str | Path | None = None,
    verify: bool = False,
    return_certificate: Literal[False] = False,
    **options: Unpack[SearchKeywords],
) -> SearchResult: ...


@overload
def search_shards(
    queries: Array,
    shards: Iterable[Shard],
    k: int,
    *,
    memory_limit: int = 1 << 30,
    checkpoint: str | Path | None = None,
    verify: bool = False,
    return_certificate: Literal[True],
    **options: Unpack[SearchKeywords],
) -> CertifiedResult: ...


@overload
def search_shards(
    queries: Array,
    shards: Iterable[Shard],
    k: int,
    *,
    memory_limit: int = 1 << 30,
    checkpoint: str | Path | None = None,
    verify: bool = False,
    return_certificate: bool,
    **options: Unpack[SearchKeywords],
) -> SearchResult | CertifiedResult: ...


@explains_names(_OP)
def search_shards(
    queries: Array,
    shards: Iterable[Shard],
    k: int,
    *,
    memory_limit: int = 1 << 30,
    checkpoint: str | Path | None = None,
    verify: bool = False,
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

    Equals `search` over the concatenated shards, bit for bit, however the corpus is divided. Each
    shard is read forwards once, chunk by chunk; while one chunk is searched, the next is requested
    from the disk, and memory maps are released behind the search.

    Args:
        queries: as in `search`; the search runs on their device, and while it searches one chunk,
            the next is sent there.
        shards: paths to ``.npy`` arrays, to ``.safetensors`` files with a tensor ``vectors`` (or
            ``embeddings``) and perhaps ``ids``, to folders that `FlatIndex.save` wrote; or
            `FlatIndex` objects and arrays; a list, or a generator, which is read to its end first.
            Shards without ids of their own continue the numbering: the first row of a shard follows
            the largest id of the shards before it.
        k: answers per query.
        memory_limit: bytes that this call may add to the memory of the process, results included;
            arrays and indexes already in memory do not count. float64 on disk is converted chunk
            by chunk.
        checkpoint: path of a file that stores the answers after each shard. A later call with the
            same arguments resumes after the last finished shard; the file is removed at the end.
            It stores digests of finished shards, which takes about a second per GB: once while
            they are searched, and once more, reading them again, when a search resumes.
        verify: whether to compare the checksums of saved indexes and of shards that `tilefold
            encode` wrote, which reads every file once more, about a second per GB. Without, sizes
            and headers are checked, but a bit that a faulty disk or cable changed gives another
            answer, and nothing says so. Other files carry no checksums and are refused.
        allowed, exclude, min_score, max_score, nonfinite, num_threads, return_certificate: as in
            `search`; ids are those of the corpus. A resumed search gives no certificate.
        progress: called as ``progress(documents_done, documents)`` a few times a second.

    Returns:
        As `search`.

    Raises:
        FileNotFoundError: a shard does not exist.
        TypeError: shards is neither a list nor a generator, or vectors have a dtype that cannot be
            searched.
        ValueError: a shard has another dim, is another kind of file, is corrupted, or repeats an id
            of an earlier one; the checkpoint belongs to another search, is corrupted or in use; the
            memory limit is too low for one chunk.

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
    parts = open_shards(shards, _OP, verify=verify)
    running = open_search(queries, k, options, total=sum(part.rows for part in parts))
    chunk = _checked_chunk(running, parts, memory_limit)
    if checkpoint is None:
        for part in parts:
            part.fold_into(running, chunk)
        return running.result()
    if return_certificate:
        raise ValueError(f"{_OP}: a search with a checkpoint gives no certificate")
    return resumable_search(running, parts, chunk, Path(checkpoint))


@overload
def range_search_shards(
    queries: Array,
    shards: Iterable[Shard],
    min_score: Any,
    *,
    memory_limit: int = 1 << 30,
    return_certificate: Literal[False] = False,
    **options: Unpack[RangeKeywords],
) -> RangeResult: ...


@overload
def range_search_shards(
    queries: Array,
    shards: Iterable[Shard],
    min_score: Any,
    *,
    memory_limit: int = 1 << 30,
    return_certificate: Literal[True],
    **options: Unpack[RangeKeywords],
) -> CertifiedRangeResult: ...


@overload
def range_search_shards(
    queries: Array,
    shards: Iterable[Shard],
    min_score: Any,
    *,
    memory_limit: int = 1 << 30,
    return_certificate: bool,
    **options: Unpack[RangeKeywords],
) -> RangeResult | CertifiedRangeResult: ...


@explains_names("range_search_shards")
def range_search_shards(
    queries: Array,
    shards: Iterable[Shard],
    min_score: Any,
    *,
    memory_limit: int = 1 << 30,
    allowed: Array | None = None,
    exclude: Any = None,
    max_score: Any = None,
    nonfinite: str = "error",
    num_threads: int | None = None,
    progress: Progress | None = None,
    return_certificate: bool = False,
) -> RangeResult | CertifiedRangeResult:
    """Every document of a corpus in shards that scores at least `min_score`, streamed from disk.

    Equals `range_search` over the concatenated shards, bit for bit, however the corpus is divided.

    Args:
        queries: as in `range_search`.
        shards: as in `search_shards`.
        min_score: number or ``[n]``, inclusive.
        memory_limit: bytes that the search may add to the process, without the hits, which take 12
            bytes each and up to as much again while they are sorted.
        allowed, exclude, max_score, nonfinite, num_threads, progress, return_certificate: as in
            `range_search`; ids are those of the corpus.

    Returns:
        As `range_search`.

    Raises:
        FileNotFoundError: a shard does not exist.
        TypeError: shards is no list, vectors have a dtype that cannot be searched, or min_score is
            None.
        ValueError: a shard has another dim, is another kind of file, or repeats an id of an
            earlier one; the memory limit is too low for one chunk.

    Example:
        >>> import numpy as np
        >>> shards = [np.eye(3, 4, dtype=np.float32), 2 * np.eye(3, 4, dtype=np.float32)]
        >>> range_search_shards(np.ones((1, 4), np.float32), shards, 2).ids
        array([3, 4, 5])
    """
    options = SearchOptions(
        op="range_search_shards",
        allowed=allowed,
        exclude=exclude,
        min_score=min_score,
        max_score=max_score,
        nonfinite=nonfinite,
        num_threads=num_threads,
        progress=progress,
        return_certificate=return_certificate,
    )
    parts = open_shards(shards, options.op)
    running = RunningRange(queries, options, total=sum(part.rows for part in parts))
    chunk = _checked_chunk(running, parts, memory_limit)
    for part in parts:
        part.fold_into(running, chunk)
    return running.result()


def _checked_chunk(running: DocumentFold, parts: list[Part], memory_limit: int) -> int:
    """Checks the dim and the ids of shards; returns the rows to fold at a time."""
    for part in parts:
        dim = running.queries.shape[1]
        check_dim(running.op, "queries", dim, f"{part.name} has", part.vectors.shape[1])
    memory_limit = as_integer(memory_limit, running.op, "memory_limit")
    chunk = chunk_rows(running, parts, memory_limit)
    check_disjoint(parts, memory_limit - OVERHEAD, running.op)
    return chunk
