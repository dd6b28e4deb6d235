"""search(): exact inner-product search over an array, without an index."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

import numpy as np

from ..arrays import Array, Vectors, as_vectors, check_dim
from ..placement import Placement, placement_of
from ..progress import Progress
from .device_search import DeviceSearch
from .document_fold import DocumentFold, nonfinite_error
from .foreign_names import explains_names
from .l2_search import l2_search_of_array
from .metric import checked_metric, unit_queries, unit_vectors
from .running_search import CertifiedResult, RunningSearch, SearchResult
from .search_options import SearchKeywords, SearchOptions


@overload
def search(
    queries: Array,
    documents: Array,
    k: int,
    *,
    metric: str = "ip",
    return_certificate: Literal[False] = False,
    **options: Unpack[SearchKeywords],
) -> SearchResult: ...


@overload
def search(
    queries: Array,
    documents: Array,
    k: int,
    *,
    metric: str = "ip",
    return_certificate: Literal[True],
    **options: Unpack[SearchKeywords],
) -> CertifiedResult: ...


@overload
def search(
    queries: Array,
    documents: Array,
    k: int,
    *,
    metric: str = "ip",
    return_certificate: bool,
    **options: Unpack[SearchKeywords],
) -> SearchResult | CertifiedResult: ...


@explains_names("search")
def search(
    queries: Array,
    documents: Array,
    k: int,
    *,
    allowed: Array | None = None,
    exclude: Any = None,
    min_score: Any = None,
    max_score: Any = None,
    nonfinite: str = "error",
    num_threads: int | None = None,
    progress: Progress | None = None,
    return_certificate: bool = False,
    metric: str = "ip",
) -> SearchResult | CertifiedResult:
    """The k documents with the largest inner products for every query, exactly.

    Equals ``torch.topk(queries @ documents.T, k)`` computed in fp64 and rounded to fp32, without
    forming the score matrix. The answer depends on the inputs alone: the same bits for every
    instruction set, number of threads, batch size, and split of the documents. Ties are ordered
    by id.

    Use `FlatIndex` to search the same documents more than once.

    With queries on a GPU, the search runs there, with the same bits, and answers are tensors there;
    documents are on the same GPU, or are sent to it part by part. k is at most 4,096 and metric
    "l2" is on the CPU alone.

    Args:
        queries: ``[n, dim]``, or ``[dim]`` for a single one. float32, float16, bfloat16, or int8
            when the documents are int8 too; float64 is rounded to float32 with a warning. NumPy,
            torch (CPU, or a GPU in a build with CUDA), anything with ``__dlpack__``, or a column
            of vectors (datasets, pandas, polars, pyarrow, h5py).
        documents: ``[m, dim]``; a document's id is its row number. Memory maps are read as they
            are.
        k: answers per query, at least 1.
        allowed: documents that may be retrieved: an integer array of ids, or a boolean mask
            indexed by id. All by default.
        exclude: documents that one query may not retrieve, such as its known positives: a list of
            n lists of ids, an integer array ``[n, ids]`` padded with -1, or a CSR pair
            ``(offsets [n + 1], ids)`` of integer arrays.
        min_score: number or ``[n]``: only documents that score at least this.
        max_score: number or ``[n]``: only documents that score at most this.
        nonfinite: "error" raises for a row with NaN or infinity; "exclude" never retrieves such a
            document and answers such a query with padding.
        num_threads: threads of this call; by default `get_num_threads()`.
        progress: called as ``progress(documents_done, documents)`` a few times a second.
        return_certificate: also return what the exactness rests on.
        metric: "ip", or "cosine" or "l2" (*squared* distances, smallest first), which `FlatIndex`
            defines. Both convert the documents first, which takes the memory of float32 ones.

    Returns:
        `SearchResult` ``(scores [n, k] float32, ids [n, k] int64)``, or `CertifiedResult`, of the
        same kind of array as the queries; ``[k]`` for a single query. Best first; where fewer than
        k documents remain, score -inf and id -1.

    Raises:
        TypeError: a dtype that cannot be searched, or no array.
        ValueError: shapes that do not fit, k < 1, non-finite rows, arrays on two devices or on one
            without kernels.

    Example:
        >>> import numpy as np
        >>> documents = np.eye(4, dtype=np.float32)
        >>> scores, ids = search(np.float32([0.5, 2, 0, 1]), documents, k=3)
        >>> ids
        array([1, 3, 0])
        >>> scores
        array([2. , 1. , 0.5], dtype=float32)
    """
    checked_metric(metric, "search")
    options = SearchOptions(
        op="search",
        allowed=allowed,
        exclude=exclude,
        min_score=min_score,
        max_score=max_score,
        nonfinite=nonfinite,
        num_threads=num_threads,
        progress=progress,
        return_certificate=return_certificate,
    )
    placement = placement_of(queries)
    if placement is not None:
        return _search_on_device(queries, documents, k, options, metric, placement)
    if metric != "l2":
        _check_on_host(documents, options.op)
    vectors = as_vectors(documents, "search", "documents")
    return search_on_host(queries, vectors, k, options, metric)


def search_on_host(
    queries: Array, documents: Vectors, k: int, options: SearchOptions, metric: str
) -> SearchResult | CertifiedResult:
    """Searches vectors as `as_vectors` returns them, under the name that options have."""
    if metric == "l2":
        return l2_search_of_array(queries, documents, options).nearest(k)
    if metric == "cosine":
        queries, documents = unit_queries(queries, options.op), unit_vectors(documents)
    running = RunningSearch(queries, k, options, total=len(documents))
    fold_array(running, documents)
    return running.result()


def _search_on_device(
    queries: Array,
    documents: Array,
    k: int,
    options: SearchOptions,
    metric: str,
    placement: Placement,
) -> SearchResult | CertifiedResult:
    """Searches where the queries are; unit vectors are made on the host."""
    if metric == "l2":
        raise ValueError(
            f'{options.op}: metric "l2" is on the CPU alone, got queries on {placement.device}; '
            'move them with .cpu(), or search unit vectors with "cosine", which has the same order'
        )
    cosine = metric == "cosine"
    if placement_of(documents) is None:
        vectors = as_vectors(documents, options.op, "documents")
    else:
        placed = placement.vectors(documents, options.op, "documents")
        if not cosine:
            running = DeviceSearch(queries, k, options, placement, total=len(placed))
            running.fold_placed(placed)
            return running.result()
        vectors = placement.fetch(placed)
    running = DeviceSearch(queries, k, options, placement, total=len(vectors), unit=cosine)
    fold_array(running, unit_vectors(vectors) if cosine else vectors)
    return running.result()


def _check_on_host(documents: Array, op: str) -> None:
    placement = placement_of(documents)
    if placement is not None:
        raise ValueError(
            f"{op}: documents are on {placement.device} and queries are on the host; move the "
            f'queries with .to("{placement.device}")'
        )


def fold_array(
    running: DocumentFold,
    documents: Vectors,
    *,
    ids: Any = None,
    first_id: int = 0,
    first_row: int = 0,
    name: str = "documents",
) -> None:
    """Packs documents and folds them into a running search, chunk by chunk.

    Args:
        running: the search.
        documents: ``[rows, dim]`` as `as_vectors` returns them.
        ids: ``[rows]``; by default first_id, first_id + 1, ...
        first_id: see `ids`.
        first_row: row number of the first document, for messages.
        name: name of the array that has these rows, for messages.

    Raises:
        ValueError: another dim than that of the queries, or a non-finite row that the search's
            policy does not accept.
    """
    dim = documents.shape[1]
    check_dim(running.op, "queries", running.queries.shape[1], "documents have", dim)
    chunk = running.rows_at_once(documents)
    for begin in range(0, len(documents), chunk):
        part = documents[begin : begin + chunk]
        packed, finite = running.prepare(part)
        bad = len(part) - int(finite.sum())
        if bad and running.nonfinite == "error":
            raise nonfinite_error(running.op, name, first_row + begin + int(np.argmin(finite)))
        running.nonfinite_documents += bad
        running.fold(
            part,
            packed=packed,
            ids=None if ids is None else ids[begin : begin + chunk],
            first_id=first_id + begin,
            live=finite if bad else None,
        )
