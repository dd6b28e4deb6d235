"""Selects the queries to train on, and builds their training set: AAR's filter and its report."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data import Collection, TrainingSet
from ...integers import as_integer
from ...ragged_lists import Integers, Lists
from .candidate_lists import as_ranking
from .merged_positives import MergedPositives, merge_positives
from .preference_negatives import preference_negatives

_OP = "TrainingQueries.build"
_NAMED = 3  # queries whose ids a warning gives


@dataclass(frozen=True)
class TrainingQueries:
    """A training set of the queries that can be trained on, and why others were left out.

    Attributes:
        data: queries, documents, positives and negatives.
        rows: ``[kept]`` int64, the query of each, counted among all queries.
        dropped: number of queries that were left out, by reason, such as
            ``{"2 positives, expected 3": 14, "no negatives": 1}``.
    """

    data: TrainingSet
    rows: Integers
    dropped: Mapping[str, int]

    @classmethod
    def build(
        cls,
        texts: Collection | TrainingSet,
        positives: MergedPositives | Lists,
        negatives: Any = None,
        *,
        exact_positives: int | None = None,
        counted: MergedPositives | Lists | None = None,
    ) -> TrainingQueries:
        """Builds the training set of the queries that have positives and negatives.

        A query whose every candidate is a positive has no hard negative. It is left out with a
        warning, because a batch would give it fewer negatives than others; without `negatives`,
        when passages of other queries are the only ones, no query is left out for this.

        Args:
            texts: the n queries and all documents, with titles and prompts, if there are any.
            positives: documents of each query.
            negatives: `PreferenceNegatives`, `tilefold.mining.Mined`, or `Lists`; None for no hard
                negatives.
            exact_positives: keep only queries with exactly so many positives. AAR's code keeps
                those with 3: one of people and two others of the LM. None keeps all that have one.
            counted: lists that exact_positives counts, such as those of both where people's alone
                are trained on; by default the positives.

        Raises:
            TypeError: exact_positives is no integer.
            ValueError: lists of another number of queries; no query is left.

        Warns:
            UserWarning: how many queries had no hard negative, and the ids of some.

        Example:
            >>> from tilefold.data import Qrels
            >>> texts = Collection(list("ab"), ["she", "he"], ["q"], ["who?"], Qrels.pack([{0: 1}]))
            >>> found = TrainingQueries.build(texts, Lists.pack([[0]]), Lists.pack([[1]]))
            >>> found.data.positives.indices, found.dropped
            (array([0]), {})
        """
        n = len(texts.queries)
        own = _checked(getattr(positives, "positives", positives), "positives", n)
        hard = None
        if negatives is not None:
            hard = _checked(getattr(negatives, "negatives", negatives), "negatives", n)
        if exact_positives is not None:
            exact_positives = as_integer(exact_positives, _OP, "exact_positives", at_least=1)
        others = own
        if counted is not None:
            others = _checked(getattr(counted, "positives", counted), "counted", n)
        kept, dropped = _selected(texts.query_ids, own, hard, exact_positives, others)
        if not len(kept):
            reasons = ", ".join(f"{count} for {reason}" for reason, count in dropped.items())
            raise ValueError(f"{_OP}: none of {n} queries is left to train on: {reasons}")
        return cls(_training_set(texts, own, hard, kept), kept, dropped)


class PreferenceData(NamedTuple):
    """A training set made from preferences, and the positives that it was made of."""

    queries: TrainingQueries
    positives: MergedPositives


def preference_data(
    texts: TrainingSet,
    ranking: Any,
    scores: Any,
    *,
    mode: str = "both",
    k: int = 2,
    depth: int = 100,
    n_negatives: int = 30,
    seed: int = 0,
    exact_positives: int | None = None,
) -> PreferenceData:
    """Makes a training set from preferences: positives (eq. 5), negatives (eq. 6), and the filter.

    A positive of people is no hard negative, whether or not the mode trains on it.

    Args:
        texts: n queries with positives of people, and documents.
        ranking: a `SearchResult` or its ids ``[n, at least N]``, of the retriever to be trained.
        scores: ``[n, N]``, of a `PreferenceSignal`.
        mode, k: of `merge_positives`.
        depth, n_negatives, seed: of `preference_negatives`, limited to what the ranking has.
        exact_positives: of `TrainingQueries.build`; counts the positives of people and LM together
            in every mode, so that modes train on the same questions.

    Raises:
        TypeError, ValueError: as of these functions.

    Warns:
        UserWarning: queries were left out, as each of their candidates is a positive.

    Example:
        >>> lists = Lists.pack([[0]]), Lists.pack([[]])
        >>> texts = TrainingSet(["q"], ["who?"], list("abc"), ["she", "he", "it"], *lists, [()])
        >>> found = preference_data(texts, [[2, 0, 1]], [[0.9, 0.1, 0.2]], k=1)
        >>> found.queries.data.positives.indices, found.queries.data.negatives.indices
        (array([0, 2]), array([1]))
    """
    groups = texts.document_groups()
    merged = merge_positives(texts.positives, ranking, scores, mode=mode, k=k, groups=groups)
    deepest = min(depth, as_ranking(ranking, "preference_data").shape[1])
    negatives = preference_negatives(
        ranking,
        merged.positives,
        depth=deepest,
        n_kept=min(n_negatives, deepest),
        seed=seed,
        groups=groups,
        exclude=texts.positives,
    )
    counted = merged
    if exact_positives is not None and mode != "both":
        counted = merge_positives(texts.positives, ranking, scores, k=k, groups=groups)
    chosen = TrainingQueries.build(
        texts, merged, negatives, exact_positives=exact_positives, counted=counted
    )
    return PreferenceData(chosen, merged)


def _selected(
    names: list[str], own: Lists, hard: Lists | None, exact: int | None, counted: Lists
) -> tuple[Integers, dict[str, int]]:
    counts = np.diff(counted.offsets)
    dropped: dict[str, int] = {}
    keep = np.diff(own.offsets) > 0
    if not keep.all():
        dropped["no positives"] = int((~keep).sum())
    if exact is not None:
        for count in np.unique(counts[keep & (counts != exact)]).tolist():
            noun = "positive" if count == 1 else "positives"
            dropped[f"{count} {noun}, expected {exact}"] = int((keep & (counts == count)).sum())
        keep &= counts == exact
    if hard is not None:
        without = keep & (np.diff(hard.offsets) == 0)
        if without.any():
            dropped["no negatives"] = int(without.sum())
            _warn(names, without)
        keep &= ~without
    return np.flatnonzero(keep), dropped


def _warn(names: list[str], without: NDArray[np.bool_]) -> None:
    rows = np.flatnonzero(without)
    listed = ", ".join(repr(names[row]) for row in rows[:_NAMED])
    more = ", ..." if len(rows) > _NAMED else ""
    warnings.warn(
        f"{_OP}: left out {len(rows)} of {len(names)} queries, as every candidate is a positive "
        f"and no hard negative remains: {listed}{more}; a deeper ranking would give some",
        stacklevel=4,
    )


def _training_set(
    texts: Collection | TrainingSet, own: Lists, hard: Lists | None, kept: Integers
) -> TrainingSet:
    answers = texts.answers if isinstance(texts, TrainingSet) else [()] * len(texts.queries)
    rows = kept.tolist()
    return TrainingSet(
        [texts.query_ids[row] for row in rows],
        [texts.queries[row] for row in rows],
        texts.document_ids,
        texts.documents,
        _taken(own, kept),
        Lists(np.zeros(len(kept) + 1, np.int64), np.empty(0, np.int64))
        if hard is None
        else _taken(hard, kept),
        [answers[row] for row in rows],
        titles=texts.titles,
        prompts=[texts.prompts[row] for row in rows],
    )


def _checked(lists: Any, name: str, n: int) -> Lists:
    if not isinstance(lists, Lists):
        raise TypeError(f"{_OP}: {name} must be Lists, got {type(lists).__name__}")
    if len(lists.offsets) != n + 1:
        raise ValueError(f"{_OP}: expected {name} of {n} queries, got {len(lists.offsets) - 1}")
    return lists


def _taken(lists: Lists, rows: Integers) -> Lists:
    counts = np.diff(lists.offsets)[rows]
    keep = np.zeros(len(lists.offsets) - 1, np.bool_)
    keep[rows] = True  # rows rise, so the order of indices stays
    return Lists(np.concatenate([[0], np.cumsum(counts)]), lists.indices[keep[lists.owners()]])
