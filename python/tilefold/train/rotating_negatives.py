"""Draws hard negatives that rotate from epoch to epoch, beside several positives (AAR)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data import TrainingSet
from ..data.self_retrieval import Identity
from ..integers import as_integer
from ..ragged_lists import Integers
from .batches import Batch, BatchBuilder, Group, checked_rows
from .drawing import generator_of, random_places


class DrawRotating:
    """Draws the positives of each query, and in every epoch the next of its hard negatives.

    The L negatives of a query are shuffled once, by the seed and the query. Epoch e takes
    `n_negatives` of them from place ``e * n_negatives mod L`` on, and goes on at the beginning
    where the list ends. With 30 negatives, 7 at a time, a query has met all of them after five
    epochs; of random draws (`DrawSeveral`) a quarter would be missing.

    A query with fewer than `n_negatives` contributes each of them once. (AAR's code draws seven of
    them with replacement, so that some count several times in the denominator of the softmax.)

    Args:
        data: queries, passages, and which belong together.
        n_negatives: hard negatives of a query at most, 1 or more.
        steps_per_epoch: optimizer steps in a pass over the training queries, of all processes
            together: the epoch is ``step // steps_per_epoch``.
        seed: of the shuffles, and of the draw of positives.
        max_positives: positives of a query at most; None for all. A query with more has that many
            of them drawn at random in each step, a query with fewer contributes fewer.
        first_positives: take the first positives instead of random ones.
        remove_query: which passages are no negatives as they are the query itself: those with its
            "text", its "id", "both" or "none"; see `tilefold.data.own_documents`.

    Raises:
        TypeError: a number that is no integer.
        ValueError: a number below 1.

    Source: the training data of AAR (Yu et al., arXiv:2305.17331) in the authors' code, which is
    that of Tevatron (Gao et al., arXiv:2203.05765).

    Example:
        >>> from tilefold.data import TrainingSet
        >>> from tilefold.ragged_lists import Lists
        >>> lists = Lists.pack([[0]]), Lists.pack([[1, 2]])
        >>> data = TrainingSet(["q"], ["who?"], list("abc"), ["she", "he", "it"], *lists, [()])
        >>> policy = DrawRotating(data, n_negatives=1, steps_per_epoch=10, seed=0)
        >>> [policy.batch([0], step=step).documents[1] for step in (0, 9, 10, 20)]
        ['it', 'it', 'he', 'it']
    """

    def __init__(
        self,
        data: TrainingSet,
        *,
        n_negatives: int,
        steps_per_epoch: int,
        seed: int,
        max_positives: int | None = None,
        first_positives: bool = False,
        remove_query: Identity = "text",
    ) -> None:
        self.data = data
        self.n_negatives = as_integer(n_negatives, "DrawRotating", "n_negatives", at_least=1)
        self.steps_per_epoch = as_integer(
            steps_per_epoch, "DrawRotating", "steps_per_epoch", at_least=1
        )
        if max_positives is not None:
            max_positives = as_integer(max_positives, "DrawRotating", "max_positives", at_least=1)
        self.max_positives = max_positives
        self.seed = seed
        self.first_positives = first_positives
        self._builder = BatchBuilder(data, remove_query=remove_query)

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """Draws the batch of some queries; arguments as in `Draw.batch`."""
        rows = checked_rows(rows, len(self.data), "DrawRotating")
        groups = [self._group(int(row), step) for row in rows]
        return self._builder.build(rows, groups, step=step, several=True)

    def with_data(self, data: TrainingSet) -> DrawRotating:
        """Returns the same policy over other data."""
        return DrawRotating(
            data,
            n_negatives=self.n_negatives,
            steps_per_epoch=self.steps_per_epoch,
            seed=self.seed,
            max_positives=self.max_positives,
            first_positives=self.first_positives,
            remove_query=self._builder.remove_query,
        )

    def _group(self, row: int, step: int) -> Group:
        rng = generator_of("DrawRotating", self.data, self.seed, step, row)
        n = len(self.data.positives.of(row))
        wanted = n if self.max_positives is None else self.max_positives
        positives = random_places(rng, n, wanted, first=self.first_positives or wanted >= n)
        return Group(positives, self._negatives(row, step // self.steps_per_epoch))

    def _negatives(self, row: int, epoch: int) -> Integers:
        # Of step 0 whatever the step, so that the order of a query stays; the last number keeps it
        # independent of the draw of positives at that step.
        rng = generator_of("DrawRotating", self.data, self.seed, 0, row, 2)
        order = rng.permutation(len(self.data.negatives.of(row)))
        if len(order) <= self.n_negatives:
            return order
        places = epoch * self.n_negatives + np.arange(self.n_negatives)
        rotated: Integers = order[places % len(order)]
        return rotated
