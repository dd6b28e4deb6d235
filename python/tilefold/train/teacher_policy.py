"""Adds a teacher's scores to drawn batches, computed from kept embeddings of a coarse encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays import Array, as_vectors, check_dim
from ..data import TrainingSet
from ..ragged_lists import Integers, Lists
from .batches import Batch, CoarseEmbeddings, TeacherScores, checked_rows
from .drawing import DrawingPolicy, check_same_queries

TeacherCandidates = Literal["own", "batch"]


class DrawTeacher:
    """Adds teacher scores and coarse embeddings to the batches of another policy.

    The score of a query and a passage is the inner product of their coarse embeddings, in float64,
    rounded to float32. So passages that no file has scored, such as negatives of a refresh, have a
    teacher score. `DistillationObjective` trains on the scores, `RepresentationObjective` on the
    embeddings (`Batch.coarse`).

    Args:
        policy: draws the passages.
        queries: float32 ``[n, d]``, an embedding for each query of the training set.
        documents: float32 ``[m, d]``, one for each of its documents; equal texts have equal
            embeddings. Memory maps are read where a step needs them.
        candidates: the passages that the teacher scores for a query: "own", those drawn for it, or
            "batch", all of the batch, each text once. A passage that is the query itself is not
            among them, unless it is a positive. Over several processes the batch is that of one
            process.

    Raises:
        TypeError: embeddings of another dtype.
        ValueError: other numbers of embeddings, two dimensions, an unknown value of candidates, a
            training set that has teacher scores of its own.

    Example:
        >>> import numpy as np
        >>> from tilefold.data import TrainingSet
        >>> from tilefold.ragged_lists import Lists
        >>> from tilefold.train import Draw
        >>> lists = Lists.pack([[0]]), Lists.pack([[1]])
        >>> data = TrainingSet(["q"], ["who?"], ["a", "b"], ["she", "he"], *lists, [()])
        >>> queries, documents = np.float32([[1, 2]]), np.float32([[3, 4], [5, 0]])
        >>> policy = DrawTeacher(Draw(data, group_size=2, seed=0), queries, documents)
        >>> policy.batch([0], step=0).teacher.scores
        tensor([11.,  5.])
    """

    def __init__(
        self,
        policy: DrawingPolicy,
        queries: Array,
        documents: Array,
        *,
        candidates: TeacherCandidates = "own",
    ) -> None:
        if candidates not in get_args(TeacherCandidates):
            raise ValueError(
                f"DrawTeacher: candidates must be 'own' or 'batch', got {candidates!r}"
            )
        data = policy.data
        if data.positive_scores is not None or data.negative_scores is not None:
            raise ValueError(
                "DrawTeacher: expected a training set without positive_scores and negative_scores, "
                "which its own scores would replace; set both to None"
            )
        self.queries = _embeddings("queries", queries, len(data))
        self.documents = _embeddings("documents", documents, len(data.documents))
        dims = self.queries.shape[1], self.documents.shape[1]
        check_dim("DrawTeacher", "queries", dims[0], "documents have", dims[1])
        self.policy = policy
        self.candidates: TeacherCandidates = candidates
        self._document_groups = data.document_groups()

    @property
    def data(self) -> TrainingSet:
        """The training set that is drawn from."""
        return self.policy.data

    def batch(self, rows: Sequence[int] | Integers, *, step: int) -> Batch:
        """Draws the batch of some queries; arguments as in `Draw.batch`.

        Raises:
            ValueError: a score that is not finite, or a policy whose batches do not name the rows
                of their documents.
        """
        rows = checked_rows(rows, len(self.data), "DrawTeacher")
        batch = self.policy.batch(rows, step=step)
        if batch.document_rows is None or batch.own_candidates is None:
            raise ValueError(
                "DrawTeacher: expected a policy whose batches have document_rows and "
                f"own_candidates, got {type(self.policy).__name__}"
            )
        document_rows = batch.document_rows.numpy()
        coarse = self.queries[rows], self.documents[document_rows]
        lists = (
            self._whole_batch(rows, batch) if self.candidates == "batch" else batch.own_candidates
        )
        teacher = TeacherScores(*lists, self._scores(coarse, lists, rows, document_rows))
        embeddings = CoarseEmbeddings(*(torch.from_numpy(x) for x in coarse))
        return batch._replace(teacher=teacher, coarse=embeddings)

    def with_data(self, data: TrainingSet) -> DrawTeacher:
        """Returns the same policy over other data with the same queries and documents.

        Raises:
            ValueError: other queries.
        """
        check_same_queries("DrawTeacher", self.data, data)
        policy = self.policy.with_data(data)
        return DrawTeacher(policy, self.queries, self.documents, candidates=self.candidates)

    def _whole_batch(self, rows: Integers, batch: Batch) -> tuple[Tensor, Tensor]:
        """Lists each text of the batch once for every query that it is not."""
        ids = batch.document_ids.numpy()
        first = np.sort(np.unique(ids, return_index=True)[1])
        offsets, excluded = (part.numpy() for part in batch.exclude_ids)
        lists = []
        for number, row in enumerate(rows):
            # What a batch excludes are the known positives of a query, and the query itself.
            positives = self._document_groups[self.data.positives.of(int(row))]
            itself = np.setdiff1d(excluded[offsets[number] : offsets[number + 1]], positives)
            lists.append(first[~np.isin(ids[first], itself)])
        packed = Lists.pack(lists)
        return torch.from_numpy(packed.offsets), torch.from_numpy(packed.indices)

    def _scores(
        self,
        coarse: tuple[NDArray[np.float32], NDArray[np.float32]],
        lists: tuple[Tensor, Tensor],
        rows: Integers,
        document_rows: Integers,
    ) -> Tensor:
        queries, documents = (x.astype(np.float64) for x in coarse)
        offsets, indices = (part.numpy() for part in lists)
        scores = np.zeros(len(indices), np.float32)
        for number, query in enumerate(queries):
            listed = slice(offsets[number], offsets[number + 1])
            # A sum of each row by itself: its bits do not depend on the others, as BLAS's may.
            scores[listed] = (documents[indices[listed]] * query).sum(1)
            if not np.isfinite(scores[listed]).all():
                place = int((~np.isfinite(scores[listed])).argmax())
                document = document_rows[indices[listed][place]]
                raise ValueError(
                    f"DrawTeacher: expected finite scores, got {scores[listed][place]} for query "
                    f"{self.data.query_ids[rows[number]]!r} and document "
                    f"{self.data.document_ids[document]!r}"
                )
        return torch.from_numpy(scores)


def _embeddings(name: str, array: Array, rows: int) -> NDArray[Any]:
    vectors = as_vectors(array, "DrawTeacher", name)
    if vectors.dtype != np.float32:
        raise TypeError(f"DrawTeacher: {name} must be float32, got {vectors.dtype}")
    if len(vectors) != rows:
        raise ValueError(f"DrawTeacher: expected {rows} embeddings of {name}, got {len(vectors)}")
    return vectors
