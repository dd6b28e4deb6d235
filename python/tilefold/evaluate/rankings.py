"""Evaluates rankings given as arrays: the names of ir_measures, the arithmetic of trec_eval.

A ranking is an array of ids, best first, so nothing depends on how a tool breaks ties.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .formulas import ALL_RANKS, FORMULAS
from .gains import FloatArray, Judged, judge
from .measures import Measure


def evaluate(
    ids: Any, qrels: tuple[Any, Any, Any], measures: Iterable[str | Measure]
) -> dict[str, FloatArray]:
    """Computes every measure for every query; equals `ir_measures.iter_calc` on this ranking.

    Gains are linear in nDCG, unless it is called nDCG(dcg='exp-log2'), and the ideal ranking is
    that of all judged documents. As in trec_eval a query that has judgments but no relevant
    document scores 0, and judged documents that the corpus lacks (with ids that no search returns)
    still count in recall, AP and the ideal ranking. A query without judgments is NaN; `mean` and
    `bootstrap` leave it out.

    Without a cutoff all ranks count, and what lies beyond the k of `ids` is missed. Judged@10 is
    the share of judged documents among the first ten, or among all where fewer were found.

    Args:
        ids: [n, k] integers, best first, -1 where there is no result.
        qrels: (offsets [n+1], document ids, gains): query i judged `ids[offsets[i]:offsets[i+1]]`.
            Gains below 1 mean not relevant.
        measures: names such as "nDCG@10", or `Measure`s.

    Returns:
        Canonical name -> float64 [n].

    Raises:
        ValueError: an unknown measure, a cutoff beyond k, a document ranked or judged twice.

    Source: the measures of trec_eval (NIST); nDCG after Jarvelin and Kekalainen, TOIS 2002, and
    with exponential gains after Burges et al., ICML 2005.

    >>> evaluate([[7, 3, -1]], ([0, 2], [3, 5], [1, 1]), ["RR", "recall@3"])
    {'RR': array([0.5]), 'R@3': array([0.5])}
    """
    listed = [measures] if isinstance(measures, str) else measures
    wanted = [Measure.parse(item) if isinstance(item, str) else item for item in listed]
    judged = judge(ids, qrels)
    k = judged.gains.shape[1]
    for measure in wanted:
        if measure.cutoff is not None and measure.cutoff > k:
            raise ValueError(
                f"evaluate: {measure} needs {measure.cutoff} ids per query but ids has {k}; "
                f"search with k={measure.cutoff}, or pad with -1"
            )
    return {str(measure): _values(judged, measure) for measure in wanted}


def _values(judged: Judged, measure: Measure) -> FloatArray:
    if measure.dcg == "exp-log2":
        judged = judged.exponential()
    values = FORMULAS[measure.name](judged, measure.cutoff or ALL_RANKS, measure.rel)
    return np.where(judged.counts > 0, values, np.nan)
