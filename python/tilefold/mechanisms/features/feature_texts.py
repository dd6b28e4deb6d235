"""Finds the texts in which a feature is strongest, and measures how selective features are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...integers import as_integer
from ...retrieval.sparse_index import SparseIndex
from ..neurons.top_texts import TopText


def top_feature_texts(
    codes: Any, features: Sequence[int], *, top: int = 3
) -> dict[int, list[TopText]]:
    """Finds the texts with the largest codes of features.

    Args:
        codes: ``[texts, n_features]`` of scipy.sparse, such as of `TopKAutoencoder.encode`.
        features: their numbers.
        top: texts for each, at most.

    Returns:
        For each feature the rows of texts with their codes, largest first, ties by row.

    Raises:
        TypeError: codes that are no matrix of scipy.sparse.
        ValueError: there is no such feature; top below 1.

    Example:
        >>> from scipy.sparse import csr_array
        >>> top_feature_texts(csr_array([[0.0, 2.0], [1.0, 3.0]]), [1], top=1)
        {1: [TopText(text=1, activation=3.0)]}
    """
    top = as_integer(top, "top_feature_texts", "top", at_least=1)
    index = SparseIndex(codes)
    found = {}
    for feature in features:
        values, rows = index.postings(feature, top)
        pairs = zip(rows.tolist(), values.tolist(), strict=True)
        found[int(feature)] = [TopText(row, value) for row, value in pairs if row >= 0]
    return found


def selectivity(codes: Any) -> NDArray[np.float64]:
    """Computes how selective each feature is: its lifetime sparseness over texts.

    It is ``(1 - mean(a)^2 / mean(a^2)) / (1 - 1 / texts)``: 0 for a feature with the same code in
    all texts, 1 for one that a single text has.

    Args:
        codes: ``[texts, n_features]`` of scipy.sparse, of two or more texts.

    Returns:
        float64 ``[n_features]``; NaN where no text has a feature.

    Raises:
        ValueError: fewer than two texts.

    Source: Vinje and Gallant, "Sparse Coding and Decorrelation in Primary Visual Cortex During
    Natural Vision", Science 287 (2000).

    Example:
        >>> from scipy.sparse import csr_array
        >>> selectivity(csr_array([[1.0, 0.0], [1.0, 5.0]])).tolist()
        [0.0, 1.0]
    """
    n = codes.shape[0]
    if n < 2:
        raise ValueError(f"selectivity: codes must be of 2 texts or more, got {n}")
    exact = codes.astype(np.float64)
    mean = np.asarray(exact.sum(axis=0)).reshape(-1) / n
    squares = np.asarray(exact.multiply(exact).sum(axis=0)).reshape(-1) / n
    ratio = np.full(len(mean), np.nan)
    np.divide(np.square(mean), squares, out=ratio, where=squares > 0)
    return np.asarray((1 - ratio) / (1 - 1 / n))
