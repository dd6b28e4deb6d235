"""Builds a training set from records, one by one; repeated passages become one document."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from ..ragged_lists import Lists
from .documents import Documents
from .lines import Place, StrPath, clipped
from .passages import Example, Passage
from .qrels import FloatArray
from .training_set import TrainingSet


class Gathering:
    """Builds a training set: examples are added, documents are numbered as they come.

    Args:
        drop: whether a query without positives is left out; otherwise it is an error.
    """

    def __init__(self, *, drop: bool) -> None:
        self.drop = drop
        # Rows of queries, by id, or by prompt and text where records are partial.
        self._rows: dict[str | tuple[str, str], int] = {}
        self._query_ids: list[str] = []
        self._queries: list[str] = []
        self._prompts: list[str] = []
        self._query_lines = array("q")
        self._answers: list[tuple[str, ...]] = []
        self._documents: dict[str, int] = {}
        self._texts: list[str] = []
        self._titles: list[str] = []
        self._text_lines = array("q")
        # {row of the document: score} of each query
        self._positives: list[dict[int, float]] = []
        self._negatives: list[dict[int, float]] = []
        self._seen = 0
        self._path: StrPath = ""

    def add(self, example: Example) -> None:
        """Adds a record."""
        number, self._seen, self._path = self._seen, self._seen + 1, example.place.path
        if not (example.positives or example.partial):
            if self.drop:
                return
            no_positive(example.place, example.query)
        query = self._query(example, number)
        positives, negatives = self._positives[query], self._negatives[query]
        self._list(example.place, example.positives, positives, negatives)
        self._list(example.place, example.negatives, negatives, positives)

    def corpus(self, documents: Documents) -> dict[str, int]:
        """Adds documents that no query needs to list, before all examples; returns their rows."""
        self._documents = documents.rows()
        self._texts, self._titles = list(documents.texts), list(documents.titles)
        self._text_lines = array("q", [0]) * len(documents)
        return self._documents

    def finish(self, source: str) -> TrainingSet:
        """Returns the set, once all examples are added."""
        if not self._seen:
            raise ValueError(f"{source}: the file is empty")
        kept = [row for row, listed in enumerate(self._positives) if listed]
        if len(kept) < len(self._queries) and not self.drop:
            row = next(row for row, listed in enumerate(self._positives) if not listed)
            no_positive(Place(self._path, self._query_lines[row]), self._queries[row])
        if not kept:
            raise ValueError(f"{source}: no query has a positive")
        positives, positive_scores = _packed([self._positives[row] for row in kept])
        negatives, negative_scores = _packed([self._negatives[row] for row in kept])
        return TrainingSet(
            query_ids=[self._query_ids[row] for row in kept],
            queries=[self._queries[row] for row in kept],
            document_ids=list(self._documents),
            documents=self._texts,
            positives=positives,
            negatives=negatives,
            answers=[self._answers[row] for row in kept],
            positive_scores=positive_scores,
            negative_scores=negative_scores,
            titles=self._titles,
            prompts=[self._prompts[row] for row in kept],
        )

    def _query(self, example: Example, number: int) -> int:
        """Returns the row of the example's query."""
        asked = (example.prompt, example.query)
        key = example.name or (asked if example.partial else str(number))
        row = self._rows.setdefault(key, len(self._queries))
        if row == len(self._queries):
            name = example.name or str(row if example.partial else number)
            self._query_ids.append(name)
            self._queries.append(example.query)
            self._prompts.append(example.prompt)
            self._query_lines.append(example.place.line)
            self._answers.append(example.answers)
            self._positives.append({})
            self._negatives.append({})
        elif not example.partial:
            example.place.fail(f"query id {key!r} is already that of line {self._query_lines[row]}")
        return row

    def _list(
        self,
        place: Place,
        passages: Sequence[Passage],
        own: dict[int, float],
        other: dict[int, float],
    ) -> None:
        """Adds documents to the positives or negatives of a query; one listed twice counts once."""
        for passage in passages:
            row = self._document(place, passage)
            if row in other:
                shown = clipped(passage.name or self._texts[row])
                place.fail(f"document {shown!r} is both positive and negative of the query")
            own.setdefault(row, passage.score)

    def _document(self, place: Place, passage: Passage) -> int:
        """Returns the row of a passage; the same id must have the same title and text."""
        row = self._documents.setdefault(passage.identity(), len(self._texts))
        if row == len(self._texts):
            self._texts.append(passage.text)
            self._titles.append(passage.title)
            self._text_lines.append(place.line)
        elif (self._texts[row], self._titles[row]) != (passage.text, passage.title):
            what = "text" if self._texts[row] != passage.text else "title"
            first = self._text_lines[row]
            place.fail(f"document {passage.name!r} has another {what} than in line {first}")
        return row


def no_positive(place: Place, query: str) -> NoReturn:
    """Raises ValueError for a query without positives."""
    place.fail(
        f"the query {clipped(query)!r} has no positive; on_missing_positive='drop' leaves it out"
    )


def _packed(listed: list[dict[int, float]]) -> tuple[Lists, FloatArray | None]:
    """Returns the lists, and their scores if there are any."""
    offsets = np.cumsum([0, *map(len, listed)], dtype=np.int64)
    indices = np.fromiter((row for rows in listed for row in rows), np.int64, int(offsets[-1]))
    scores = np.fromiter(
        (score for rows in listed for score in rows.values()), np.float64, int(offsets[-1])
    )
    return Lists(offsets, indices), None if np.isnan(scores).all() else scores
