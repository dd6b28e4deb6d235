"""Retrieval metrics on arrays: the names of ir_measures, the arithmetic of trec_eval.

A ranking is an array of ids, best first, so nothing depends on how a tool breaks ties. All gains
are looked up at once in one sorted table of (query, document) keys; no loop runs over queries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

IdArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_ALIASES = {
    "ndcg": "nDCG",
    "ndcg_cut": "nDCG",
    "rr": "RR",
    "mrr": "RR",
    "recip_rank": "RR",
    "r": "R",
    "recall": "R",
    "p": "P",
    "precision": "P",
    "ap": "AP",
    "map": "AP",
    "map_cut": "AP",
    "success": "Success",
}
_SPELLING = re.compile(r"([a-z_]+?)(?:\(rel=(\d+)\))?(?:[@_](\d+))?", re.IGNORECASE)
_NEED_CUTOFF = {"R", "P", "Success"}


@dataclass(frozen=True)
class Measure:
    """One metric, `str()` of which is its canonical name: nDCG@10, P(rel=2)@5, AP.

    Args:
        name: nDCG, RR, R, P, AP or Success.
        cutoff: ranks that count; None for all.
        rel: the lowest gain of a relevant document; nDCG weighs gains and has none.
    """

    name: str
    cutoff: int | None = None
    rel: int = 1

    def __post_init__(self) -> None:
        if self.name not in _FORMULAS:
            raise ValueError(f"Measure: unknown name {self.name!r}; use one of {list(_FORMULAS)}")
        if self.cutoff is None and self.name in _NEED_CUTOFF:
            raise ValueError(f"Measure: {self.name} needs a cutoff, as in {self.name}@10")
        if self.cutoff is not None and self.cutoff < 1:
            raise ValueError(f"Measure: the cutoff of {self} must be at least 1")
        if self.rel < 1 or (self.rel > 1 and self.name == "nDCG"):
            raise ValueError(f"Measure: {self.name} does not take rel={self.rel}")

    @classmethod
    def parse(cls, text: str) -> Measure:
        """Reads the spellings of ir_measures and trec_eval, in any case.

        >>> [str(Measure.parse(text)) for text in ("mrr@10", "ndcg_cut_10", "recall_100", "map")]
        ['RR@10', 'nDCG@10', 'R@100', 'AP']
        """
        match = _SPELLING.fullmatch(text.strip())
        name = _ALIASES.get(match[1].lower()) if match else None
        if match is None or name is None:
            raise ValueError(
                f"Measure.parse: cannot read {text!r}; write nDCG@10, RR@10, R@100, P@5, AP, "
                f"Success@20 or P(rel=2)@5"
            )
        return cls(name, int(match[3]) if match[3] else None, int(match[2] or 1))

    def __str__(self) -> str:
        rel = f"(rel={self.rel})" if self.rel != 1 else ""
        return f"{self.name}{rel}" + (f"@{self.cutoff}" if self.cutoff is not None else "")


def evaluate(
    ids: Any, qrels: tuple[Any, Any, Any], measures: Iterable[str | Measure]
) -> dict[str, FloatArray]:
    """Every measure for every query: what `ir_measures.iter_calc` gives for this ranking.

    Gains are linear in nDCG and the ideal ranking is that of all judged documents. As in trec_eval
    a query that has judgments but no relevant document scores 0, and judged documents that the
    corpus lacks (with ids that no search returns) still count in recall, AP and the ideal ranking.
    A query without judgments is NaN; `mean` and `bootstrap` leave it out.

    Args:
        ids: [n, k] integers, best first, -1 where there is no result.
        qrels: (offsets [n+1], document ids, gains): query i judged `ids[offsets[i]:offsets[i+1]]`.
            Gains below 1 mean not relevant.
        measures: names such as "nDCG@10", or `Measure`s. Without a cutoff all k ranks count.

    Returns:
        Canonical name -> float64 [n].

    Raises:
        ValueError: an unknown measure, a cutoff beyond k, a document ranked or judged twice.

    Source: the measures of trec_eval (NIST); nDCG after Jarvelin and Kekalainen, TOIS 2002.

    >>> evaluate([[7, 3, -1]], ([0, 2], [3, 5], [1, 1]), ["RR", "recall@3"])
    {'RR': array([0.5]), 'R@3': array([0.5])}
    """
    listed = [measures] if isinstance(measures, str) else measures
    wanted = [Measure.parse(item) if isinstance(item, str) else item for item in listed]
    ranking = _ranking(ids)
    for measure in wanted:
        if measure.cutoff is not None and measure.cutoff > ranking.shape[1]:
            raise ValueError(
                f"evaluate: {measure} needs {measure.cutoff} ids per query but ids has "
                f"{ranking.shape[1]}; search with k={measure.cutoff}, or pad with -1"
            )
    judged = _judge(ranking, *_checked(qrels, len(ranking)))
    return {str(measure): _values(judged, measure) for measure in wanted}


# ---- formulas ------------------------------------------------------------------------------------


class _Judged(NamedTuple):
    """A ranking with its judgments."""

    gains: FloatArray  # [n, k] of the ranked documents, 0 where not judged
    rows: IdArray  # [judgments] the query of each judgment
    ideal: FloatArray  # [judgments] gains, best first within a query
    ranks: IdArray  # [judgments] 0-based position in the ideal ranking
    counts: IdArray  # [n] judgments per query


def _values(judged: _Judged, measure: Measure) -> FloatArray:
    depth = judged.gains.shape[1] if measure.cutoff is None else measure.cutoff
    values = _FORMULAS[measure.name](judged, depth, measure.rel)
    return np.where(judged.counts > 0, values, np.nan)


def _ndcg(judged: _Judged, depth: int, rel: int) -> FloatArray:
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    found = np.maximum(judged.gains[:, :depth], 0) @ discounts
    best = np.where(judged.ranks < depth, np.maximum(judged.ideal, 0), 0)
    weights = best / np.log2(judged.ranks + 2)
    return _share(found, _sum_by_query(judged, weights))


def _reciprocal_rank(judged: _Judged, depth: int, rel: int) -> FloatArray:
    hits = judged.gains[:, :depth] >= rel
    if not depth:
        return np.zeros(len(hits))
    first = hits.argmax(1)
    return np.where(hits[np.arange(len(hits)), first], 1 / (first + 1), 0)


def _recall(judged: _Judged, depth: int, rel: int) -> FloatArray:
    return _share(_hits(judged, depth, rel), _n_relevant(judged, rel))


def _precision(judged: _Judged, depth: int, rel: int) -> FloatArray:
    return _hits(judged, depth, rel) / depth


def _average_precision(judged: _Judged, depth: int, rel: int) -> FloatArray:
    hits = judged.gains[:, :depth] >= rel
    precision = np.cumsum(hits, 1) / np.arange(1, hits.shape[1] + 1)
    return _share((precision * hits).sum(1), _n_relevant(judged, rel))


def _success(judged: _Judged, depth: int, rel: int) -> FloatArray:
    return (_hits(judged, depth, rel) > 0).astype(np.float64)


_FORMULAS: dict[str, Callable[[_Judged, int, int], FloatArray]] = {
    "nDCG": _ndcg,
    "RR": _reciprocal_rank,
    "R": _recall,
    "P": _precision,
    "AP": _average_precision,
    "Success": _success,
}


def _hits(judged: _Judged, depth: int, rel: int) -> FloatArray:
    hits: FloatArray = (judged.gains[:, :depth] >= rel).sum(1, dtype=np.float64)
    return hits


def _n_relevant(judged: _Judged, rel: int) -> FloatArray:
    return _sum_by_query(judged, judged.ideal >= rel)


def _sum_by_query(judged: _Judged, weights: NDArray[Any]) -> FloatArray:
    sums = np.zeros(len(judged.counts))
    np.add.at(sums, judged.rows, weights)
    return sums


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """part / whole, and 0 where there is nothing to find."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


