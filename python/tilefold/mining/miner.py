"""Mines a batch of queries: the hardest documents that pass, or a sample of all that pass."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors
from ..progress import Progress
from ..ragged_lists import Integers, Lists, united
from ..retrieval.running_search import SearchResult
from .document_pool import DocumentPool
from .mined import Scores, listed
from .mining_inputs import Ranks
from .shuffle import Shuffle

# Of a query with no more documents than this in its score window all are listed; with more of them,
# drawing among all documents soon meets one.
_POOL = 256
_PAIRS = 1 << 16  # drawn and scored at a time


@dataclass(frozen=True)
class Batch:
    """Some queries, and what their negatives must not be."""

    numbers: Integers  # [b] among all queries
    queries: Vectors  # [b, dim]
    left_out: Lists
    floor: Scores | None  # [b]
    ceilings: dict[str, Scores]  # [b] by option

    @property
    def ceiling(self) -> Scores | None:
        """``[b]`` the lowest of all ceilings."""
        return np.min([*self.ceilings.values()], axis=0) if self.ceilings else None


class Miner:
    """Finds negatives, and counts what each option left out within the rank window.

    Args:
        corpus: the documents.
        ranks: how many negatives, from which ranks.
        shuffle: the order in which documents are drawn; None to take the hardest.
    """

    def __init__(self, corpus: DocumentPool, ranks: Ranks, shuffle: Shuffle | None) -> None:
        self._corpus, self._ranks, self._shuffle = corpus, ranks, shuffle
        self.removed: Counter[str] = Counter()

    def mine(self, batch: Batch, progress: Progress | None = None) -> SearchResult:
        """Mines negatives ``[b, <= n_negatives]``, the hardest first, padded with -1."""
        if self._ranks.range_max is not None:
            return self._mine_ranks(batch, progress)
        if self._shuffle is None:
            return self._hardest(batch, progress)
        return self._sample_scores(batch, self._shuffle, progress)

    def _mine_ranks(self, batch: Batch, progress: Progress | None) -> SearchResult:
        """Ranks are looked at whatever their scores, which are only then compared."""
        depth = self._ranks.range_max or 0
        result = self._corpus.search(batch.queries, depth, batch.left_out, progress=progress)
        scores, ids = (array[:, self._ranks.range_min :] for array in result)
        there = ids >= 0
        outside = {name: scores > limit[:, None] for name, limit in batch.ceilings.items()}
        if batch.floor is not None:
            outside["min_score"] = scores < batch.floor[:, None]
        passes = there.copy()
        for name, removed in outside.items():
            self.removed[name] += int((there & removed).sum())
            passes &= ~removed
        return self._chosen(batch.numbers, SearchResult(scores, ids), passes)

    def _hardest(self, batch: Batch, progress: Progress | None) -> SearchResult:
        """One search; with no ceiling, ranks below range_min are its first columns."""
        ceiling, skipped, left_out = batch.ceiling, self._ranks.range_min, batch.left_out
        if ceiling is not None:
            skipped, left_out = 0, self._without_first(batch)
        result = self._corpus.search(
            batch.queries,
            skipped + self._ranks.n_negatives,
            left_out,
            min_score=batch.floor,
            max_score=ceiling,
            progress=progress,
        )
        return SearchResult(*(array[:, skipped:] for array in result))

    def _sample_scores(
        self, batch: Batch, shuffle: Shuffle, progress: Progress | None
    ) -> SearchResult:
        """Samples from a score window, listing all of it for queries where it is small."""
        left_out = self._without_first(batch)
        n = min(self._ranks.n_negatives, self._corpus.size)
        scores = np.full((len(batch.numbers), n), -np.inf, np.float32)
        ids = np.full((len(batch.numbers), n), -1, np.int64)
        many = np.ones(len(ids), np.bool_)
        ceiling = batch.ceiling
        if batch.floor is not None or ceiling is not None:
            pool = self._corpus.search(
                batch.queries,
                _POOL,
                left_out,
                min_score=batch.floor,
                max_score=ceiling,
                progress=progress,
            )
            many = pool.ids[:, -1] >= 0
            chosen = self._chosen(batch.numbers, pool, pool.ids >= 0)
            width = chosen.ids.shape[1]
            scores[:, :width], ids[:, :width] = chosen
        rows = np.flatnonzero(many)
        scores[rows], ids[rows] = self._drawn(batch, rows, left_out, shuffle)
        return SearchResult(scores, ids)

    def _drawn(
        self, batch: Batch, rows: Integers, left_out: Lists, shuffle: Shuffle
    ) -> SearchResult:
        """Returns the first documents in the order of each query's shuffle that pass."""
        m = self._corpus.size
        n = min(self._ranks.n_negatives, m)
        draw = _Draw(np.full((len(rows), n), -np.inf, np.float32), np.full((len(rows), n), -1))
        keys, begin = left_out.keys(m), 0
        floor, ceiling = batch.floor, batch.ceiling
        unfilled = np.arange(len(rows))
        while len(unfilled) and begin < m:
            end = min(m, begin + max(1, _PAIRS // len(unfilled)))
            pending = rows[unfilled]
            places = np.broadcast_to(np.arange(begin, end), (len(pending), end - begin))
            ids = shuffle.documents(batch.numbers[pending], places)
            passes = self._corpus.retrievable(ids) & ~_among(pending[:, None] * m + ids, keys)
            scores = np.full(ids.shape, -np.inf, np.float32)
            owners = np.repeat(pending, passes.sum(axis=1))
            scores[passes] = self._corpus.scores(batch.queries, owners, ids[passes])
            if floor is not None:
                passes &= scores >= floor[pending, None]
            if ceiling is not None:
                passes &= scores <= ceiling[pending, None]
            unfilled, begin = draw.fill(unfilled, scores, ids, passes), end
        return draw.hardest_first()

    def _without_first(self, batch: Batch) -> Lists:
        """Returns excluded documents and those of rank below range_min."""
        if not self._ranks.range_min or not self._corpus.size:
            return batch.left_out
        first = self._corpus.search(batch.queries, self._ranks.range_min, batch.left_out)
        return united(batch.left_out, listed(first.ids), self._corpus.size)

    def _chosen(
        self, numbers: Integers, ranked: SearchResult, passes: NDArray[np.bool_]
    ) -> SearchResult:
        """Selects the first of ranked documents ``[b, k]`` that pass: by rank, or shuffled."""
        width = passes.shape[1]
        order = np.broadcast_to(np.arange(width), passes.shape)
        if self._shuffle is not None:
            order = self._shuffle.places(numbers, np.maximum(ranked.ids, 0))
        last = self._corpus.size + width
        columns = np.argsort(np.where(passes, order, last), axis=1, kind="stable")
        columns = columns[:, : self._ranks.n_negatives]
        chosen = np.take_along_axis(passes, columns, axis=1)
        columns = np.sort(np.where(chosen, columns, width), axis=1)
        ends = (np.full((len(passes), 1), end) for end in (np.float32(-np.inf), np.int64(-1)))
        padded = (np.append(array, end, axis=1) for array, end in zip(ranked, ends, strict=True))
        return SearchResult(*(np.take_along_axis(array, columns, axis=1) for array in padded))


class _Draw(NamedTuple):
    """Documents sampled for some queries, in columns that are filled from the left."""

    scores: Scores  # [r, n]
    ids: Integers

    def fill(
        self, rows: Integers, scores: Scores, ids: Integers, passes: NDArray[np.bool_]
    ) -> Integers:
        """Takes those that pass, first come first served; the rows that still have room."""
        before = (self.ids[rows] >= 0).sum(axis=1)
        column = before[:, None] + np.cumsum(passes, axis=1) - 1
        taken = passes & (column < self.ids.shape[1])
        row = rows[np.nonzero(taken)[0]]
        self.scores[row, column[taken]], self.ids[row, column[taken]] = scores[taken], ids[taken]
        unfilled: Integers = rows[before + taken.sum(axis=1) < self.ids.shape[1]]
        return unfilled

    def hardest_first(self) -> SearchResult:
        """Sorts the sample as a search does: score descending, then row; padding last."""
        order = np.lexsort((self.ids, -self.scores), axis=1)
        return SearchResult(*(np.take_along_axis(array, order, axis=1) for array in self))


def _among(keys: Integers, sorted_keys: Integers) -> NDArray[np.bool_]:
    """Returns which keys are in a sorted array of them."""
    place = np.searchsorted(sorted_keys, keys)
    found: NDArray[np.bool_] = np.append(sorted_keys, -1)[place] == keys
    return found
