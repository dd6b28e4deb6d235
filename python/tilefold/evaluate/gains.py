"""Matches rankings with judgments: the gain of each ranked document.

All gains are looked up at once in one sorted table of (query, document) keys; no loop runs over
queries.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

IdArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Judged(NamedTuple):
    """Gains of ranked documents, and of all judged ones."""

    gains: FloatArray  # [n, k] of the ranked documents, 0 where not judged
    known: NDArray[np.bool_]  # [n, k] whether the ranked document is judged
    retrieved: NDArray[np.bool_]  # [n, k] whether there is a document at this rank
    rows: IdArray  # [judgments] the query of each judgment
    ideal: FloatArray  # [judgments] gains, best first within a query
    ranks: IdArray  # [judgments] 0-based position in the ideal ranking
    counts: IdArray  # [n] judgments per query

    def exponential(self) -> Judged:
        """Replaces each gain by 2^gain − 1."""
        return self._replace(gains=_exponential(self.gains), ideal=_exponential(self.ideal))


def judge(ids: Any, qrels: tuple[Any, Any, Any]) -> Judged:
    """Looks up the gain of every ranked document.

    Args:
        ids: [n, k] integers, -1 where there is no result.
        qrels: (offsets [n+1], document ids, gains).
    """
    ranking = _ranking(ids)
    offsets, documents, gains = _checked(qrels, len(ranking))
    counts = np.diff(offsets)
    rows = np.repeat(np.arange(len(counts)), counts)
    best_first = np.lexsort((-gains, rows))
    found, known = _look_up(ranking, rows, documents, gains)
    return Judged(
        gains=found,
        known=known,
        retrieved=ranking >= 0,
        rows=rows,
        ideal=gains[best_first],
        ranks=np.arange(len(rows)) - offsets[rows],
        counts=counts,
    )


def _exponential(gains: FloatArray) -> FloatArray:
    raised: FloatArray = np.exp2(gains) - 1
    return raised


def _ranking(ids: Any) -> IdArray:
    ranking = np.asarray(ids)
    if ranking.ndim != 2 or ranking.dtype.kind not in "iu":
        raise ValueError(
            f"evaluate: ids must be [n, k] integers, got {ranking.dtype} of shape {ranking.shape}"
        )
    ranking = ranking.astype(np.int64, copy=False)
    ordered = np.sort(ranking, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(1)
    if twice.any():
        raise ValueError(f"evaluate: row {twice.argmax()} of ids names a document twice")
    return ranking


def _checked(qrels: tuple[Any, Any, Any], n: int) -> tuple[IdArray, IdArray, FloatArray]:
    offsets, ids, gains = (np.asarray(part) for part in qrels)
    if offsets.shape != (n + 1,):
        raise ValueError(
            f"evaluate: qrels has {max(len(offsets) - 1, 0)} queries but ids has {n} rows"
        )
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(ids):
        raise ValueError(f"evaluate: offsets of qrels must rise from 0 to {len(ids)}")
    if len(gains) != len(ids):
        raise ValueError(f"evaluate: qrels has {len(ids)} documents but {len(gains)} gains")
    return offsets.astype(np.int64), ids.astype(np.int64), gains.astype(np.float64)


def _look_up(
    ranking: IdArray, rows: IdArray, ids: IdArray, gains: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Looks up gains, and whether they are judged, [n, k], by row * n_documents + document."""
    if not len(ids):
        return np.zeros(ranking.shape), np.zeros(ranking.shape, np.bool_)
    documents, position = np.unique(ids, return_inverse=True)  # so that keys cannot overflow
    keys = rows * len(documents) + position
    order = np.argsort(keys, kind="stable")
    keys, gains = keys[order], gains[order]
    if (keys[1:] == keys[:-1]).any():
        row = rows[order][1:][keys[1:] == keys[:-1]][0]
        raise ValueError(f"evaluate: qrels judges a document twice for query {row}")
    place = np.minimum(np.searchsorted(documents, ranking), len(documents) - 1)
    wanted = np.arange(len(ranking))[:, None] * len(documents) + place
    entry = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    known = (documents[place] == ranking) & (keys[entry] == wanted) & (ranking >= 0)
    return np.where(known, gains[entry], 0.0), known