# ---- judgments -----------------------------------------------------------------------------------


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


def _judge(ranking: IdArray, offsets: IdArray, ids: IdArray, gains: FloatArray) -> _Judged:
    counts = np.diff(offsets)
    rows = np.repeat(np.arange(len(counts)), counts)
    best_first = np.lexsort((-gains, rows))
    return _Judged(
        gains=_look_up(ranking, rows, ids, gains),
        rows=rows,
        ideal=gains[best_first],
        ranks=np.arange(len(rows)) - offsets[rows],
        counts=counts,
    )


def _look_up(ranking: IdArray, rows: IdArray, ids: IdArray, gains: FloatArray) -> FloatArray:
    """The gain [n, k] of each ranked document, by its key row * n_documents + document."""
    if not len(ids):
        return np.zeros(ranking.shape)
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
    found: FloatArray = np.where(known, gains[entry], 0.0)
    return found


# ---- summaries -----------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A mean over queries and its confidence interval."""

    mean: float
    low: float
    high: float


def mean(values: Any) -> float:
    """The mean over queries that have judgments; NaN when none has."""
    scored = _scored(values)
    return float(scored.mean()) if len(scored) else float("nan")


def bootstrap(
    values: Any, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean over queries with its percentile bootstrap interval: queries are drawn again.

    Args:
        values: [n] of one measure; NaN (a query without judgments) is left out.
        confidence: share of resampled means inside the interval.
        resamples: draws of n queries with replacement.
        seed: the same seed gives the same interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; for retrieval
    Sakai, SIGIR 2006.

    >>> bootstrap([0.5, 0.5, float("nan")])
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    scored = _scored(values)
    if not len(scored):
        return Interval(*[float("nan")] * 3)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, 2**21 // len(scored))  # 16 MiB of drawn indices at a time
    for start in range(0, resamples, step):
        block = means[start : start + step]
        block[:] = scored[rng.integers(len(scored), size=(len(block), len(scored)))].mean(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(scored.mean()), float(low), float(high))


def _scored(values: Any) -> FloatArray:
    array = np.asarray(values, np.float64)
    return array[~np.isnan(array)]
