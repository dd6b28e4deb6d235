"""A training set: queries with their positives and hard negatives, from every format alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..ragged_lists import Lists, checked
from .prompts import PROMPT_FORMAT, TITLE_FORMAT, document_texts, query_texts
from .qrels import FloatArray, IdArray
from .questions import Question
from .text_columns import fill_column, text_groups


@dataclass(frozen=True)
class TrainingSet:
    """Queries with their positives and hard negatives, as rows of one list of documents.

    Titles and prompts are columns beside texts and queries. They are joined only when a text is
    encoded or a prompt is formatted: by `BiEncoder.encode_documents(documents, titles)`,
    `BiEncoder.encode_queries(queries, prompts)`, or `joined`.

    Args:
        query_ids: n ids.
        queries: n texts, without their prompts.
        document_ids: m unique ids; of passages without an id, a digest of title and text.
        documents: m texts, without their titles.
        positives: rows of documents, at least one for each query.
        negatives: hard negatives, as rows of documents; a query may have none.
        answers: those of each query; empty where the source has none.
        positive_scores: a teacher's score for each index of `positives`, NaN where there is none.
        negative_scores: the same for `negatives`.
        titles: m titles, "" where a document has none; an empty list for no titles at all.
        prompts: n prompts (instructions), "" where a query has none; an empty list for none at all.

    Raises:
        ValueError: lengths that do not fit, rows that are no documents or are listed twice, a
            query without a positive, or one whose negatives have one of its positives.
    """

    query_ids: list[str]
    queries: list[str]
    document_ids: list[str]
    documents: list[str]
    positives: Lists
    negatives: Lists
    answers: list[tuple[str, ...]]
    positive_scores: FloatArray | None = None
    negative_scores: FloatArray | None = None
    titles: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        n, m = len(self.queries), len(self.documents)
        fill_column(self, "titles", m)
        fill_column(self, "prompts", n)
        lengths = {"query_ids": n, "answers": n, "prompts": n, "document_ids": m, "titles": m}
        for name, length in lengths.items():
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
        _check_kind(lists, name)
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
        """Returns the number of queries."""
        return len(self.queries)

    def take(self, rows: Any) -> TrainingSet:
        """Selects queries, in this order, with all documents.

        Args:
            rows: integers, a slice or a mask.
        """
        chosen = np.arange(len(self))[rows].tolist()
        positives, positive_scores = _taken(self.positives, self.positive_scores, chosen)
        negatives, negative_scores = _taken(self.negatives, self.negative_scores, chosen)
        return replace(
            self,
            query_ids=[self.query_ids[row] for row in chosen],
            queries=[self.queries[row] for row in chosen],
            prompts=[self.prompts[row] for row in chosen],
            answers=[self.answers[row] for row in chosen],
            positives=positives,
            negatives=negatives,
            positive_scores=positive_scores,
            negative_scores=negative_scores,
        )

    def with_negatives(self, negatives: Lists) -> TrainingSet:
        """Replaces the negatives, as by mined ones; the new ones have no scores."""
        return replace(self, negatives=Lists(*negatives), negative_scores=None)

    def with_answers(self, questions: Sequence[Question]) -> TrainingSet:
        """Replaces the answers by those of questions with the same ids, as `read_questions` reads.

        A query whose id is not among them has no answer then.

        Args:
            questions: with answers.

        Raises:
            ValueError: no query has the id of a question.
        """
        known = {question.id: question.answers for question in questions}
        if not any(name in known for name in self.query_ids):
            raise ValueError(
                f"TrainingSet.with_answers: expected ids of queries such as {self.query_ids[0]!r}, "
                f"got {len(known)} others"
            )
        return replace(self, answers=[known.get(name, ()) for name in self.query_ids])

    def joined(
        self, title_format: str = TITLE_FORMAT, query_format: str = PROMPT_FORMAT
    ) -> TrainingSet:
        """Joins titles into documents and prompts into queries, and leaves no titles and prompts.

        Args:
            title_format: of `document_texts`.
            query_format: of `query_texts`.
        """
        return replace(
            self,
            documents=list(document_texts(self.documents, self.titles, title_format)),
            queries=list(query_texts(self.queries, self.prompts, query_format)),
            titles=[],
            prompts=[],
        )

    def document_groups(self) -> IdArray:
        """Returns int64 ``[m]``, equal for documents with equal title and text."""
        return text_groups(self.titles, self.documents)

    def query_groups(self) -> IdArray:
        """Returns int64 ``[n]``, equal for queries with equal prompt and text."""
        return text_groups(self.prompts, self.queries)


def _check_kind(lists: Any, name: str) -> None:
    """Refuses what is no pair of integer arrays, such as a list of lists."""
    parts: tuple[Any, ...] = tuple(lists) if isinstance(lists, Lists) else ()
    kinds = [getattr(part, "dtype", None) or type(part).__name__ for part in parts]
    if not parts or not all(
        isinstance(part, np.ndarray) and part.ndim == 1 and part.dtype.kind in "iu"
        for part in parts
    ):
        got = f"offsets and indices of {kinds[0]} and {kinds[1]}" if kinds else type(lists).__name__
        raise ValueError(
            f"TrainingSet: {name} must be Lists of rows of documents, two arrays of integers such "
            f"as Lists.pack([[0, 2], [1]]), got {got}"
        )


def _taken(
    lists: Lists, scores: FloatArray | None, rows: list[int]
) -> tuple[Lists, FloatArray | None]:
    starts, stops = lists.offsets[:-1][rows], lists.offsets[1:][rows]
    parts = [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
    places = np.concatenate([np.zeros(0, np.int64), *parts])
    offsets = np.cumsum([0, *(stops - starts)], dtype=np.int64)
    return Lists(offsets, lists.indices[places]), None if scores is None else scores[places]
