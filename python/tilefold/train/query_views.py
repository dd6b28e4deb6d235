"""Adds views of the queries, such as rewrites, to drawn batches."""

from __future__ import annotations

from collections.abc import Sequence

from ..data import TrainingSet
from ..ragged_lists import Integers
from .batches import Batch, checked_rows
from .drawing import DrawingPolicy, check_same_queries, generator_of, random_places


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
        >>> from tilefold.train import Draw
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
        rows = checked_rows(rows, len(self.rewrites), "DrawViews")
        by_query = [self._views(int(row), step) for row in rows]
        views = tuple([texts[view] for texts in by_query] for view in range(self.n_views))
        return self.policy.batch(rows, step=step)._replace(query_views=views)

    def with_data(self, data: TrainingSet) -> DrawViews:
        """Returns the same policy over other data with the same queries.

        Raises:
            ValueError: other queries.
        """
        check_same_queries("DrawViews", self.data, data)
        policy = self.policy.with_data(data)
        return DrawViews(policy, self.rewrites, n_views=self.n_views, seed=self.seed)

    def _views(self, row: int, step: int) -> list[str]:
        # The last number keeps these draws independent of a policy's with the same seed.
        rng = generator_of("DrawViews", self.data, self.seed, step, row, 1)
        texts = self.rewrites[row]
        chosen = [texts[i] for i in random_places(rng, len(texts), self.n_views, first=False)]
        return chosen + [self.data.queries[row]] * (self.n_views - len(chosen))
