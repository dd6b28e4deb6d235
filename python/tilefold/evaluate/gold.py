"""Ranks gold passages among all passages pooled, as DPR validates during training.

Ranks count from 0, and passages that tie with the gold one count as ranked above it, so that equal
scores for all are the worst result and not the best.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Vectors, as_ids, as_vectors, check_dim, widened
from ..ragged_lists import Lists

FloatArray = NDArray[np.float64]

_QUERIES = 512  # a block of scores, fp64 and then fp32: 24 MiB
_DOCUMENTS = 4096


def average_rank(scores: Any, gold: Any) -> float:
    """Computes DPR's validation measure: the mean of `gold_ranks`; NaN without queries.

    Source: Karpukhin et al., EMNLP 2020, and the code published with it.

    >>> average_rank([[0.9, 0.1, 0.3], [0.2, 0.2, 0.1]], [2, 0])
    1.0
    """
    ranks = gold_ranks(scores, gold)
    return float(ranks.mean()) if len(ranks) else float("nan")


def average_rank_of(
    queries: Array, documents: Array, gold: Any, *, exclude: Lists | None = None
) -> float:
    """Computes the mean of `gold_ranks_of` from embeddings."""
    ranks = gold_ranks_of(queries, documents, gold, exclude=exclude)
    return float(ranks.mean()) if len(ranks) else float("nan")


def gold_ranks(scores: Any, gold: Any) -> FloatArray:
    """Counts the other passages that score at least as high as each query's gold one.

    Args:
        scores: [n, m] numbers.
        gold: [n] column of the gold passage.

    Returns:
        float64 [n], from 0 to m - 1.

    Raises:
        ValueError: shapes that do not fit, a gold passage that is none, NaN.

    >>> gold_ranks([[0.9, 0.1, 0.3], [0.2, 0.2, 0.1]], [2, 0])
    array([1., 1.])
    """
    table = np.asarray(scores)
    if table.ndim != 2 or table.dtype.kind not in "fiu":
        raise ValueError(
            f"gold_ranks: scores must be [n, m] numbers, got {table.dtype} of shape {table.shape}"
        )
    if table.dtype.kind == "f" and np.isnan(table).any():
        raise ValueError(f"gold_ranks: scores of query {np.isnan(table).any(1).argmax()} have NaN")
    columns = _columns(gold, len(table), table.shape[1], "gold_ranks")
    own = np.take_along_axis(table, columns[:, None], 1)
    ranks: FloatArray = (table >= own).sum(1) - 1.0
    return ranks


def gold_ranks_of(
    queries: Array, documents: Array, gold: Any, *, exclude: Lists | None = None
) -> FloatArray:
    """Equals `gold_ranks(queries @ documents.T, gold)` without keeping that matrix.

    Scores are computed in fp64 and rounded to fp32, as those of `tilefold.search`, so that equal
    passages tie.

    Args:
        queries: [n, dim], float32, float16, bfloat16 or int8; NumPy or torch on the CPU.
        documents: [m, dim], the same.
        gold: [n] row of the gold passage.
        exclude: rows of documents that do not count for a query, such as the query itself.

    Returns:
        float64 [n], from 0 to m - 1.

    Raises:
        TypeError: a dtype that is no vector's.
        ValueError: shapes that do not fit, a gold passage that is none, NaN or infinity.

    >>> import numpy as np
    >>> gold_ranks_of(np.float32([[1, 0]]), np.float32([[2, 0], [1, 1], [3, 0]]), [1])
    array([2.])
    """
    left, right = (
        _finite(as_vectors(array, "gold_ranks_of", name), name)
        for array, name in ((queries, "queries"), (documents, "documents"))
    )
    check_dim("gold_ranks_of", "queries", left.shape[1], "documents have", right.shape[1])
    columns = _columns(gold, len(left), len(right), "gold_ranks_of")
    skipped = Lists.pack([()] * len(left)) if exclude is None else exclude
    if len(skipped.offsets) != len(left) + 1:
        raise ValueError(
            f"gold_ranks_of: exclude must have {len(left) + 1} offsets for {len(left)} queries, "
            f"got {len(skipped.offsets)}"
        )
    ranks = np.zeros(len(left))
    for rows in _blocks(len(left), _QUERIES):
        pairs = _pairs_of(skipped, rows)
        ranks[rows] = _ranks_of_block(_double(left[rows]), right, columns[rows], *pairs)
    return ranks


def _pairs_of(lists: Lists, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the places of queries in a block, and the documents that are listed for them."""
    offsets = lists.offsets[rows.start : rows.stop + 1]
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return owners, lists.indices[offsets[0] : offsets[-1]]


def _ranks_of_block(
    queries: FloatArray,
    documents: Vectors,
    gold: NDArray[np.int64],
    skipped_by: NDArray[np.int64],
    skipped: NDArray[np.int64],
) -> FloatArray:
    own = np.einsum("nd,nd->n", queries, _double(documents[gold])).astype(np.float32)
    above = np.zeros(len(queries))
    for columns in _blocks(len(documents), _DOCUMENTS):
        scores = (queries @ _double(documents[columns]).T).astype(np.float32)
        at_least = scores >= own[:, None]
        here = (gold >= columns.start) & (gold < columns.stop)
        at_least[here, gold[here] - columns.start] = False
        inside = (skipped >= columns.start) & (skipped < columns.stop)
        at_least[skipped_by[inside], skipped[inside] - columns.start] = False
        above += at_least.sum(1)
    return above


def _double(vectors: Vectors) -> FloatArray:
    return widened(vectors).astype(np.float64)


def _blocks(n: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _columns(gold: Any, n: int, m: int, op: str) -> NDArray[np.int64]:
    columns = as_ids(np.asarray(gold if np.size(gold) else np.empty(0, np.int64)), op, "gold")
    if len(columns) != n:
        raise ValueError(f"{op}: gold must have one passage per query, {n}; got {len(columns)}")
    if n and columns.max() >= m:
        raise ValueError(
            f"{op}: gold must be below {m}, the number of passages; got {columns.max()}"
        )
    return columns


def _finite(vectors: Vectors, name: str) -> Vectors:
    for rows in _blocks(len(vectors), _DOCUMENTS):
        good = np.isfinite(widened(vectors[rows])).all(1)
        if not good.all():
            raise ValueError(
                f"gold_ranks_of: row {rows.start + good.argmin()} of {name} has NaN or infinity"
            )
    return vectors
