"""Computes measures with the arithmetic of trec_eval, over all queries at once.

A formula takes a judged ranking, the number of ranks that count and the lowest gain of a relevant
document, and gives a value for every query.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .gains import FloatArray, Judged

ALL_RANKS = sys.maxsize  # the depth of a measure without a cutoff


def _ndcg(judged: Judged, depth: int, rel: int) -> FloatArray:
    gains = np.maximum(judged.gains[:, :depth], 0)
    found = gains @ (1 / np.log2(np.arange(gains.shape[1]) + 2))
    best = np.where(judged.ranks < depth, np.maximum(judged.ideal, 0), 0)
    weights = best / np.log2(judged.ranks + 2)
    return _share(found, _sum_by_query(judged, weights))


def _reciprocal_rank(judged: Judged, depth: int, rel: int) -> FloatArray:
    hits = judged.gains[:, :depth] >= rel
    if not hits.shape[1]:
        return np.zeros(len(hits))
    first = hits.argmax(1)
    return np.where(hits[np.arange(len(hits)), first], 1 / (first + 1), 0)


def _recall(judged: Judged, depth: int, rel: int) -> FloatArray:
    return _share(_hits(judged, depth, rel), _n_relevant(judged, rel))


def _precision(judged: Judged, depth: int, rel: int) -> FloatArray:
    return _hits(judged, depth, rel) / depth


def _average_precision(judged: Judged, depth: int, rel: int) -> FloatArray:
    hits = judged.gains[:, :depth] >= rel
    precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
    return _share((precision * hits).sum(1), _n_relevant(judged, rel))


def _r_precision(judged: Judged, depth: int, rel: int) -> FloatArray:
    n_relevant = _n_relevant(judged, rel)
    hits = judged.gains[:, :depth] >= rel
    within = np.arange(hits.shape[1]) < n_relevant[:, None]
    return _share((hits & within).sum(1, dtype=np.float64), n_relevant)


def _success(judged: Judged, depth: int, rel: int) -> FloatArray:
    return (_hits(judged, depth, rel) > 0).astype(np.float64)


def _judged_share(judged: Judged, depth: int, rel: int) -> FloatArray:
    known = judged.known[:, :depth].sum(1, dtype=np.float64)
    return _share(known, judged.retrieved[:, :depth].sum(1, dtype=np.float64))


FORMULAS: dict[str, Callable[[Judged, int, int], FloatArray]] = {
    "nDCG": _ndcg,
    "RR": _reciprocal_rank,
    "R": _recall,
    "P": _precision,
    "AP": _average_precision,
    "Rprec": _r_precision,
    "Success": _success,
    "Judged": _judged_share,
}


def _hits(judged: Judged, depth: int, rel: int) -> FloatArray:
    hits: FloatArray = (judged.gains[:, :depth] >= rel).sum(1, dtype=np.float64)
    return hits


def _n_relevant(judged: Judged, rel: int) -> FloatArray:
    return _sum_by_query(judged, judged.ideal >= rel)


def _sum_by_query(judged: Judged, weights: NDArray[Any]) -> FloatArray:
    sums = np.zeros(len(judged.counts))
    np.add.at(sums, judged.rows, weights)
    return sums


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Computes part / whole, and 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
