"""range_search(): every document of an array that reaches a minimum score, without an index."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

from ..arrays import Array, as_vectors
from ..progress import Progress
from .exact_search import fold_array
from .foreign_names import explains_names
from .running_range import CertifiedRangeResult, RangeResult, RunningRange
from .search_options import RangeKeywords, SearchOptions


@overload
def range_search(
    queries: Array,
    documents: Array,
    min_score: Any,
    *,
    return_certificate: Literal[False] = False,
    **options: Unpack[RangeKeywords],
) -> RangeResult: ...


@overload
def range_search(
    queries: Array,
    documents: Array,
    min_score: Any,
    *,
    return_certificate: Literal[True],
    **options: Unpack[RangeKeywords],
) -> CertifiedRangeResult: ...


@overload
def range_search(
    queries: Array,
    documents: Array,
    min_score: Any,
    *,
    return_certificate: bool,
    **options: Unpack[RangeKeywords],
) -> RangeResult | CertifiedRangeResult: ...


@explains_names("range_search")
def range_search(
    queries: Array,
    documents: Array,
    min_score: Any,
    *,
    allowed: Array | None = None,
    exclude: Any = None,
    max_score: Any = None,
    nonfinite: str = "error",
    num_threads: int | None = None,
    progress: Progress | None = None,
    return_certificate: bool = False,
) -> RangeResult | CertifiedRangeResult:
    """Every document whose inner product with a query is at least `min_score`, exactly.

    Equals ``queries @ documents.T >= min_score`` on the scores of `search`, without forming the
    score matrix. The answer has the same bits for every instruction set, number of threads, batch
    size, and split of the documents.

    Memory grows with the number of hits, 12 bytes each, and by up to as much while they are
    sorted. Nothing limits the number of hits: a query with a low `min_score` returns every
    document. `search` with a fixed k bounds the answer instead.

    Args:
        queries: ``[n, dim]``, or ``[dim]`` for a single one; dtypes as in `search`.
        documents: ``[m, dim]``; a document's id is its row number.
        min_score: number or ``[n]``; rounded to float32, as scores are, and inclusive (faiss's
            ``range_search`` excludes documents at the threshold). -inf returns every document.
        max_score: number or ``[n]``: only documents that score at most this.
        allowed, exclude, nonfinite, num_threads, progress, return_certificate: as in `search`. The
            certificate counts a document once for each time it was scored.

    Returns:
        `RangeResult` ``(offsets [n + 1] int64, scores [hits] float32, ids [hits] int64)``, or
        `CertifiedRangeResult`, of the same kind of array as the queries. Hits of query i are at
        ``offsets[i]:offsets[i + 1]``, score descending, then id ascending. A single query has
        offsets ``[2]``.

    Raises:
        TypeError: a dtype that cannot be searched, no array, or min_score is None.
        ValueError: shapes that do not fit, non-finite rows, min_score is NaN.

    Example:
        >>> import numpy as np
        >>> documents = np.eye(4, dtype=np.float32)
        >>> offsets, scores, ids = range_search(np.float32([[0.5, 2, 0, 1]]), documents, 0.5)
        >>> ids
        array([1, 3, 0])
        >>> offsets
        array([0, 3])
    """
    vectors = as_vectors(documents, "range_search", "documents")
    options = SearchOptions(
        op="range_search",
        allowed=allowed,
        exclude=exclude,
        min_score=min_score,
        max_score=max_score,
        nonfinite=nonfinite,
        num_threads=num_threads,
        progress=progress,
        return_certificate=return_certificate,
    )
    running = RunningRange(queries, options, total=len(vectors))
    fold_array(running, vectors)
    return running.result()
