"""Embeddings as models return them: on any device, with or without a gradient, finite or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import BFLOAT16, BFLOAT16_BITS, Array, Vectors, is_bfloat16, widened
from ..retrieval.document_fold import finite_rows


def on_host(embeddings: Array) -> Array:
    """Returns embeddings off the GPU and without a gradient; others as they are."""
    return embeddings.detach().cpu() if hasattr(embeddings, "detach") else embeddings


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Converts numbers of any dtype to float32, bfloat16 as `as_array` returns it included."""
    if is_bfloat16(array.dtype):
        return widened(array.view(BFLOAT16))
    return np.ascontiguousarray(array, np.float32)


def narrowed(vectors: Array) -> Array:
    """Converts lists of Python's floats, and float64 without a warning, to float32."""
    if isinstance(vectors, (list, tuple)) or getattr(vectors, "dtype", None) == np.float64:
        return np.asarray(vectors, np.float32)
    return vectors


def marked(vectors: Vectors) -> Vectors:
    """Returns vectors of `as_vectors` as public functions take them: bits of bfloat16 marked."""
    return vectors.view(BFLOAT16_BITS) if vectors.dtype == BFLOAT16 else vectors


def check_finite(vectors: Vectors, op: str, shown: Callable[[int], str]) -> None:
    """Raises for a row with NaN or infinity.

    Args:
        vectors: ``[rows, dim]`` as `as_vectors` returns them.
        op: the public function, for messages.
        shown: names a row, for messages.

    Raises:
        ValueError: names the first such row.
    """
    finite = finite_rows(vectors)
    if not finite.all():
        raise ValueError(f"{op}: {shown(int(np.argmin(finite)))} has a NaN or an infinity")
