"""Questions that were made from passages, with the passages that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ragged_lists import Lists


@dataclass(frozen=True)
class SyntheticQuestions:
    """Questions made from passages, such as by templates, crops, or a language model.

    Args:
        questions: n different texts.
        documents: rows of the documents that each was made from, one or more.
        answers: n answers, "" where none is known; by default none is.
        clozes: n sentences with ``[MASK]`` for the answer, "" where there is none.

    Raises:
        ValueError: columns of other lengths, a question without a document, or twice.

    Example:
        >>> made = SyntheticQuestions.merged(["where?", "who?", "where?"], [4, 0, 2])
        >>> made.questions, made.documents.of(0).tolist()
        (['where?', 'who?'], [2, 4])
    """

    questions: list[str]
    documents: Lists
    answers: list[str] = field(default_factory=list)
    clozes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.questions)
        for name in ("answers", "clozes"):
            if not getattr(self, name):
                object.__setattr__(self, name, [""] * n)
        lengths = {
            "documents": len(self.documents.offsets) - 1,
            "answers": len(self.answers),
            "clozes": len(self.clozes),
        }
        for name, length in lengths.items():
            if length != n:
                raise ValueError(f"SyntheticQuestions: expected {n} {name}, got {length}")
        if (np.diff(self.documents.offsets) < 1).any():
            raise ValueError("SyntheticQuestions: every question must have a document")
        if len(set(self.questions)) < n:
            raise ValueError("SyntheticQuestions: a question is there twice; see merged()")

    @classmethod
    def merged(
        cls,
        questions: Sequence[str],
        documents: Sequence[int],
        answers: Sequence[str] = (),
        clozes: Sequence[str] = (),
    ) -> SyntheticQuestions:
        """Joins equal questions: each has all of its documents, and the first answer.

        Args:
            questions: m texts, of any generator.
            documents: the row of the document of each.
            answers, clozes: of each; empty for none.

        Raises:
            ValueError: columns of different lengths.
        """
        columns: dict[str, Any] = {"documents": documents, "answers": answers, "clozes": clozes}
        for name, column in columns.items():
            if len(column) != len(questions) and (len(column) or name == "documents"):
                raise ValueError(
                    f"SyntheticQuestions.merged: expected {len(questions)} {name}, got "
                    f"{len(column)}"
                )
        first: dict[str, int] = {}
        rows: dict[str, set[int]] = {}
        for place, (question, document) in enumerate(zip(questions, documents, strict=True)):
            first.setdefault(question, place)
            rows.setdefault(question, set()).add(int(document))
        places = list(first.values())
        return cls(
            list(first),
            Lists.pack([sorted(rows[question]) for question in first]),
            [answers[place] for place in places] if len(answers) else [],
            [clozes[place] for place in places] if len(clozes) else [],
        )

    def __len__(self) -> int:
        """Returns the number of questions."""
        return len(self.questions)

    def take(self, rows: Any) -> SyntheticQuestions:
        """Selects questions, in this order.

        Args:
            rows: integers, a slice or a mask.
        """
        chosen = np.arange(len(self))[rows].tolist()
        return SyntheticQuestions(
            [self.questions[row] for row in chosen],
            Lists.pack([self.documents.of(row) for row in chosen]),
            [self.answers[row] for row in chosen],
            [self.clozes[row] for row in chosen],
        )
