"""Distils a teacher's scores of passages into a bi-encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...losses import AlignmentLoss
from ...models import BiEncoder
from ..batches import Batch
from .objective import BiEncoderObjective, ObjectiveLoss, check_kind, query_share, widened


class DistillationObjective(BiEncoderObjective):
    """A bi-encoder in training whose scores follow those of a teacher, such as a cross-encoder.

    With S the student's softmax over the passages listed for a query and T that of the teacher's
    scores, each at its own temperature, the loss is the mean over queries of ``KL(T || S)`` (or
    another divergence of `AlignmentLoss`). Passages of other queries take no part, because a
    teacher has not scored them. `WeightedObjective` adds the contrastive loss.

    Args:
        model: the bi-encoder to train.
        loss: the divergence; its temperature is the student's, teacher_temperature the teacher's.
        process_group: processes that the batch is spread over; their mean loss is then that of one
            process with all queries, even if they have different numbers of queries.

    Source:
        Hinton et al., Distilling the Knowledge in a Neural Network (arXiv:1503.02531), without the
        factor of the squared temperature.

    Example:
        >>> from tilefold.losses import AlignmentLoss
        >>> from tilefold.models import BiEncoder, minilm
        >>> objective = DistillationObjective(
        ...     BiEncoder(minilm()), AlignmentLoss(0.05, teacher_temperature=1.0)
        ... )
    """

    def __init__(
        self,
        model: BiEncoder,
        loss: AlignmentLoss,
        *,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__(model)
        check_kind(self, "loss", loss, AlignmentLoss)
        if loss.options["reduction"] != "mean":
            raise ValueError(
                "DistillationObjective: the reduction of the loss must be 'mean', got "
                f"{loss.options['reduction']!r}"
            )
        self.loss = loss
        self.process_group = process_group

    def compute_loss(self, batch: Batch, embeddings: Mapping[str, Tensor]) -> ObjectiveLoss:
        """Computes the divergence from the teacher on the passages that it has scored.

        Args:
            batch: with a teacher's scores.
            embeddings: "queries" ``[n, dim]`` and "documents" ``[m, dim]``.

        Raises:
            ValueError: the batch has no teacher scores, or a passage listed in it has none (NaN).
        """
        if batch.teacher is None:
            raise ValueError("DistillationObjective: the batch has no teacher scores")
        offsets, indices, scores = batch.teacher
        student = tuple(widened(embeddings[side]) for side in ("queries", "documents"))
        loss: Tensor = self.loss(student, scores, candidates=(offsets, indices))
        return ObjectiveLoss(loss * query_share(len(batch.queries), self.process_group), {})
