"""Trains with in-batch negatives and hard negatives, as DPR does: the contrastive objective."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...losses import ContrastiveLoss
from ...models import BiEncoder
from ..batches import Batch
from .objective import BiEncoderObjective, ObjectiveLoss, check_kind, widened


class ContrastiveObjective(BiEncoderObjective):
    """A bi-encoder in training, and its contrastive loss.

    Known positives that other queries contribute, and passages equal to one, are no negatives. With
    several positives per query (`DrawSeveral`) the mode of the loss says how they combine.

    Args:
        model: the bi-encoder to train.
        loss: of embeddings.

    Example:
        >>> from tilefold.losses import ContrastiveLoss
        >>> from tilefold.models import BiEncoder, minilm
        >>> objective = ContrastiveObjective(BiEncoder(minilm()), ContrastiveLoss(0.05))
    """

    def __init__(self, model: BiEncoder, loss: ContrastiveLoss) -> None:
        super().__init__(model)
        check_kind(self, "loss", loss, ContrastiveLoss)
        self.loss = loss

    def loss_parameters(self) -> list[nn.Parameter]:
        """Returns the learned temperature, if there is one."""
        return list(self.loss.parameters())

    def compute_loss(self, batch: Batch, embeddings: Mapping[str, Tensor]) -> ObjectiveLoss:
        """Computes the contrastive loss of a batch.

        Args:
            batch: labels and masks.
            embeddings: "queries" ``[n, dim]`` and "documents" ``[m, dim]``.
        """
        loss: Tensor = self.loss(
            widened(embeddings["queries"]),
            widened(embeddings["documents"]),
            batch.positives,
            query_ids=batch.query_ids,
            document_ids=batch.document_ids,
            exclude_ids=batch.exclude_ids,
        )
        return ObjectiveLoss(loss, {})
