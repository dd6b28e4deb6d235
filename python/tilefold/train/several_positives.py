"""Draws several positives of each query, with hard negatives."""

from __future__ import annotations

from collections.abc import Sequence

from ..data import TrainingSet
from ..data.self_retrieval import Identity
from ..integers import as_integer
from ..ragged_lists import Integers
from .batches import Batch, BatchBuilder, Group, checked_rows
from .drawing import generator_of, random_places


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
        remove_query: which passages are no negatives as they are the query itself: those with its
            "text", its "id", "both" or "none"; see `tilefold.data.own_documents`.

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
        remove_query: Identity = "text",
    ) -> None:
        if max_positives is not None:
            max_positives = as_integer(max_positives, "DrawSeveral", "max_positives")
        n_negatives = as_integer(n_negatives, "DrawSeveral", "n_negatives")
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
        self._builder = BatchBuilder(data, remove_query=remove_query)

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """Draws the batch of some queries; arguments as in `Draw.batch`."""
        rows = checked_rows(rows, len(self.data), "DrawSeveral")
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
            remove_query=self._builder.remove_query,
        )

    def _group(self, row: int, step: int) -> Group:
        rng = generator_of("DrawSeveral", self.data, self.seed, step, row)
        n, hard = len(self.data.positives.of(row)), len(self.data.negatives.of(row))
        wanted = n if self.max_positives is None else self.max_positives
        # A query whose positives are all taken draws no random numbers for them: nothing to choose.
        positives = random_places(rng, n, wanted, first=self.first_positives or wanted >= n)
        negatives = random_places(rng, hard, self.n_negatives, first=self.first_negatives)
        return Group(positives, negatives)
