"""Draws hard negatives from the top of a ranking, without positives (AAR, eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ...integers import as_integer
from ...progress import Progress
from ...ragged_lists import Integers, Lists, ListsLike
from .candidate_lists import SameTexts, as_document_lists, as_ranking

_OP = "preference_negatives"
_ROWS = 4096  # queries at a time: 3 MiB for each array of a depth of 100


@dataclass(frozen=True)
class PreferenceNegatives:
    """Hard negatives of n queries.

    Attributes:
        negatives: documents of each query, in random order, which is the order that AAR keeps.
        n_kept: number wanted for each query.
        n_positives: documents within the depth that were left out as positives (or `exclude`).
        n_repeated: documents within the depth that equal a better ranked one.
    """

    negatives: Lists
    n_kept: int
    n_positives: int
    n_repeated: int

    @property
    def without(self) -> Integers:
        """The rows of queries without any negative: each of their candidates is a positive."""
        return np.flatnonzero(np.diff(self.negatives.offsets) == 0)

    @property
    def short(self) -> Integers:
        """The rows of queries with fewer than `n_kept`, those without any among them."""
        return np.flatnonzero(np.diff(self.negatives.offsets) < self.n_kept)


def preference_negatives(
    ranking: Any,
    positives: ListsLike,
    *,
    depth: int = 100,
    n_kept: int = 30,
    seed: int = 0,
    groups: Any = None,
    exclude: ListsLike | None = None,
    progress: Progress | None = None,
) -> PreferenceNegatives:
    """Draws hard negatives of each query from the best of a ranking that are no positives.

    ``D^- = ANN^M \\ D^a+``, then shuffled, and the first `n_kept` are kept: positives do not make
    room for documents of a rank beyond M. One static pass over the ranking of the retriever before
    it is trained, as in the authors' code; `refresh_steps` of the trainer mines again in training.

    A query whose every candidate is a positive gets an empty list, and `TrainingQueries.build`
    leaves it out with a warning.

    Args:
        ranking: a `SearchResult`, or its ids ``[n, k]`` int64, best first, -1 where there is none.
        positives: documents of each query, such as those of `merge_positives`.
        depth: M, how many of the ranking are looked at.
        n_kept: negatives of a query; fewer where fewer are left.
        seed: of the shuffle, 0 or more. The draw of a query depends on the seed, its row, `depth`
            and its own ranking and positives.
        groups: ``[m]`` integers, equal for documents with equal title and text: what equals a
            positive is none, and of equal documents the best ranked alone is one. None if no two
            documents are equal.
        exclude: documents of each query that are no negatives, either, such as those of
            `tilefold.data.own_documents`, which are the query itself.
        progress: called as ``progress(queries_done, queries)``.

    Raises:
        TypeError: ids, lists or numbers that are no integers.
        ValueError: shapes that do not fit, or a number out of range.

    Source: Yu et al., ACL 2023, eq. (6) with M = 100 (section 4.2); 30 kept in the authors' code.

    Example:
        >>> drawn = preference_negatives([[7, 4, 9]], Lists.pack([[4]]), n_kept=2)
        >>> sorted(drawn.negatives.of(0).tolist())
        [7, 9]
    """
    depth, n_kept = (
        as_integer(value, _OP, name, at_least=1)
        for name, value in (("depth", depth), ("n_kept", n_kept))
    )
    seed = as_integer(seed, _OP, "seed", at_least=0)
    if n_kept > depth:
        raise ValueError(f"{_OP}: n_kept must be at most depth, {depth}, got {n_kept}")
    ids = as_ranking(ranking, _OP)[:, :depth]
    lists = [as_document_lists(positives, _OP, "positives", len(ids), groups)]
    if exclude is not None:
        lists.append(as_document_lists(exclude, _OP, "exclude", len(ids), groups))
    same = SameTexts(_OP, groups, ids, *(some.indices for some in lists))
    removed = np.unique(np.concatenate([same.keys(some) for some in lists]))
    draw = _Draw(ids, same, removed, n_kept, depth, np.random.default_rng(seed))
    parts = []
    for begin in range(0, len(ids), _ROWS):
        parts.append(draw.rows(begin, min(len(ids), begin + _ROWS)))
        if progress is not None:
            progress(min(len(ids), begin + _ROWS), len(ids))
    counts = np.concatenate([np.zeros(1, np.int64), *(count for count, _ in parts)])
    kept = np.concatenate([np.empty(0, np.int64), *(documents for _, documents in parts)])
    lists_kept = Lists(np.cumsum(counts), kept)
    return PreferenceNegatives(lists_kept, n_kept, draw.n_positives, draw.n_repeated)


class _Draw:
    """Draws for some queries at a time; what they draw does not depend on how many."""

    def __init__(
        self,
        ids: Integers,
        same: SameTexts,
        removed: Integers,
        n_kept: int,
        depth: int,
        rng: Generator,
    ) -> None:
        self._ids, self._same, self._removed = ids, same, removed
        self._n_kept, self._depth, self._rng = n_kept, depth, rng
        self.n_positives = self.n_repeated = 0

    def rows(self, begin: int, end: int) -> tuple[Integers, Integers]:
        """Returns how many negatives each of these queries has, and all of them."""
        ids = self._ids[begin:end]
        standing = self._same.standing_for(ids)
        keys = np.arange(begin, end)[:, None] * self._same.m + standing
        there = ids >= 0
        place = np.searchsorted(self._removed, keys)
        positive = there & (np.append(self._removed, -1)[place] == keys)
        repeated = there & ~positive & _repeated(standing)
        self.n_positives += int(positive.sum())
        self.n_repeated += int(repeated.sum())
        allowed = there & ~positive & ~repeated
        # Drawn for `depth` columns, so that a query draws the same from a narrower array.
        order = self._rng.random((end - begin, self._depth))[:, : ids.shape[1]]
        columns = np.argsort(np.where(allowed, order, 2.0), axis=1, kind="stable")
        columns = columns[:, : self._n_kept]
        chosen = np.take_along_axis(allowed, columns, axis=1)
        return chosen.sum(axis=1), np.take_along_axis(ids, columns, axis=1)[chosen]


def _repeated(standing: Integers) -> NDArray[np.bool_]:
    """Marks documents that equal one before them in their row of ``[b, k]``; -1 is none."""
    found = np.zeros(standing.shape, np.bool_)
    if standing.shape[1] < 2:
        return found
    ordered = np.sort(standing, axis=1)
    equal = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    rows = np.flatnonzero(equal.any(axis=1))  # few: a stable sort of all would take longer
    order = np.argsort(standing[rows], axis=1, kind="stable")
    ordered = np.take_along_axis(standing[rows], order, axis=1)
    again = np.zeros(ordered.shape, np.bool_)
    again[:, 1:] = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    part = np.zeros(ordered.shape, np.bool_)
    np.put_along_axis(part, order, again, axis=1)
    found[rows] = part
    return found
