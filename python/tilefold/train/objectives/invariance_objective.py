"""Trains rankings to agree between views of a query: the invariance objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...distributed import processes
from ...losses import InvarianceLoss
from ...models import BiEncoder
from ..batches import Batch
from .objective import BiEncoderObjective, ObjectiveLoss, check_kind, widened


class InvarianceObjective(BiEncoderObjective):
    """A bi-encoder in training whose distribution over passages agrees between views.

    View 0 is the batch's own queries and documents; its `query_views` and `document_views`
    (rewrites, other context windows) are the others. All passages of the batch are candidates.
    Usually one term of a `WeightedObjective` whose weight rises from 0.

    Args:
        model: the bi-encoder to train.
        loss: of the embeddings of all views.

    Example:
        >>> from tilefold.losses import InvarianceLoss
        >>> from tilefold.models import BiEncoder, minilm
        >>> objective = InvarianceObjective(BiEncoder(minilm()), InvarianceLoss(temperature=0.05))
    """

    def __init__(self, model: BiEncoder, loss: InvarianceLoss) -> None:
        super().__init__(model)
        check_kind(self, "loss", loss, InvarianceLoss)
        self.loss = loss

    def sides(self, batch: Batch) -> dict[str, Sequence[str]]:
        """Returns queries, documents, and the views of both, with the same prompts and titles."""
        texts = dict(super().sides(batch))
        for number, view in enumerate(batch.query_views, 1):
            texts[f"queries/{number}"] = self.model.query_texts(view, batch.prompts)
        for number, view in enumerate(batch.document_views, 1):
            texts[f"documents/{number}"] = self.model.document_texts(view, batch.titles)
        return texts

    def compute_loss(self, batch: Batch, embeddings: Mapping[str, Tensor]) -> ObjectiveLoss:
        """Computes the invariance loss between the views of a batch.

        Args:
            batch: with views of its queries, of its documents, or as many of both.
            embeddings: of all `sides`.

        Raises:
            ValueError: the batch has no views, or other numbers of views of queries and documents;
                there are several processes, whose passages the loss does not gather.
        """
        if processes.world() > 1:
            raise ValueError(
                "InvarianceObjective: expected one process, as the candidates are the passages of "
                f"one process, got {processes.world()}"
            )
        queries = _views("queries", embeddings, len(batch.query_views))
        documents = _views("documents", embeddings, len(batch.document_views))
        count = max(len(queries), len(documents))
        if count == 1 or min(len(queries), len(documents)) not in (1, count):
            raise ValueError(
                "InvarianceObjective: expected views of queries, of documents or as many of both, "
                f"got {len(queries) - 1} of queries and {len(documents) - 1} of documents"
            )
        loss: Tensor = self.loss(
            queries.expand(count, -1, -1),
            documents[0] if len(documents) == 1 else documents,
            **self._labels(batch),
        )
        return ObjectiveLoss(loss, {})

    def _labels(self, batch: Batch) -> dict[str, Any]:
        """Returns labels for the forms that compare contrastive losses; consistency uses none."""
        if self.loss.form == "consistency":
            return {}
        return {
            "positives": batch.positives,
            "query_ids": batch.query_ids,
            "document_ids": batch.document_ids,
        }


def _views(tower: str, embeddings: Mapping[str, Tensor], count: int) -> Tensor:
    """Stacks the embeddings of one tower in all views: ``[1 + count, rows, dim]``."""
    sides = [tower, *(f"{tower}/{number}" for number in range(1, count + 1))]
    return torch.stack([widened(embeddings[side]) for side in sides])
