"""Metrics of an index, all of which become inner products of vectors that are stored for them.

"cosine" stores vectors of length one. "l2" appends minus half the squared length of a vector, so
that the nearest document has the largest inner product with the query and a one; `euclidean.py`
computes the distances themselves.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors, widened

Metric = Literal["ip", "cosine", "l2"]
METRICS: tuple[str, ...] = get_args(Metric)

LANES = 16
# Half a squared length is a sum of three float32, which hold 72 bits of it.
EXTRA_COLUMNS = 3
# Rows that are converted at once.
_CHUNK = 1 << 14
_LARGEST = float(np.finfo(np.float32).max)


def checked_metric(metric: Any, op: str) -> Metric:
    """Checks and returns the name of a metric."""
    if metric not in METRICS:
        raise ValueError(f"{op}: metric must be one of {', '.join(METRICS)}, got {metric!r}")
    checked: Metric = metric
    return checked


def stored_dim(dim: int, metric: Metric) -> int:
    """Returns the dim of the vectors that an index stores for vectors of another dim."""
    return dim + EXTRA_COLUMNS if metric == "l2" else dim


def stored_vectors(vectors: Vectors, metric: Metric, op: str) -> Vectors:
    """Converts documents ``[rows, dim]`` to the vectors that are searched by inner product.

    Rows with NaN or infinity keep one, so that they are found and handled as usual.

    Raises:
        ValueError: with "l2", a vector whose squared length exceeds float32.
    """
    if metric == "ip":
        return vectors
    convert = normalized if metric == "cosine" else _augmented
    parts = [
        convert(widened(vectors[begin : begin + _CHUNK]))
        for begin in range(0, len(vectors), _CHUNK)
    ]
    stored = np.concatenate(
        [np.empty((0, stored_dim(vectors.shape[1], metric)), np.float32), *parts]
    )
    if metric == "l2":
        _check_lengths(vectors, stored, op)
    return stored


def searched_queries(queries: Vectors, metric: Metric) -> Vectors:
    """Converts queries ``[n, dim]`` to the vectors that stored ones are multiplied by."""
    if metric == "ip":
        return queries
    if metric == "cosine":
        return normalized(widened(queries))
    ones = np.ones((len(queries), EXTRA_COLUMNS), np.float32)
    return np.concatenate([widened(queries), ones], axis=1)


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales vectors ``[rows, dim]`` to length one; zeros stay zeros.

    Lengths and quotients are fp64, and each element is rounded once to fp32: the same bits on every
    processor, which `np.linalg.norm` does not promise.
    """
    lengths = np.sqrt(squared_lengths(vectors))
    lengths[lengths == 0] = 1
    with np.errstate(invalid="ignore"):  # NaN and infinity stay such
        scaled: NDArray[np.float32] = (vectors / lengths[:, None]).astype(np.float32)
    return scaled


def squared_lengths(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the squared lengths of vectors ``[rows, dim]`` in fp64, in the order of scores.

    Sixteen sums of every sixteenth dimension, which are then added in pairs. Python adds them up
    because the order of a sum of NumPy depends on the processor.
    """
    rows, dim = vectors.shape
    lanes = np.zeros((rows, LANES))
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, dim, LANES):
            block = vectors[:, start : start + LANES].astype(np.float64)
            lanes[:, : block.shape[1]] += block * block
        for step in (8, 4, 2, 1):
            lanes = lanes[:, :step] + lanes[:, step : 2 * step]
    return lanes[:, 0]


def _augmented(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Appends three columns whose sum is minus half the squared length."""
    rest = -squared_lengths(vectors) / 2
    columns = []
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(EXTRA_COLUMNS):
            columns.append(rest.astype(np.float32))
            rest = rest - columns[-1]
    return np.concatenate([vectors, np.stack(columns, axis=1)], axis=1)


def _check_lengths(vectors: Vectors, stored: NDArray[np.float32], op: str) -> None:
    finite = np.isfinite(stored[:, : vectors.shape[1]]).all(1)
    long = finite & ~np.isfinite(stored[:, vectors.shape[1] :]).all(1)
    if long.any():
        raise ValueError(
            f'{op}: row {int(np.argmax(long))} of vectors is too long for metric="l2": half of its '
            f"squared length must be at most {_LARGEST:.3g}; scale the vectors"
        )
