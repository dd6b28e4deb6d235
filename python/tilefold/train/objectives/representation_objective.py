"""Aligns a bi-encoder's embeddings with those of a coarse encoder, through a learned projection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...integers import as_integer
from ...losses import alignment_loss
from ...models import BiEncoder
from ..batches import Batch
from .objective import BiEncoderObjective, ObjectiveLoss, query_share, widened

RepresentationForm = Literal["forward_kl", "reverse_kl", "js", "mse"]


class RepresentationObjective(BiEncoderObjective):
    """A bi-encoder in training whose embeddings follow projected coarse ones.

    With V a text's embedding, and ``W c`` the projection of its coarse embedding into the model's
    space, the loss of the text is

    - "forward_kl": ``KL(softmax(W c / temperature) || softmax(V / temperature))``, the softmax
      over dimensions; "reverse_kl" and "js" as in `alignment_loss`;
    - "mse": the mean over dimensions of ``(V - W c)^2``.

    The loss of a batch is half the mean over queries plus half the mean over documents, of which
    each drawn one counts. W is trained with the model: it belongs to the objective, so checkpoints
    keep it, and the saved retriever does not need it. As both sides are trained, the loss alone has
    a trivial minimum, all embeddings equal; add the contrastive loss by `WeightedObjective`.

    Args:
        model: the bi-encoder to train.
        coarse_dim: dimensions of the coarse embeddings, which `DrawTeacher` adds to batches.
        form: "forward_kl", "reverse_kl", "js" or "mse".
        temperature: both vectors are divided by it before the softmax; None for 1. Not for "mse".
        train_model: let gradients flow to the model; otherwise the projection alone is trained.
        seed: of the initial projection, normal with variance ``1 / coarse_dim``.
        process_group: processes that the batch is spread over; their mean loss is then that of one
            process with all texts.

    Raises:
        TypeError: another kind of model, a dimension that is no integer.
        ValueError: an unknown form, a temperature that is not positive or has no use.

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> objective = RepresentationObjective(BiEncoder(minilm()), 384, temperature=0.1)
        >>> objective.projection.shape
        torch.Size([384, 384])
    """

    def __init__(
        self,
        model: BiEncoder,
        coarse_dim: int,
        *,
        form: RepresentationForm = "forward_kl",
        temperature: float | None = None,
        train_model: bool = True,
        seed: int = 0,
        process_group: torch.distributed.ProcessGroup | None = None,
    ) -> None:
        super().__init__(model)
        op = type(self).__name__
        if form not in get_args(RepresentationForm):
            choices = ", ".join(map(repr, get_args(RepresentationForm)))
            raise ValueError(f"{op}: form must be one of {choices}, got {form!r}")
        if temperature is not None and form == "mse":
            raise ValueError(f"{op}: form 'mse' has no use for temperature, got {temperature}")
        if temperature is not None and not 0 < temperature < torch.inf:
            raise ValueError(f"{op}: temperature must be positive, got {temperature}")
        coarse_dim = as_integer(coarse_dim, op, "coarse_dim", at_least=1)
        self.form: RepresentationForm = form
        self.temperature = temperature
        self.train_model = train_model
        self.process_group = process_group
        drawn = torch.randn(model.dim, coarse_dim, generator=torch.Generator().manual_seed(seed))
        self.projection = nn.Parameter(drawn / coarse_dim**0.5)

    def loss_parameters(self) -> list[nn.Parameter]:
        """Returns the projection."""
        return [self.projection]

    def compute_loss(self, batch: Batch, embeddings: Mapping[str, Tensor]) -> ObjectiveLoss:
        """Computes the loss of the texts of a batch.

        Args:
            batch: with coarse embeddings.
            embeddings: "queries" ``[n, dim]`` and "documents" ``[m, dim]``.

        Returns:
            The loss; its terms are "queries" and "documents", the two means.

        Raises:
            ValueError: the batch has no coarse embeddings, or of another number of dimensions.
        """
        if batch.coarse is None:
            raise ValueError(
                "RepresentationObjective: the batch has no coarse embeddings; DrawTeacher adds them"
            )
        sides = {
            side: self._mean_loss(widened(embeddings[side]), coarse)
            for side, coarse in batch.coarse._asdict().items()
        }
        loss = 0.5 * (sides["queries"] + sides["documents"])
        return ObjectiveLoss(loss, {side: value.detach() for side, value in sides.items()})

    def _mean_loss(self, embeddings: Tensor, coarse: Tensor) -> Tensor:
        if coarse.shape[1] != self.projection.shape[1]:
            raise ValueError(
                "RepresentationObjective: expected coarse embeddings of dim "
                f"{self.projection.shape[1]} (coarse_dim), got {coarse.shape[1]}"
            )
        if not self.train_model:
            embeddings = embeddings.detach()
        target = coarse.to(embeddings.dtype) @ self.projection.to(embeddings.dtype).T
        if self.form == "mse":
            loss = F.mse_loss(embeddings, target)
        else:
            loss = alignment_loss(
                embeddings,
                target,
                temperature=self.temperature,
                teacher_temperature=self.temperature,
                divergence=self.form,
                train_teacher=True,
            )
        return loss * query_share(len(embeddings), self.process_group)
