"""Rankings of several systems on one collection, with what a report of them needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Collection, Run
from ...evaluate.gains import judge
from ...ragged_lists import Lists

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RankedSystem:
    """What a system found for each query.

    Args:
        ids: ``[n, k]`` documents, best first, -1 where there is no result.
        scores: ``[n, k]`` of these documents; NaN where one is not known.
        values: ``[n]`` of each measure by its name, NaN where a query has none.
        queries: ``[n, dim]`` embeddings; None for a system without any.
        documents: ``[m, dim]`` embeddings; None for a system without any.
    """

    ids: NDArray[np.int64]
    scores: NDArray[Any]
    values: Mapping[str, FloatArray]
    queries: NDArray[np.float32] | None = None
    documents: NDArray[np.float32] | None = None

    @property
    def found_nothing(self) -> int:
        """Number of queries without a result."""
        return int((self.ids < 0).all(axis=1).sum())

    @property
    def embeddings(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Embeddings of queries and documents; None unless there are both."""
        if self.queries is None or self.documents is None:
            return None
        return self.queries, self.documents


@dataclass(frozen=True)
class EvaluatedSystems:
    """Systems with the same queries, documents and measures.

    Args:
        collection: documents, queries and judgments.
        systems: by name; the first one is compared with each other one.
        title: of the report.
        gains: mean difference, low, high and corrected p value by measure, of the first system
            over the second one; empty where they were not tested.
        settings: by name, of the table of settings.
        removed: documents that a query does not rank as they are the query itself; None for none.

    Raises:
        ValueError: no system, or one whose rankings, scores or values have another shape.
    """

    collection: Collection
    systems: Mapping[str, RankedSystem]
    title: str
    gains: Mapping[str, Sequence[float]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    removed: Lists | None = None

    def __post_init__(self) -> None:
        if not self.systems:
            raise ValueError("EvaluatedSystems: expected one system or more, got none")
        first, n = next(iter(self.systems.values())), len(self.collection.query_ids)
        for name, system in self.systems.items():
            shapes = system.ids.shape, system.scores.shape
            if shapes != ((n, first.ids.shape[1]),) * 2:
                raise ValueError(
                    f"EvaluatedSystems: ids and scores of {name} must be [{n}, "
                    f"{first.ids.shape[1]}], got {list(shapes[0])} and {list(shapes[1])}"
                )
            if list(system.values) != list(first.values) or not first.values:
                raise ValueError(
                    f"EvaluatedSystems: {name} must have the measures {list(first.values)}, got "
                    f"{list(system.values)}"
                )

    @property
    def measures(self) -> list[str]:
        """Names of the measures."""
        return list(next(iter(self.systems.values())).values)

    @property
    def k(self) -> int:
        """Ranks of each query."""
        return int(next(iter(self.systems.values())).ids.shape[1])

    @cached_property
    def relevant(self) -> list[NDArray[np.int64]]:
        """Documents of each query whose judgment has a gain of 1 or more."""
        offsets, ids, gains = self.collection.qrels
        return [ids[low:high][gains[low:high] >= 1] for low, high in pairwise(offsets)]

    def ranks(self, system: RankedSystem) -> list[list[int]]:
        """Returns the ranks of relevant documents of each query, from 1 on, best first."""
        hits = judge(system.ids, self.collection.qrels).gains >= 1
        return [(np.flatnonzero(row) + 1).tolist() for row in hits]

    def document_text(self, document: int) -> str:
        """Returns title and text of a document, or its id where the corpus lacks it."""
        texts = self.collection
        if document >= len(texts.documents):
            absent = document - len(texts.documents)
            name = texts.absent[absent] if absent < len(texts.absent) else f"document {document}"
            return f"{name} (not in the corpus)"
        title = texts.titles[document] if len(texts.titles) else ""
        return ": ".join(filter(None, (title, texts.documents[document])))


def scores_of_run(run: Run, collection: Collection, k: int) -> tuple[Any, Any]:
    """Returns scores and ids ``[n, k]`` of a run of TREC, for a `RankedSystem`.

    Args:
        run: of `tilefold.data.read_run`; queries that it lacks have no results.
        collection: whose queries and documents are the rows and ids.
        k: ranks to keep.
    """
    names = [*collection.document_ids, *collection.absent]
    ids = run.ranking(collection.query_ids, names, k)
    scores = np.full(ids.shape, np.nan)
    rows = {name: row for row, name in enumerate(run.query_ids)}
    for row, name in enumerate(collection.query_ids):
        if name in rows:
            start, stop = run.offsets[rows[name] : rows[name] + 2]
            own = run.scores[start:stop][:k]
            scores[row, : len(own)] = own
    return scores, ids
