"""What an optimizer sees: both towers and the loss, as one module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..losses import ContrastiveLoss
from ..losses.gradcache import cached_backward
from ..models import BiEncoder
from .batches import Batch

Tokens = Mapping[str, Tensor]


class Objective(nn.Module):
    """A bi-encoder under training, and its loss.

    One call encodes both sides, so that DDP, which counts calls, sees a step as one. The loss is
    formed outside of `forward`, where DDP and FSDP do not look.

    Args:
        model: what is trained.
        loss: of embeddings.
    """

    def __init__(self, model: BiEncoder, loss: ContrastiveLoss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(
        self, queries: Tokens | None = None, documents: Tokens | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Embeddings of the sides that are given; and a learned scale, which DDP must find here."""
        towers = (self.model.query_encoder, queries), (self.model.document_encoder, documents)
        q, d = (None if tokens is None else tower(tokens) for tower, tokens in towers)
        return q, d, None if self.loss.log_scale is None else 1 * self.loss.log_scale

    def loss_of(self, batch: Batch, queries: Tensor, documents: Tensor) -> Tensor:
        """The loss of a batch with these embeddings."""
        loss: Tensor = self.loss(
            queries.float(),
            documents.float(),
            batch.positives,
            query_ids=batch.query_ids,
            document_ids=batch.document_ids,
            exclude_ids=batch.exclude_ids,
        )
        return loss

    def tokens(self, batch: Batch) -> tuple[Tokens, Tokens]:
        """Both sides of a batch, padded."""
        towers = (self.model.query_encoder, self.model.document_encoder)
        sides = self._texts(batch)
        q, d = (t.pad(t.tokenize(texts)) for t, texts in zip(towers, sides, strict=True))
        return q, d

    def chunks(self, batch: Batch, sizes: tuple[int, int]) -> tuple[list[Tokens], list[Tokens]]:
        """The same in chunks of so many queries and documents, each padded for itself."""
        towers = (self.model.query_encoder, self.model.document_encoder)
        sides = self._texts(batch)
        q, d = (
            [tower.pad(tokens[i : i + size]) for i in range(0, len(tokens), size)]
            for tower, tokens, size in zip(
                towers,
                (t.tokenize(texts) for t, texts in zip(towers, sides, strict=True)),
                sizes,
                strict=True,
            )
        )
        return q, d

    def _texts(self, batch: Batch) -> tuple[Sequence[str], Sequence[str]]:
        """Returns queries and documents as the model reads them: with prompts and titles."""
        return (
            self.model.query_texts(batch.queries, batch.prompts),
            self.model.document_texts(batch.documents, batch.titles),
        )

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Keeps fewer activations, as `transformers.Trainer` asks for it."""
        asked = {name: value for name, value in options.items() if value}
        if asked and asked != {"every_n_layers": 1}:
            raise ValueError(f"Objective: every layer is checkpointed, in memory; got {asked}")
        self.model.checkpoint_activations()

    # The name before transformers 5.
    gradient_checkpointing_enable = activation_checkpointing_enable


def train_step(
    objective: Objective,
    batch: Batch,
    *,
    chunk_sizes: tuple[int, int] | None = None,
    weight: float = 1.0,
) -> Tensor:
    """Adds the gradients of a batch to the parameters: the body of a training loop of your own.

    Args:
        objective: the model and its loss.
        batch: of `Draw`.
        chunk_sizes: queries and passages encoded at a time, for batches that do not fit in memory;
            the gradients are the same.
        weight: of this batch, such as one over the number of batches of an optimizer's step.

    Returns:
        The loss, times `weight`, without a graph.

    Example:
        A loop::

            for step in range(100):
                rows = rng.choice(len(data), 32, replace=False)
                train_step(objective, draw.batch(rows, step=step))
                optimizer.step()
                optimizer.zero_grad()
    """
    if chunk_sizes is not None:
        return cached_step(objective, objective, batch, chunk_sizes, weight)
    queries, documents, _ = objective(*objective.tokens(batch))
    loss = weight * objective.loss_of(batch, queries, documents)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def cached_step(
    objective: Objective,
    wrapped: Any,
    batch: Batch,
    chunk_sizes: tuple[int, int],
    weight: float,
) -> Tensor:
    """`train_step` with chunks; `wrapped` is the objective or what it is called through (DDP)."""
    queries, documents = objective.chunks(batch, chunk_sizes)
    return cached_backward(
        lambda q, d: weight * objective.loss_of(batch, q, d),
        (lambda tokens: wrapped(queries=tokens)[0], queries),
        (lambda tokens: wrapped(documents=tokens)[1], documents),
    )
