"""A training set in the making: records come in one by one, and repeated passages become one."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from ..ragged_lists import Lists
from .lines import Place, StrPath, clipped
from .passages import Example, Join, Passage
from .qrels import FloatArray
from .training_set import TrainingSet


class Gathering:
    """A training set in the making: examples come in, documents are numbered as they come.

    Args:
        join: makes the text of a document of title and text.
        join_prompt: makes the text of a query of prompt and query.
        drop: whether a query without positives is left out; else it is an error.
    """

    def __init__(self, join: Join, join_prompt: Join, *, drop: bool) -> None:
        self.join, self._join_prompt = join, join_prompt
        self.drop = drop
        self._rows: dict[str, int] = {}  # of queries, by id, or by text where records are partial
        self._query_ids: list[str] = []
        self._queries: list[str] = []
        self._query_lines = array("q")
        self._answers: list[tuple[str, ...]] = []
        self._documents: dict[str, int] = {}
        self._texts: list[str] = []
        self._text_lines = array("q")
        # {row of the document: score} of each query
        self._positives: list[dict[int, float]] = []
        self._negatives: list[dict[int, float]] = []
        self._seen = 0
        self._path: StrPath = ""

    def add(self, example: Example) -> None:
        """One more record."""
        number, self._seen, self._path = self._seen, self._seen + 1, example.place.path
        if not (example.positives or example.partial):
            if self.drop:
                return
            no_positive(example.place, example.query)
        query = self._query(example, number)
        positives, negatives = self._positives[query], self._negatives[query]
        self._list(example.place, example.positives, positives, negatives)
        self._list(example.place, example.negatives, negatives, positives)

    def corpus(self, texts: Mapping[str, str]) -> None:
        """Documents {id: text} that are there whether or not a query lists them; comes first."""
        self._documents = {name: row for row, name in enumerate(texts)}
        self._texts = list(texts.values())
        self._text_lines = array("q", [0]) * len(texts)

    def finish(self, source: str) -> TrainingSet:
        """The set, once all examples are in."""
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
        )

    def _query(self, example: Example, number: int) -> int:
        """The row of the example's query."""
        text = self._join_prompt(example.prompt, example.query)
        key = example.name or (text if example.partial else str(number))
        row = self._rows.setdefault(key, len(self._queries))
        if row == len(self._queries):
            name = example.name or str(row if example.partial else number)
            self._query_ids.append(name)
            self._queries.append(text)
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
        """The row of a passage; the same id must have the same text."""
        text = self.join(passage.title, passage.text)
        row = self._documents.setdefault(passage.identity(), len(self._texts))
        if row == len(self._texts):
            self._texts.append(text)
            self._text_lines.append(place.line)
        elif self._texts[row] != text:
            first = self._text_lines[row]
            place.fail(f"document {passage.name!r} has another text than in line {first}")
        return row


def no_positive(place: Place, query: str) -> NoReturn:
    """Complains of a query without positives."""
    place.fail(
        f"the query {clipped(query)!r} has no positive; on_missing_positive='drop' leaves it out"
    )


def _packed(listed: list[dict[int, float]]) -> tuple[Lists, FloatArray | None]:
    """The lists, and their scores if there are any."""
    offsets = np.cumsum([0, *map(len, listed)], dtype=np.int64)
    indices = np.fromiter((row for rows in listed for row in rows), np.int64, int(offsets[-1]))
    scores = np.fromiter(
        (score for rows in listed for score in rows.values()), np.float64, int(offsets[-1])
    )
    return Lists(offsets, indices), None if np.isnan(scores).all() else scores
