"""Recall of an approximate index: the share of the exact answers that it finds."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import Array


def graph_recall(index: Any, exact_index: Any, queries: Array, k: int) -> float:
    """Computes the mean recall at k; see `HnswIndex.recall`."""
    exact = [np.atleast_2d(np.asarray(part)) for part in exact_index.search(queries, k)]
    found = [np.atleast_2d(np.asarray(part)) for part in index.search(queries, k)]
    recalls = []
    for exact_scores, exact_ids, scores, ids in zip(*exact, *found, strict=True):
        n = np.count_nonzero(exact_ids >= 0)
        if n:
            # Documents that tie with the k-th answer are as good as those that won by their id.
            hit = np.isin(ids, exact_ids[:n]) | (scores == exact_scores[n - 1])
            recalls.append(min(1.0, np.count_nonzero(hit & (ids >= 0)) / n))
    return float(np.mean(recalls)) if recalls else 1.0
