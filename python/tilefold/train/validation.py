"""Validates a model in training on queries that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data import Collection, Qrels, TrainingSet, own_documents
from ..data.self_retrieval import Identity
from ..distributed.processes import encode_together, rank
from ..evaluate import Measure, average_rank_of, evaluate, mean
from ..models import BiEncoder
from ..progress import show_progress
from ..ragged_lists import Integers, Lists
from ..retrieval.exact_search import search


@dataclass(frozen=True)
class Validation:
    """A collection and the measures to compute on it.

    Args:
        collection: documents, queries, judgments.
        measures: such as "nDCG@10". The average rank is computed as well, as DPR validates: the
            mean 0-based rank of the first relevant document of each query among all documents.
        batch_size: texts encoded at once.
        remove_query: which documents are not ranked as they are the query itself, see
            `tilefold.data.own_documents`.
    """

    collection: Collection
    measures: Sequence[str] = ("nDCG@10", "RR@10")
    batch_size: int = 64
    remove_query: Identity = "none"

    def run(self, model: BiEncoder) -> dict[str, float]:
        """Encodes the collection and returns the mean of every measure, and "average_rank".

        The first of several processes shows progress, also while documents are ranked.
        """
        with show_progress("validate", show=rank() == 0):
            return self._measured(model)

    def _measured(self, model: BiEncoder) -> dict[str, float]:
        texts = self.collection
        queries, documents = (
            encode_together(encode, *columns, batch_size=self.batch_size)
            for encode, *columns in (
                (model.encode_queries, texts.queries, texts.prompts),
                (model.encode_documents, texts.documents, texts.titles),
            )
        )
        measures = [Measure.parse(name) for name in self.measures]
        k = max(measure.cutoff or len(documents) for measure in measures)
        own = own_documents(texts, self.remove_query)
        with show_progress("search", show=rank() == 0) as display:
            excluded = own if len(own.indices) else None
            found = search(queries, documents, k, exclude=excluded, progress=display)
        values = evaluate(found.ids, texts.qrels, measures)
        result = {name: mean(value) for name, value in values.items()}
        judged, gold = self._gold(own)
        ranked = Lists.pack([own.of(int(row)) for row in judged])
        average = average_rank_of(queries[judged], documents, gold, exclude=ranked)
        return result | {"average_rank": average}

    def _gold(self, own: Lists) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns queries with a relevant document to be ranked, and the first of each."""
        offsets, ids, gains = self.collection.qrels
        rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        m = len(self.collection.documents)
        relevant = (gains >= 1) & (ids < m) & ~np.isin(rows * m + ids, own.keys(m))
        queries, first = np.unique(rows[relevant], return_index=True)
        return queries, ids[relevant][first]


def hold_out(
    data: TrainingSet, n: int, *, seed: int, last: bool = False
) -> tuple[TrainingSet, Collection]:
    """Splits off n queries to validate on; none that shares a positive with them is trained on.

    Args:
        data: queries with positives.
        n: queries to validate on.
        seed: of the random choice.
        last: hold out the last n queries instead; the seed has no effect then.

    Returns:
        The queries that are left to train on, and a collection of all documents with the n queries.

    Raises:
        ValueError: fewer than n + 1 queries, or none that shares nothing with those held out.
    """
    kept, chosen = held_out_rows(data, n, seed=seed, last=last)
    return data.take(kept), as_collection(data.take(chosen))


def held_out_rows(
    data: TrainingSet, n: int, *, seed: int, last: bool = False
) -> tuple[Integers, Integers]:
    """Returns the rows of the queries that are left to train on, and of those to validate on.

    Args:
        data, n, seed, last: as of `hold_out`.

    Raises:
        ValueError: as of `hold_out`.
    """
    total = len(data)
    if not 0 < n < total:
        raise ValueError(f"hold_out: expected 1 to {total - 1} queries, got {n}")
    order = np.arange(total)[::-1] if last else np.random.default_rng(seed).permutation(total)
    chosen = np.sort(order[:n])
    # Equal texts count as one, whatever ids the file gives them.
    documents, texts = data.document_groups()[data.positives.indices], data.query_groups()
    owners = data.positives.owners()
    held = np.isin(texts, texts[chosen])
    shared = np.isin(documents, documents[np.isin(owners, chosen)])
    held[owners[shared]] = True
    if held.all():
        raise ValueError(
            f"hold_out: every query shares a positive or its text with one of the {n} that are "
            "held out, so none is left to train on"
        )
    return np.flatnonzero(~held), chosen


def as_collection(data: TrainingSet) -> Collection:
    """Returns a collection of all documents, whose judgments are the positives of the queries."""
    judged = [dict.fromkeys(data.positives.of(row).tolist(), 1.0) for row in range(len(data))]
    return Collection(
        data.document_ids,
        data.documents,
        data.query_ids,
        data.queries,
        Qrels.pack(judged),
        titles=data.titles,
        prompts=data.prompts,
    )
