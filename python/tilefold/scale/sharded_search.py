"""ShardedSearch: exact search over encoded shards on the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, as_queries, check_dim
from ..files.tensors import map_tensors
from ..progress import Progress
from ..retrieval.document_fold import finite_rows
from ..retrieval.encode_shards import plan_of, shard_path, shards_of
from ..retrieval.encoded_shard import check_shard
from ..retrieval.running_search import (
    CertifiedResult,
    SearchResult,
    certificate_of,
    checked_k,
)
from ..retrieval.search_options import SearchOptions
from ..retrieval.shards import search_shards
from .merged_answers import MergedAnswers
from .shared_folder import check_shared
from .worker_pool import WorkerPool
from .worker_process import Work
from .workers import Workers

_OP = "ShardedSearch"


class ShardedSearch:
    """Searches shards that `encode_shards` wrote, on workers, while a `with` block runs.

    Equals `search_shards` over all shards, bit for bit, whatever the number of workers and the
    order in which they finish. A shard whose worker dies is searched by another one. Searches of
    several threads take turns. Queries are sent to each machine once per search, and k answers per
    query and shard come back. Shard i goes to worker i modulo their number, search after search, so
    that the memory of its machine holds the pages of the same files.

    Args:
        folder: of the shards, on storage that this process and all workers share.
        workers: the cluster; by default one on this machine.
        memory_limit: bytes that a search may add to a worker, as of `search_shards`.
        verify: whether a worker compares the checksum of a shard before it searches it for the
            first time, which reads every byte once.

    Raises:
        FileNotFoundError: the folder has no shards, or lacks some.
        CorruptedFolderError: a shard is truncated, was changed or belongs to another folder.
        ImportError, ConnectionError, ValueError: as `WorkerPool`.

    Example:
        >>> with ShardedSearch("vectors", workers=Workers(number=2)) as search:  # doctest: +SKIP
        ...     scores, ids = search.search(queries, k=10)
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        workers: Workers | None = None,
        memory_limit: int = 1 << 30,
        verify: bool = True,
    ) -> None:
        root, self._workers = Path(folder).resolve(), workers or Workers()
        self._plan = plan_of(root)
        self._paths = shards_of(root, verify=False)
        self._dim = int(map_tensors(self._paths[0])["vectors"].shape[1])
        threads = self._workers.threads
        open_work = partial(open_shard_search, root, self._plan, threads, memory_limit, verify)
        self._pool = WorkerPool(_OP, open_work, self._workers, most=len(self._paths))

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.__exit__(kind, error, traceback)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: Array | None = None,
        exclude: Any = None,
        min_score: Any = None,
        max_score: Any = None,
        nonfinite: str = "error",
        progress: Progress | None = None,
        return_certificate: bool = False,
    ) -> SearchResult | CertifiedResult:
        """Returns the k documents with the largest inner products, for each query.

        Args:
            queries: ``[n, dim]`` or ``[dim]``, a float32 array of NumPy.
            k: answers per query.
            allowed, exclude, min_score, max_score, nonfinite: as in `tilefold.search`; ids are
                rows of the corpus.
            progress: called as ``progress(documents_done, documents)`` after each shard.
            return_certificate: whether to return the certificate as well: its threshold is that of
                `search_shards`, `refined` and `bound` are the sum and the maximum over shards.

        Returns:
            As `search_shards`.

        Raises:
            TypeError: queries are no float32 array of NumPy.
            ValueError: queries of another dim; options out of range.
            ChildProcessError: three processes died over one shard.
        """
        k = checked_k(k, _OP)
        rows = self._checked(queries)
        filters: dict[str, Any] = {
            "allowed": allowed,
            "exclude": exclude,
            "min_score": min_score,
            "max_score": max_score,
            "nonfinite": nonfinite,
        }
        options = SearchOptions(op=_OP, return_certificate=return_certificate, **filters)
        thresholds = options.filters(len(rows)).min_score
        merged = MergedAnswers(len(rows), k)
        done = 0
        tasks = list(range(len(self._paths)))
        shared = rows, k, {**filters, "return_certificate": return_certificate}
        for number, found in self._pool.run(tasks, shared):
            merged.add(*found)
            done += len(self._plan.rows(number))
            if progress is not None:
                progress(done, self._plan.documents)
        pick: Callable[[Any], Any] = (lambda a: a[0]) if queries.ndim == 1 else (lambda a: a)
        scores, ids = pick(merged.scores), pick(merged.ids)
        if not return_certificate:
            return SearchResult(scores, ids)
        certificate = certificate_of(
            merged.scores,
            merged.refined,
            merged.bound,
            thresholds,
            ~finite_rows(rows),
            merged.nonfinite_documents,
        )
        return CertifiedResult(scores, ids, certificate)

    def _checked(self, queries: Any) -> NDArray[np.float32]:
        """Checks queries, and returns them as a matrix."""
        if not isinstance(queries, np.ndarray) or queries.dtype != np.float32:
            kind = getattr(queries, "dtype", type(queries).__name__)
            raise TypeError(f"{_OP}: queries must be a float32 array of NumPy, got {kind}")
        if queries.ndim not in (1, 2):
            raise ValueError(f"{_OP}: queries must be [n, dim] or [dim], got {queries.shape}")
        rows = np.ascontiguousarray(np.atleast_2d(as_queries(queries, _OP)[0]))
        check_dim(_OP, "queries", rows.shape[1], "documents have", self._dim)
        return rows


def open_shard_search(root: Path, plan: Any, threads: int, memory_limit: int, verify: bool) -> Work:
    """Opens the search of shards in a worker.

    Args:
        root: folder of the shards.
        plan: that the starting process found there.
        threads: of a search.
        memory_limit, verify: of `ShardedSearch`.

    Returns:
        A function of queries, k and options, and of the number of a shard; it returns the arguments
        of `MergedAnswers.add`.
    """
    check_shared(root, plan)
    # Shards that were checked; their pages stay in the page cache of the machine.
    paths: dict[int, Path] = {}

    def search_one(shared: Any, number: int) -> tuple[Any, ...]:
        queries, k, options = shared
        if number not in paths:
            path = shard_path(root, plan, number)
            check_shard(path, plan.key, plan.rows(number), verify=verify)
            paths[number] = path
        found = search_shards(
            queries, [paths[number]], k, num_threads=threads, memory_limit=memory_limit, **options
        )
        if isinstance(found, SearchResult):
            return found.scores, found.ids
        certificate = found.certificate
        evidence = certificate.refined, certificate.bound, certificate.nonfinite_documents
        return found.scores, found.ids, *evidence

    return search_one
