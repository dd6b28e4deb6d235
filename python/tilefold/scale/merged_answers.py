"""MergedAnswers: the k best documents of several searches over parts of one corpus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class MergedAnswers:
    """The best answers of the parts so far: score descending, then id ascending.

    Ids are unique, so that the order is total, and the order of the parts does not matter.

    Args:
        n: number of queries.
        k: answers per query.

    Attributes:
        scores: ``[n, k]`` float32, -inf for padding.
        ids: ``[n, k]`` int64, -1 for padding.
        refined, bound, nonfinite_documents: of the `Certificate` over all parts.

    Example:
        >>> merged = MergedAnswers(1, 2)
        >>> merged.add(np.float32([[3, 1]]), np.array([[7, 8]]))
        >>> merged.add(np.float32([[3, -np.inf]]), np.array([[2, -1]]))
        >>> merged.ids.tolist()
        [[2, 7]]
    """

    def __init__(self, n: int, k: int) -> None:
        self.scores: NDArray[np.float32] = np.full((n, k), -np.inf, np.float32)
        self.ids: NDArray[np.int64] = np.full((n, k), -1, np.int64)
        self.refined = np.zeros(n, np.int64)
        self.bound = np.full(n, -np.inf, np.float32)
        self.nonfinite_documents = 0

    def add(
        self,
        scores: NDArray[np.float32],
        ids: NDArray[np.int64],
        refined: NDArray[np.int64] | int = 0,
        bound: NDArray[np.float32] | float = -np.inf,
        nonfinite_documents: int = 0,
    ) -> None:
        """Adds the answers of one part.

        The bound of a document that a part did not score is below the k-th best score of that part,
        which is at most the k-th best of all, so the certificate holds for all as well.

        Args:
            scores: ``[n, k]`` of the part.
            ids: ``[n, k]`` of the part.
            refined, bound, nonfinite_documents: of its certificate, where there is one.
        """
        k = self.scores.shape[1]
        both = np.concatenate([self.scores, scores], 1)
        names = np.concatenate([self.ids, ids], 1)
        last = np.where(names < 0, np.iinfo(np.int64).max, names)  # padding comes after documents
        order = np.lexsort((last, -both))[:, :k]
        self.scores = np.take_along_axis(both, order, 1)
        self.ids = np.take_along_axis(names, order, 1)
        self.refined = self.refined + refined
        self.bound = np.maximum(self.bound, np.float32(bound))
        self.nonfinite_documents += nonfinite_documents
