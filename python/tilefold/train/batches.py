"""Builds the batch of a training step: texts, positives, masks, teacher scores, views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import TrainingSet, own_documents
from ..data.self_retrieval import Identity
from ..losses import count_negatives
from ..ragged_lists import Integers, Lists


class TeacherScores(NamedTuple):
    """A teacher's scores of the passages listed for each query of a batch, as CSR lists."""

    offsets: Tensor  # [n + 1] int64
    indices: Tensor  # [listed] int64, rows of Batch.documents
    scores: Tensor  # [listed] float32


class CoarseEmbeddings(NamedTuple):
    """Kept embeddings of another encoder for the texts of a batch, such as those of a small one."""

    queries: Tensor  # [n, d] float32
    documents: Tensor  # [m, d] float32


class Batch(NamedTuple):
    """Texts and labels of n queries and m passages; no embeddings.

    `positives`, the ids and `exclude_ids` have the form that `contrastive_loss` takes.
    """

    queries: list[str]
    documents: list[str]
    positives: Tensor | tuple[Tensor, Tensor]  # [n] int64 rows of documents, or CSR lists of them
    query_ids: Tensor  # [n] int64: equal queries have one id
    document_ids: Tensor  # [m] int64
    exclude_ids: tuple[Tensor, Tensor]  # CSR: document_ids of known positives and the query itself
    titles: list[str] | None = None  # m, "" where a document has none; joined when tokenized
    prompts: list[str] | None = None  # n, "" where a query has none; the same
    query_views: tuple[list[str], ...] = ()  # other wordings of the queries, n in each view
    document_views: tuple[list[str], ...] = ()  # other forms of the documents, m in each view
    teacher: TeacherScores | None = None
    step: int = 0  # of the optimizer; schedules of weights are evaluated at it
    document_rows: Tensor | None = None  # [m] int64, rows of the training set's documents
    # CSR lists of rows of documents: what was drawn for each query, without the query itself
    own_candidates: tuple[Tensor, Tensor] | None = None
    coarse: CoarseEmbeddings | None = None

    def negatives(self) -> float:
        """Returns the mean number of negatives of a query after masks."""
        counts = count_negatives(
            len(self.documents),
            self.positives,
            exclude_ids=self.exclude_ids,
            query_ids=self.query_ids,
            document_ids=self.document_ids,
        )
        return float(counts.double().mean())


class Group(NamedTuple):
    """The passages drawn for one query, as places in its lists of the training set."""

    positives: Integers  # places in `data.positives.of(row)`
    negatives: Integers  # places in `data.negatives.of(row)`


