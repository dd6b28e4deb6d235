"""Draws the passages of each query for a training step: one positive, some hard negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from numpy.random import Generator

from ..data import TrainingSet
from ..data.self_retrieval import Identity
from ..integers import as_integer
from ..ragged_lists import Integers
from .batches import Batch, BatchBuilder, Group, checked_rows


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
        remove_query: which passages are no negatives as they are the query itself: those with its
            "text", its "id", "both" or "none"; see `tilefold.data.own_documents`.

    Raises:
        TypeError: group_size is no integer.
        ValueError: group_size is below 1.

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
        remove_query: Identity = "text",
    ) -> None:
        self.data = data
        self.group_size = as_integer(group_size, "Draw", "group_size")
        if self.group_size < 1:
            raise ValueError(f"Draw: group_size must be 1 or more, got {group_size}")
        self.seed = seed
        self.first_positive = first_positive
        self.first_negatives = first_negatives
        self._builder = BatchBuilder(data, remove_query=remove_query)

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """Draws the batch of some queries.

        Args:
            rows: the queries, as rows of the training set.
            step: of the optimizer.

        Raises:
            ValueError: rows that are no integers, or no queries of the training set.
        """
        rows = checked_rows(rows, len(self.data), "Draw")
        return self._builder.build(rows, [self._group(int(row), step) for row in rows], step=step)

    def with_data(self, data: TrainingSet) -> Draw:
        """Returns the same policy over other data."""
        return Draw(
            data,
            group_size=self.group_size,
            seed=self.seed,
            first_positive=self.first_positive,
            first_negatives=self.first_negatives,
            remove_query=self._builder.remove_query,
        )

    def _group(self, row: int, step: int) -> Group:
        rng = generator_of("Draw", self.data, self.seed, step, row)
        n = len(self.data.positives.of(row))
        positive = 0 if self.first_positive else int(rng.integers(n))
        negatives = random_places(
            rng, len(self.data.negatives.of(row)), self.group_size - 1, first=self.first_negatives
        )
        return Group(np.array([positive]), negatives)


def generator_of(
    op: str, data: TrainingSet, seed: int, step: int, row: int, *further: int
) -> Generator:
    """Returns the random numbers of a query at a step, the same in every process.

    Args:
        op: the drawing policy, for messages.
        data: the training set.
        seed: of the policy.
        step: of the optimizer.
        row: the query, as a row of the training set.
        further: numbers that keep several generators of a policy independent.

    Raises:
        ValueError: a negative seed or step, or no row of the training set.
    """
    for name, value in (("seed", seed), ("step", step)):
        if value < 0:
            raise ValueError(f"{op}: {name} must be 0 or more, got {value}")
    if not 0 <= row < len(data):
        raise ValueError(f"{op}: rows must be 0 to {len(data) - 1}, got {row}")
    return np.random.default_rng([seed, step, row, *further])


def check_same_queries(op: str, own: TrainingSet, other: TrainingSet) -> None:
    """Requires that other data have the queries that a policy has texts or embeddings of.

    Raises:
        ValueError: other queries, or in another order.
    """
    if other.query_ids != own.query_ids:
        raise ValueError(
            f"{op}.with_data: expected the same {len(own)} queries in the same order, got "
            f"{len(other)} others; build the policy anew for them"
        )


def random_places(rng: Generator, n: int, wanted: int, *, first: bool) -> Integers:
    """Chooses up to `wanted` of n places, the first or random ones without replacement."""
    wanted = min(wanted, n)
    return np.arange(wanted) if first else rng.permutation(n)[:wanted]
