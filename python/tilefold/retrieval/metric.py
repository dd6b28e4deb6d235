"""Metrics of an index: inner products, and L2 distances and cosines by searches of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Vectors, as_queries, kind_of, widened

METRICS = ("ip", "l2", "cosine")
# Names of faiss, hnswlib, usearch, scikit-learn, sentence-transformers and vector databases.
_OTHER_NAMES = {
    "ip": "ip",
    "inner_product": "ip",
    "innerproduct": "ip",
    "dot": "ip",
    "dot_score": "ip",
    "dotproduct": "ip",
    "l2": "l2",
    "l2sq": "l2",
    "euclid": "l2",
    "euclidean": "l2",
    "sqeuclidean": "l2",
    "cos": "cosine",
    "cos_sim": "cosine",
    "cosine": "cosine",
}
# Bytes of fp64 vectors that are converted at once.
_CHUNK_BYTES = 8 << 20
_LANES = 16


def checked_metric(metric: str, op: str) -> str:
    """Checks the name of a metric."""
    if metric not in METRICS:
        similar = _OTHER_NAMES.get(str(metric).lower())
        hint = f"; did you mean {similar!r}?" if similar else ""
        raise ValueError(f'{op}: metric must be "ip", "l2" or "cosine", got {metric!r}{hint}')
    return metric


def squared_norms(vectors: Vectors) -> NDArray[np.float64]:
    """Computes ``|x|^2`` of each row, in the order of additions of a canonical score."""
    result = np.empty(len(vectors))
    for rows in _row_chunks(*vectors.shape):
        result[rows] = _sum_of_squares(_as_float64(vectors[rows]))
    return result


def unit_vectors(vectors: Vectors) -> NDArray[np.float32]:
    """Divides rows by their norms, as `reference.unit_vectors` defines it; zeros stay zeros.

    A row with NaN or infinity becomes NaN, so that it is found as such.
    """
    result = np.empty(vectors.shape, np.float32)
    for rows in _row_chunks(*vectors.shape):
        wide = _as_float64(vectors[rows])
        with np.errstate(invalid="ignore"):
            norms = np.sqrt(_sum_of_squares(wide))
            result[rows] = _as_float32(wide / np.where(norms == 0, 1, norms)[:, None])
    return result


def unit_queries(queries: Array, op: str) -> Any:
    """Divides queries ``[n, dim]`` or ``[dim]`` by their norms, as the same kind of array."""
    rows, single = as_queries(queries, op)
    units = unit_vectors(rows)
    return kind_of(queries)(units[0] if single else units)


def squared_distances(
    queries: Vectors, documents: Vectors, pairs: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Computes squared L2 distances, as `reference.squared_distances` defines them.

    Args:
        queries: ``[n, dim]``.
        documents: ``[pairs, dim]``.
        pairs: ``[pairs]`` the query of each document.

    Returns:
        ``[pairs]``.
    """
    result = np.empty(len(pairs), np.float32)
    for rows in _row_chunks(*documents.shape):
        differences = _as_float64(queries[pairs[rows]]) - _as_float64(documents[rows])
        result[rows] = _as_float32(_sum_of_squares(differences))
    return result


def sort_keys(numbers: NDArray[np.float32]) -> NDArray[np.int32]:
    """Returns integers in the order of numbers; both zeros get the same.

    A process may have set its processor to take subnormal numbers for zeros
    (`torch.set_flush_denormal`). Comparisons of integers do not depend on that.
    """
    bits = np.ascontiguousarray(numbers).view(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _flushes_subnormals() -> bool:
    smallest = np.array([1], np.uint32).view(np.float32)
    return not (smallest * np.float32(2)).view(np.uint32)[0]


def _as_float32(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rounds to fp32, to subnormal numbers also where the processor would flush them."""
    with np.errstate(over="ignore"):
        result = numbers.astype(np.float32)
    if _flushes_subnormals():
        small = np.abs(numbers) < 2.0**-126
        bits = np.rint(np.abs(numbers[small]) * 2.0**149).astype(np.uint32)
        bits |= np.signbit(numbers[small]).astype(np.uint32) << 31
        result[small] = bits.view(np.float32)
    return result


def _row_chunks(rows: int, dim: int) -> Iterator[slice]:
    step = max(1, _CHUNK_BYTES // (8 * dim))
    return (slice(begin, min(begin + step, rows)) for begin in range(0, rows, step))


def _as_float64(vectors: Vectors) -> NDArray[np.float64]:
    narrow = np.ascontiguousarray(widened(vectors))
    wide = narrow.astype(np.float64)
    if _flushes_subnormals():
        bits = narrow.view(np.uint32)
        small = (bits & 0x7F800000) == 0
        wide[small] = np.copysign((bits[small] & 0x7FFFFF) * 2.0**-149, narrow[small])
    return wide


def _sum_of_squares(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adds squares with sixteen accumulators; elementwise operations have the same bits anywhere.

    NumPy's own sums and products of matrices add in an order that depends on the machine.
    """
    rows, dim = vectors.shape
    lanes = np.zeros((rows, _LANES))
    for start in range(0, dim, _LANES):
        block = vectors[:, start : start + _LANES]
        lanes[:, : block.shape[1]] += block * block
    for step in (8, 4, 2, 1):
        lanes = lanes[:, :step] + lanes[:, step : 2 * step]
    return lanes[:, 0]
