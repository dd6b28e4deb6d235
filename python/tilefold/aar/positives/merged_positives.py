"""Merges the positives of people with those that a source LM prefers (AAR, eq. 5)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...integers import as_integer
from ...ragged_lists import Integers, Lists, ListsLike
from .candidate_lists import (
    SameTexts,
    as_document_lists,
    as_ranking,
    as_scores,
    first_places,
    n_queries,
)

MODES = ("both", "human", "lm")


class Origin(enum.IntFlag):
    """Who chose a positive: people, the source LM, or both."""

    HUMAN = 1
    LM = 2


@dataclass(frozen=True)
class MergedPositives:
    """Positives of n queries, and how they came about.

    Attributes:
        positives: documents of each query: those of people in their order, then those of the LM,
            the most preferred first. A query may have none.
        origins: ``[positives]`` int8, an `Origin` for each. In every mode it says what both chose.
        mode: "both", "human" or "lm".
        n_human: positives of people, over all queries; equal texts of a query count once.
        n_lm: passages that the LM prefers, over all queries.
        n_shared: passages that are both.
    """

    positives: Lists
    origins: NDArray[np.int8]
    mode: str
    n_human: int
    n_lm: int
    n_shared: int

    @property
    def shared_rate(self) -> float:
        """The share of human positives that the LM prefers, too; NaN without human positives.

        AAR's authors print this number when they merge. It divides by the human positives, where
        the overlap of eq. (8), `preference_overlap`, divides by the union of a query's sets.
        """
        return self.n_shared / self.n_human if self.n_human else float("nan")

    def __len__(self) -> int:
        """Returns the number of queries."""
        return len(self.positives.offsets) - 1


def preferred_passages(ranking: Any, scores: Any, *, k: int = 2, groups: Any = None) -> Lists:
    """Selects the k passages of each query that a source LM prefers.

    Equals sorting the scored passages of every query by score descending, ties by rank, passing
    over those that equal an earlier one, and taking the first k.

    Args:
        ranking: a `SearchResult`, or its ids ``[n, at least N]`` int64; -1 where a query has fewer.
        scores: ``[n, N]``, of a `PreferenceSignal`, for the first N of the ranking.
        k: passages per query; fewer where there are fewer.
        groups: ``[m]`` integers, equal for documents with equal title and text, as
            `TrainingSet.document_groups` gives them; None if no two documents are equal.

    Returns:
        Documents of each query, the most preferred first.

    Raises:
        TypeError: k or ids that are no integers.
        ValueError: shapes that do not fit, a NaN, a score where there is no document, k below 1.

    Source: Yu et al., "Augmentation-Adapted Retriever Improves Generalization of Language Models as
    Generic Plug-In", ACL 2023, eq. (5): Top-K of the scores.

    Example:
        >>> preferred_passages([[7, 4, 9]], [[0.1, 0.9, 0.1]]).indices
        array([4, 7])
    """
    op = "preferred_passages"
    ids = as_ranking(ranking, op)
    return _preferred(ids, scores, k, SameTexts(op, groups, ids), op)


def merge_positives(
    human: ListsLike | None,
    ranking: Any = None,
    scores: Any = None,
    *,
    mode: str = "both",
    k: int = 2,
    groups: Any = None,
) -> MergedPositives:
    """Unites the positives of people with the passages that a source LM prefers.

    ``D^a+ = union(D^h+, Top-K(S, D^a))``, where the K are chosen before the union: a favourite of
    the LM that people chose, too, is not replaced by the next one. Documents with equal title and
    text are one, whatever their ids; that of people is kept.

    Args:
        human: positives of people, of n queries; a query may have none. None in mode "lm" only.
        ranking, scores, k, groups: as of `preferred_passages`. Without ranking and scores, in mode
            "human", nothing is known of the LM.
        mode: which positives are kept: "both", those of people ("human"), or of the LM ("lm").

    Raises:
        TypeError: k, ids or lists that are no integers.
        ValueError: an unknown mode, one that lacks its input, or what `preferred_passages` refuses.

    Source: Yu et al., ACL 2023, eq. (5) and section 4.2 (K = 2 of N = 10). The modes are those of
    their figure 4(b).

    Example:
        >>> human = Lists.pack([[4]])
        >>> merged = merge_positives(human, [[7, 4, 9]], [[0.5, 0.9, 0.1]])
        >>> merged.positives.of(0), merged.origins, merged.shared_rate
        (array([4, 7]), array([3, 2], dtype=int8), 1.0)
    """
    op = "merge_positives"
    _check_mode(op, mode, human is not None, ranking is not None, scores is not None)
    n = 0 if human is None else n_queries(human, op, "human")
    ids = np.empty((n, 0), np.int64) if ranking is None else as_ranking(ranking, op)
    own = Lists(np.zeros(len(ids) + 1, np.int64), np.empty(0, np.int64))
    if human is not None:
        own = as_document_lists(human, op, "human", len(ids), groups)
    same = SameTexts(op, groups, ids, own.indices)
    own = same.once(own)
    liked = Lists(np.zeros(len(ids) + 1, np.int64), np.empty(0, np.int64))
    if ranking is not None:
        liked = _preferred(ids, scores, k, same, op)
    shared = int(np.isin(same.keys(liked), same.keys(own)).sum())
    positives, origins = _united(own, liked, same, mode)
    return MergedPositives(positives, origins, mode, len(own.indices), len(liked.indices), shared)


def _check_mode(op: str, mode: str, human: bool, ranking: bool, scores: bool) -> None:
    if mode not in MODES:
        raise ValueError(f"{op}: mode must be one of {MODES}, got {mode!r}")
    if ranking != scores:
        raise ValueError(f"{op}: ranking and scores go together, got one of them")
    if mode != "lm" and not human:
        raise ValueError(f"{op}: mode {mode!r} needs the positives of people, got None")
    if mode != "human" and not ranking:
        raise ValueError(f"{op}: mode {mode!r} needs a ranking and its scores, got None")


def _preferred(ids: Integers, scores: Any, k: int, same: SameTexts, op: str) -> Lists:
    k = as_integer(k, op, "k", at_least=1)
    values = as_scores(scores, op, ids)
    order = np.argsort(-values, axis=1, kind="stable")  # ties by rank
    chosen = np.take_along_axis(ids[:, : values.shape[1]], order, axis=1)
    there = chosen >= 0
    rows = np.broadcast_to(np.arange(len(ids))[:, None], chosen.shape)[there]
    distinct = there.copy()
    distinct[there] = first_places(rows * same.m + same.standing_for(chosen[there]))
    taken = distinct & (np.cumsum(distinct, axis=1) <= k)
    return Lists(np.concatenate([[0], np.cumsum(taken.sum(axis=1))]), chosen[taken])


def _united(own: Lists, liked: Lists, same: SameTexts, mode: str) -> tuple[Lists, NDArray[np.int8]]:
    """Returns the positives that a mode keeps, and who chose each."""
    keys = {Origin.HUMAN: same.keys(own), Origin.LM: same.keys(liked)}
    sides = {
        "both": [(Origin.HUMAN, own), (Origin.LM, liked)],
        "human": [(Origin.HUMAN, own)],
        "lm": [(Origin.LM, liked)],
    }[mode]
    owners = np.concatenate([lists.owners() for _, lists in sides])
    documents = np.concatenate([lists.indices for _, lists in sides])
    everything = np.concatenate([keys[origin] for origin, _ in sides])
    order = np.argsort(owners, kind="stable")  # people's before those of the LM
    kept = order[first_places(everything[order])]
    origins = np.zeros(len(kept), np.int8)
    for origin, chosen in keys.items():
        origins[np.isin(everything[kept], chosen)] |= origin
    counts = np.bincount(owners[kept], minlength=len(own.offsets) - 1)
    return Lists(np.concatenate([[0], np.cumsum(counts)]), documents[kept]), origins
