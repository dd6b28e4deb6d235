"""A training set: queries with their positives and hard negatives, from every format alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ragged_lists import Lists, checked
from .qrels import FloatArray


@dataclass(frozen=True)
class TrainingSet:
    """Queries with their positives and hard negatives, as rows of one list of documents.

    Raises:
        ValueError: lengths that do not fit, rows that are no documents or are listed twice, a
            query without a positive, or one whose negatives have one of its positives.
    """

    query_ids: list[str]
    queries: list[str]
    document_ids: list[str]  # unique; of passages without an id, a digest of title and text
    documents: list[str]  # title and text
    positives: Lists  # rows of documents, at least one for each query
    negatives: Lists  # the same, as the file has them; may be empty for a query
    answers: list[tuple[str, ...]]  # of each query; empty where the file has none
    positive_scores: FloatArray | None = None  # a teacher's, of each index of positives; may be NaN
    negative_scores: FloatArray | None = None  # the same for negatives

    def __post_init__(self) -> None:
        n, m = len(self.queries), len(self.documents)
        for name, length in (("query_ids", n), ("answers", n), ("document_ids", m)):
            if len(getattr(self, name)) != length:
                raise ValueError(
                    f"TrainingSet: expected {length} {name}, got {len(getattr(self, name))}"
                )
        for name in ("positives", "negatives"):
            self._check_lists(name, n, m)
        if (np.diff(self.positives.offsets) == 0).any():
            query = int((np.diff(self.positives.offsets) == 0).argmax())
            raise ValueError(f"TrainingSet: query {self.query_ids[query]!r} has no positive")
        both = np.intersect1d(self.positives.keys(m), self.negatives.keys(m))
        if len(both):
            query, document = divmod(int(both[0]), m)
            raise ValueError(
                f"TrainingSet: document {self.document_ids[document]!r} is both positive and "
                f"negative of query {self.query_ids[query]!r}"
            )

    def _check_lists(self, name: str, n: int, m: int) -> None:
        lists: Lists = getattr(self, name)
        if len(lists.offsets) != n + 1:
            raise ValueError(
                f"TrainingSet: expected {name} of {n} queries, got {len(lists.offsets) - 1}"
            )
        checked(lists, "TrainingSet", name, m)
        scores = getattr(self, f"{name[:-1]}_scores")
        if scores is not None and len(scores) != len(lists.indices):
            raise ValueError(
                f"TrainingSet: expected {len(lists.indices)} {name[:-1]}_scores, got {len(scores)}"
            )

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.queries)

    def take(self, rows: Any) -> TrainingSet:
        """Some queries, in this order, with all documents; rows are integers, a slice or a mask."""
        chosen = np.arange(len(self))[rows].tolist()
        positives, positive_scores = _taken(self.positives, self.positive_scores, chosen)
        negatives, negative_scores = _taken(self.negatives, self.negative_scores, chosen)
        return replace(
            self,
            query_ids=[self.query_ids[row] for row in chosen],
            queries=[self.queries[row] for row in chosen],
            answers=[self.answers[row] for row in chosen],
            positives=positives,
            negatives=negatives,
            positive_scores=positive_scores,
            negative_scores=negative_scores,
        )

    def with_negatives(self, negatives: Lists) -> TrainingSet:
        """The same queries with other negatives, such as mining gives; their scores are gone."""
        return replace(self, negatives=Lists(*negatives), negative_scores=None)


def _taken(
    lists: Lists, scores: FloatArray | None, rows: list[int]
) -> tuple[Lists, FloatArray | None]:
    starts, stops = lists.offsets[:-1][rows], lists.offsets[1:][rows]
    parts = [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
    places = np.concatenate([np.zeros(0, np.int64), *parts])
    offsets = np.cumsum([0, *(stops - starts)], dtype=np.int64)
    return Lists(offsets, lists.indices[places]), None if scores is None else scores[places]
