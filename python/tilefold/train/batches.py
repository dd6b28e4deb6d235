"""What a step trains on: queries, a positive of each, hard negatives, and what is no negative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import TrainingSet
from ..losses import count_negatives
from ..ragged_lists import Integers, Lists


class Batch(NamedTuple):
    """n queries and m passages; positives and exclude_ids are as `contrastive_loss` takes them."""

    queries: list[str]
    documents: list[str]
    positives: Tensor  # [n] int64, rows of documents
    query_ids: Tensor  # [n] int64: equal queries have one id
    document_ids: Tensor  # [m] int64
    exclude_ids: tuple[Tensor, Tensor]  # CSR: document_ids of all known positives
    titles: list[str]  # of documents; "" where there is none
    prompts: list[str]  # of queries; "" where there is none

    def negatives(self) -> float:
        """How many negatives a query has, on average, after masks."""
        counts = count_negatives(
            len(self.documents),
            self.positives,
            exclude_ids=self.exclude_ids,
            query_ids=self.query_ids,
            document_ids=self.document_ids,
        )
        return float(counts.double().mean())


class Draw:
    """Draws batches of a `TrainingSet`.

    What is drawn for a query depends on the seed, the step and the query alone: not on the rank
    that draws it, the queries beside it, or whether training was interrupted.

    Args:
        data: queries, passages, and which belong together.
        group_size: passages of a query: a positive, and up to ``group_size - 1`` hard negatives;
            a query with fewer brings fewer.
        seed: of the draws.
        first_positive: the first positive, not any.
        first_negatives: the first hard negatives, not any.

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
        # The same text is the same, whatever ids it has.
        self._query_ids = data.query_groups()
        self._document_ids = data.document_groups()

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """The batch of some queries at a step.

        Args:
            rows: of queries.
            step: of the optimizer.
        """
        drawn = [self._group(int(row), step) for row in rows]
        sizes = [len(group) for group in drawn]
        documents = np.concatenate(drawn) if drawn else np.zeros(0, np.int64)
        own = torch.from_numpy(np.cumsum([0, *sizes[:-1]], dtype=np.int64)[: len(sizes)])
        return Batch(
            [self.data.queries[int(row)] for row in rows],
            [self.data.documents[row] for row in documents],
            own,
            torch.from_numpy(self._query_ids[np.asarray(rows, np.int64)]),
            torch.from_numpy(self._document_ids[documents]),
            self._known(rows),
            [self.data.titles[row] for row in documents],
            [self.data.prompts[int(row)] for row in rows],
        )

    def _group(self, row: int, step: int) -> Integers:
        """A positive of the query, and hard negatives."""
        rng = np.random.default_rng([self.seed, step, row])
        positives, negatives = self.data.positives.of(row), self.data.negatives.of(row)
        positive = 0 if self.first_positive else int(rng.integers(len(positives)))
        wanted = min(self.group_size - 1, len(negatives))
        chosen: NDArray[np.int64] = np.arange(wanted)
        if not self.first_negatives:
            chosen = rng.permutation(len(negatives))[:wanted]
        return np.concatenate([positives[[positive]], negatives[chosen]])

    def _known(self, rows: Sequence[int] | Integers) -> tuple[Tensor, Tensor]:
        """Whoever brings them, on whatever process, they are no negatives of the query."""
        known = [self._document_ids[self.data.positives.of(int(row))] for row in rows]
        offsets, ids = Lists.pack(known)
        return torch.from_numpy(offsets), torch.from_numpy(ids)
