"""Drawing policies: which passages a training step sees of each query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from numpy.random import Generator

from ..data import TrainingSet
from ..ragged_lists import Integers
from .batches import Batch, BatchBuilder, Group


class DrawingPolicy(Protocol):
    """Draws batches of a training set.

    A policy must draw the passages of a query as a function of its seed, the step and the query
    alone: not of the process that draws, of the other queries of the batch, or of batches before.
    That makes a resumed training, and one over several processes, see what an uninterrupted one in
    a single process sees.
    """

    @property
    def data(self) -> TrainingSet:
        """The training set that is drawn from."""

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """Draws the batch of some queries (rows of the training set) at an optimizer step."""

    def with_data(self, data: TrainingSet) -> Self:
        """Returns the same policy over other data, such as with negatives that were mined anew."""


class Draw:
    """Draws one positive and some hard negatives of each query.

    Args:
        data: queries, passages, and which belong together.
        group_size: passages of a query: a positive, and up to ``group_size - 1`` hard negatives;
            a query with fewer contributes fewer.
        seed: of the random draws.
        first_positive: take the first positive instead of a random one.
        first_negatives: take the first hard negatives instead of random ones.

    Example:
        >>> from tilefold.data import TrainingSet
        >>> from tilefold.ragged_lists import Lists
        >>> lists = Lists.pack([[0]]), Lists.pack([[1]])
        >>> data = TrainingSet(["q"], ["who?"], ["a", "b"], ["she", "he"], *lists, [()])
        >>> Draw(data, group_size=2, seed=0).batch([0], step=0).documents
        ['she', 'he']
    """

    def __init__(
        self,
        data: TrainingSet,
        *,
        group_size: int,
        seed: int,
        first_positive: bool = False,
        first_negatives: bool = False,
    ) -> None:
        self.data = data
        self.group_size = group_size
        self.seed = seed
        self.first_positive = first_positive
        self.first_negatives = first_negatives
        self._builder = BatchBuilder(data)

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """Draws the batch of some queries.

        Args:
            rows: the queries, as rows of the training set.
            step: of the optimizer.
        """
        return self._builder.build(rows, [self._group(int(row), step) for row in rows], step=step)

    def with_data(self, data: TrainingSet) -> Draw:
        """Returns the same policy over other data."""
        return Draw(
            data,
            group_size=self.group_size,
            seed=self.seed,
            first_positive=self.first_positive,
            first_negatives=self.first_negatives,
        )

    def _group(self, row: int, step: int) -> Group:
        rng = np.random.default_rng([self.seed, step, row])
        n = len(self.data.positives.of(row))
        positive = 0 if self.first_positive else int(rng.integers(n))
        negatives = _choice(
            rng, len(self.data.negatives.of(row)), self.group_size - 1, first=self.first_negatives
        )
        return Group(np.array([positive]), negatives)


class DrawSeveral:
    """Draws all or up to some number of the positives of each query, and hard negatives.

    `Batch.positives` is then a pair of CSR lists. `contrastive_loss` in mode "each" gives every
    positive a softmax without its siblings, as AAR trains (Yu et al., arXiv:2305.17331).

    Args:
        data: queries, passages, and which belong together.
        max_positives: positives of a query at most; None for all. A query with more has that many
            of them drawn at random, a query with fewer contributes fewer.
        n_negatives: hard negatives of a query at most.
        seed: of the random draws.
        first_positives: take the first positives instead of random ones.
        first_negatives: take the first hard negatives instead of random ones.

    Raises:
        ValueError: fewer than one positive, a negative number of negatives.

    Example:
        >>> from tilefold.data import TrainingSet
        >>> from tilefold.ragged_lists import Lists
        >>> lists = Lists.pack([[0, 1]]), Lists.pack([[2]])
        >>> data = TrainingSet(["q"], ["who?"], list("abc"), ["she", "her", "he"], *lists, [()])
        >>> batch = DrawSeveral(data, n_negatives=1, seed=0).batch([0], step=0)
        >>> batch.documents, batch.positives
        (['she', 'her', 'he'], (tensor([0, 2]), tensor([0, 1])))
    """

    def __init__(
        self,
        data: TrainingSet,
        *,
        max_positives: int | None = None,
        n_negatives: int,
        seed: int,
        first_positives: bool = False,
        first_negatives: bool = False,
    ) -> None:
        if max_positives is not None and max_positives < 1:
            raise ValueError(
                f"DrawSeveral: max_positives must be 1 or more or None, got {max_positives}"
            )
        if n_negatives < 0:
            raise ValueError(f"DrawSeveral: n_negatives must be 0 or more, got {n_negatives}")
        self.data = data
        self.max_positives = max_positives
        self.n_negatives = n_negatives
        self.seed = seed
        self.first_positives = first_positives
        self.first_negatives = first_negatives
        self._builder = BatchBuilder(data)

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """Draws the batch of some queries; arguments as in `Draw.batch`."""
        groups = [self._group(int(row), step) for row in rows]
        return self._builder.build(rows, groups, step=step, several=True)

    def with_data(self, data: TrainingSet) -> DrawSeveral:
        """Returns the same policy over other data."""
        return DrawSeveral(
            data,
            max_positives=self.max_positives,
            n_negatives=self.n_negatives,
            seed=self.seed,
            first_positives=self.first_positives,
            first_negatives=self.first_negatives,
        )

    def _group(self, row: int, step: int) -> Group:
        rng = np.random.default_rng([self.seed, step, row])
        n, hard = len(self.data.positives.of(row)), len(self.data.negatives.of(row))
        wanted = n if self.max_positives is None else self.max_positives
        # A query whose positives are all taken draws no random numbers for them: nothing to choose.
        positives = _choice(rng, n, wanted, first=self.first_positives or wanted >= n)
        return Group(positives, _choice(rng, hard, self.n_negatives, first=self.first_negatives))


class DrawViews:
    """Adds views of the queries, such as rewrites, to the batches of another policy.

    Args:
        policy: draws the passages.
        rewrites: other wordings of each query of the training set, in the order of its rows.
        n_views: wordings drawn for a query at each step, without replacement. A query with fewer
            fills the remaining views with its own text, which then agree with it by construction.
        seed: of the random draws.

    Raises:
        ValueError: another number of queries, fewer than one view.

    Example:
        >>> from tilefold.data import TrainingSet
        >>> from tilefold.ragged_lists import Lists
        >>> lists = Lists.pack([[0]]), Lists.pack([[]])
        >>> data = TrainingSet(["q"], ["who?"], ["a"], ["she"], *lists, [()])
        >>> policy = Draw(data, group_size=1, seed=0)
        >>> DrawViews(policy, [["who is it?"]], n_views=2, seed=0).batch([0], step=0).query_views
        (['who is it?'], ['who?'])
    """

    def __init__(
        self,
        policy: DrawingPolicy,
        rewrites: Sequence[Sequence[str]],
        *,
        n_views: int,
        seed: int,
    ) -> None:
        if len(rewrites) != len(policy.data):
            raise ValueError(
                f"DrawViews: expected rewrites of {len(policy.data)} queries, got {len(rewrites)}"
            )
        if n_views < 1:
            raise ValueError(f"DrawViews: n_views must be 1 or more, got {n_views}")
        self.policy = policy
        self.rewrites = rewrites
        self.n_views = n_views
        self.seed = seed

    @property
    def data(self) -> TrainingSet:
        """The training set that is drawn from."""
        return self.policy.data

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """Draws the batch of some queries; arguments as in `Draw.batch`."""
        by_query = [self._views(int(row), step) for row in rows]
        views = tuple([texts[view] for texts in by_query] for view in range(self.n_views))
        return self.policy.batch(rows, step=step)._replace(query_views=views)

    def with_data(self, data: TrainingSet) -> DrawViews:
        """Returns the same policy over other data with the same queries."""
        policy = self.policy.with_data(data)
        return DrawViews(policy, self.rewrites, n_views=self.n_views, seed=self.seed)

    def _views(self, row: int, step: int) -> list[str]:
        # The last number keeps these draws independent of a policy's with the same seed.
        rng = np.random.default_rng([self.seed, step, row, 1])
        texts = self.rewrites[row]
        chosen = [texts[i] for i in _choice(rng, len(texts), self.n_views, first=False)]
        return chosen + [self.data.queries[row]] * (self.n_views - len(chosen))


def _choice(rng: Generator, n: int, wanted: int, *, first: bool) -> Integers:
    """Chooses up to `wanted` of n places, the first or random ones without replacement."""
    wanted = min(wanted, n)
    return np.arange(wanted) if first else rng.permutation(n)[:wanted]