class BatchBuilder:
    """Turns the groups of passages that a policy draws into a `Batch`.

    Args:
        data: queries, passages and their lists.
        remove_query: which passages are no negatives of a query as they are the query itself, see
            `tilefold.data.own_documents`.
    """

    def __init__(self, data: TrainingSet, *, remove_query: Identity = "text") -> None:
        self.data = data
        self.remove_query = remove_query
        self._own = own_documents(data, remove_query)
        # Equal texts are one query or one passage, whatever ids the file gives them.
        self._query_ids = data.query_groups()
        self._document_ids = data.document_groups()

    def build(
        self,
        rows: Sequence[int] | Integers,
        groups: Sequence[Group],
        *,
        step: int,
        several: bool = False,
    ) -> Batch:
        """Builds the batch of some queries.

        Args:
            rows: the queries, as rows of the training set.
            groups: the passages drawn for each; its positives come first in `Batch.documents`.
            step: of the optimizer.
            several: give positives as CSR lists; otherwise each group has exactly one.
        """
        drawn = [self._documents(int(row), group) for row, group in zip(rows, groups, strict=True)]
        sizes = [len(group) for group in drawn]
        starts: Integers = np.cumsum([0, *sizes], dtype=np.int64)
        documents = np.concatenate([np.zeros(0, np.int64), *drawn])
        first = torch.from_numpy(starts[:-1].copy())
        return Batch(
            [self.data.queries[int(row)] for row in rows],
            [self.data.documents[row] for row in documents],
            _lists_of_positives(groups, starts) if several else first,
            torch.from_numpy(self._query_ids[np.asarray(rows, np.int64)]),
            torch.from_numpy(self._document_ids[documents]),
            self._no_negatives(rows),
            titles=[self.data.titles[row] for row in documents],
            prompts=[self.data.prompts[int(row)] for row in rows],
            teacher=self._teacher(rows, groups, starts),
            step=step,
            document_rows=torch.from_numpy(documents),
            own_candidates=self._own_candidates(rows, groups, drawn, starts),
        )

    def _documents(self, row: int, group: Group) -> Integers:
        own, hard = self.data.positives.of(row), self.data.negatives.of(row)
        return np.concatenate([own[group.positives], hard[group.negatives]])

    def _teacher(
        self, rows: Sequence[int] | Integers, groups: Sequence[Group], starts: Integers
    ) -> TeacherScores | None:
        """Returns scores of the drawn passages: NaN where the file has none; None without any."""
        data = self.data
        if data.positive_scores is None and data.negative_scores is None:
            return None
        sides = (data.positives, data.positive_scores), (data.negatives, data.negative_scores)
        parts = [
            _scores_at(lists, scores, int(row), places)
            for row, group in zip(rows, groups, strict=True)
            for (lists, scores), places in zip(sides, group, strict=True)
        ]
        scores = np.concatenate([np.zeros(0, np.float32), *parts])
        listed = torch.arange(len(scores))
        return TeacherScores(torch.from_numpy(starts), listed, torch.from_numpy(scores))

    def _own_candidates(
        self,
        rows: Sequence[int] | Integers,
        groups: Sequence[Group],
        drawn: Sequence[Integers],
        starts: Integers,
    ) -> tuple[Tensor, Tensor]:
        """Returns what was drawn for each query, but no negative that is the query itself."""
        lists = []
        for row, group, documents, start in zip(rows, groups, drawn, starts[:-1], strict=True):
            itself = self._document_ids[self._own.of(int(row))]
            kept = ~np.isin(self._document_ids[documents], itself)
            kept[: len(group.positives)] = True
            lists.append(start + kept.nonzero()[0])
        offsets, indices = Lists.pack(lists)
        return torch.from_numpy(offsets), torch.from_numpy(indices)

    def _no_negatives(self, rows: Sequence[int] | Integers) -> tuple[Tensor, Tensor]:
        """Returns ids of each query's positives and own documents, masked on every process."""
        lists = (self.data.positives, self._own)
        known = [
            self._document_ids[np.concatenate([some.of(int(row)) for some in lists])]
            for row in rows
        ]
        offsets, ids = Lists.pack(known)
        return torch.from_numpy(offsets), torch.from_numpy(ids)


def checked_rows(rows: Sequence[int] | Integers, n: int, op: str) -> Integers:
    """Returns rows of a training set of n queries as an array.

    Raises:
        ValueError: rows that are no integers, or out of range.
    """
    found = np.asarray(rows)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ValueError(f"{op}: rows must be a sequence of integers, got {rows!r}")
    wrong = found[(found < 0) | (found >= n)]
    if len(wrong):
        raise ValueError(f"{op}: rows must be 0 to {n - 1}, got {wrong[0]}")
    return found.astype(np.int64)


def _lists_of_positives(groups: Sequence[Group], starts: Integers) -> tuple[Tensor, Tensor]:
    lists = [
        start + np.arange(len(group.positives))
        for group, start in zip(groups, starts[:-1], strict=True)
    ]
    offsets, indices = Lists.pack(lists)
    return torch.from_numpy(offsets), torch.from_numpy(indices)


def _scores_at(
    lists: Lists, scores: NDArray[np.float64] | None, row: int, places: Integers
) -> NDArray[np.float32]:
    if scores is None:
        return np.full(len(places), np.nan, np.float32)
    listed: NDArray[np.float32] = scores[lists.offsets[row] + places].astype(np.float32)
    return listed
