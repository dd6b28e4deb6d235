"""Groups test questions that are about the same documents, as they are not independent."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..ragged_lists import Lists
from .paired_comparison import group_means

_Key = TypeVar("_Key", bound=Hashable)
_SHARED, _SAME = "that share a relevant passage", "that have the same relevant passages"
_LARGEST = 0.5  # share of the questions in one group


@dataclass(frozen=True)
class QuestionGroups:
    """Questions that are one sample of bootstrap intervals and paired tests.

    Args:
        rows: questions of each group of two or more; every other question is one by itself.
        n_questions: questions in all.
        rule: what puts questions into one group.
    """

    rows: Sequence[Sequence[int]]
    n_questions: int
    rule: str

    def __len__(self) -> int:
        """Returns the number of samples."""
        return self.n_questions - sum(len(own) - 1 for own in self.rows)

    @property
    def description(self) -> str:
        """What the samples are, such as "questions"."""
        if not self.rows:
            return "questions"
        return f"groups of {self.n_questions:,} questions {self.rule}"

    def means(self, values: Mapping[_Key, NDArray[np.float64]]) -> dict[_Key, NDArray[np.float64]]:
        """Averages values of questions over each group; as they are where each is its own.

        Args:
            values: float64 ``[n_questions]`` by measure.

        Returns:
            float64 ``[len(self)]`` by measure.

        Raises:
            ValueError: values of another number of questions.
        """
        for key, own in values.items():
            if len(own) != self.n_questions:
                raise ValueError(
                    f"QuestionGroups.means: expected {self.n_questions} values of {key}, got "
                    f"{len(own)}"
                )
        return {key: group_means(own, self.rows) for key, own in values.items()}


def question_groups(positives: Lists) -> QuestionGroups:
    """Groups questions that share a relevant document, directly or through other questions.

    Where each document is relevant to several questions and each question has several documents,
    such chains connect nearly all questions, and one group would hold them all: a mean over groups
    would then say little about most questions. So where a group has more than half of the
    questions, only those with the same relevant documents are one.

    Args:
        positives: relevant documents of each question.

    Example:
        >>> groups = question_groups(Lists.pack([[1, 2], [3], [2], [4]]))
        >>> groups.rows, len(groups)
        ([[0, 2]], 3)
        >>> groups.description
        'groups of 4 questions that share a relevant passage'
    """
    n = len(positives.offsets) - 1
    connected = _connected(positives, n)
    if max(map(len, connected), default=0) <= _LARGEST * n:
        return QuestionGroups(connected, n, _SHARED)
    sets = [tuple(sorted(positives.of(row).tolist())) for row in range(n)]
    return QuestionGroups(_groups([own or row for row, own in enumerate(sets)]), n, _SAME)


def _connected(positives: Lists, n: int) -> list[list[int]]:
    parents = list(range(n))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]  # halves the path, so that it stays short
            row = parents[row]
        return row

    first: dict[int, int] = {}  # a question of each document
    for row in range(n):
        for document in positives.of(row).tolist():
            parents[root(row)] = root(first.setdefault(document, row))
    return _groups([root(row) for row in range(n)])


def _groups(keys: Sequence[Any]) -> list[list[int]]:
    """Returns the rows of each key that two or more have, in the order of their first rows."""
    found: dict[Any, list[int]] = {}
    for row, key in enumerate(keys):
        found.setdefault(key, []).append(row)
    return [rows for rows in found.values() if len(rows) > 1]
