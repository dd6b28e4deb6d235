"""Rows per chunk of a streamed search, so that it stays within a limit of memory."""

from __future__ import annotations

from collections.abc import Sequence

from .. import _native
from .device_search import AnySearch
from .document_fold import DocumentFold
from .packing import BLOCK_ROWS
from .shard_parts import Part

OVERHEAD = 16 << 20  # bytes of stacks, allocator and interpreter
_MIN_CHUNK = 1024
_MAX_CHUNK = 1 << 22
# A group of queries that a thread prepares at once; csrc/cpu/host/search.cpp.
_QUERY_GROUP = 256


def chunk_rows(running: DocumentFold, parts: Sequence[Part], memory_limit: int) -> int:
    """Computes the rows per chunk, whose vectors are mapped, perhaps converted, and packed.

    Args:
        running: the search.
        parts: the parts that it folds.
        memory_limit: bytes that the search may add to the process, results included.

    Returns:
        A multiple of 32 from 1024 to 2^22.

    Raises:
        ValueError: the limit is too low for the smallest chunk.
    """
    n, dim = running.queries.shape
    threads = running.num_threads or _native.num_threads()
    # A score and an id are 12 bytes; merging copies them.
    answers = 4 * 12 * max(queries * k for queries, k in running.batches)
    prepared = threads * min(n, _QUERY_GROUP) * dim * 17
    lists = max(_candidate_list_bytes(queries, k, threads) for queries, k in running.batches)
    fixed = OVERHEAD + answers + prepared + lists
    converted = 4 if any(part.vectors.dtype.itemsize == 8 for part in parts) else 0
    itemsize = max((part.vectors.itemsize for part in parts), default=4)
    per_row = (itemsize + converted + 1) * dim + 64
    rows = (memory_limit - fixed) // per_row // BLOCK_ROWS * BLOCK_ROWS
    if rows < _MIN_CHUNK:
        minimum = fixed + _MIN_CHUNK * per_row
        raise ValueError(
            f"{running.op}: memory_limit must be at least {minimum} bytes for {n} queries of dim "
            f"{dim}{_described_k(running)} and {threads} threads, got {memory_limit}"
        )
    return int(min(rows, _MAX_CHUNK))


def _described_k(running: DocumentFold) -> str:
    return f", k = {running.k}" if isinstance(running, AnySearch) else ""


def _candidate_list_bytes(n: int, k: int, threads: int) -> int:
    """Returns an upper bound of the candidate lists' size, which csrc/cpu/host/search.cpp plans."""
    one = _native.list_bytes(k)
    if n >= 16 * threads:
        return threads * max(one, min(_native.LIST_BYTES_PER_THREAD, min(n, _QUERY_GROUP) * one))
    return max(threads * one, min(_native.LIST_BYTES_TOGETHER, 4 * threads * n * one)) + n * one
