"""Trains the weights of a sparse autoencoder with TopK activations and the auxiliary loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...progress import show_progress

_DECAY = 0.2  # share of the steps over which the learning rate falls
_ADAM_EPSILON = 6.25e-10  # of Gao et al. (2024), appendix A.3
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TrainingOptions:
    """Arguments of `TopKAutoencoder.fit`, checked and with their defaults."""

    k: int
    epochs: int
    batch_size: int
    learning_rate: float
    aux_k: int
    aux_weight: float
    dead_after: int
    seed: int


class AutoencoderWeights(NamedTuple):
    """Weights for embeddings that are centred and scaled; rows of the decoder have length 1."""

    encoder: Floats  # [n_features, dim]
    encoder_bias: Floats  # [n_features]
    decoder: Floats  # [n_features, dim]
    pre_bias: Floats  # [dim]


def train_autoencoder(
    rows: Tensor, n_features: int, options: TrainingOptions, label: str | None
) -> AutoencoderWeights:
    """Trains an autoencoder of embeddings that are centred and scaled.

    Args:
        rows: float32 ``[n, dim]``, whose mean squared length is 1.
        n_features: number of features.
        options: of the training.
        label: of the progress on stderr; None shows none.
    """
    generator = torch.Generator().manual_seed(options.seed)
    training = _Training(rows.shape[1], n_features, options, generator)
    per_epoch = -(-len(rows) // options.batch_size)
    total = options.epochs * per_epoch
    with show_progress(label or "", total, show=label is not None) as display:
        for step in range(total):
            if step % per_epoch == 0:
                order = torch.randperm(len(rows), generator=generator)
            begin = step % per_epoch * options.batch_size
            batch = rows[order[begin : begin + options.batch_size]]
            training.step(batch, min(1.0, (total - step) / (_DECAY * total)))
            display.advance()
    return training.weights()


class _Training:
    """Weights in training, and for how many embeddings each feature has not been active."""

    def __init__(
        self, dim: int, n_features: int, options: TrainingOptions, generator: torch.Generator
    ) -> None:
        self._options = options
        decoder = F.normalize(torch.randn(n_features, dim, generator=generator), dim=1)
        made = decoder.clone(), torch.zeros(n_features), decoder, torch.zeros(dim)
        self._weights = [weight.requires_grad_() for weight in made]
        self._optimizer: Any = torch.optim.Adam(
            self._weights, lr=options.learning_rate, eps=_ADAM_EPSILON
        )
        self._idle = torch.zeros(n_features, dtype=torch.int64)

    def step(self, batch: Tensor, pace: float) -> None:
        """Updates the weights; pace multiplies the learning rate."""
        self._optimizer.param_groups[0]["lr"] = pace * self._options.learning_rate
        self._optimizer.zero_grad()
        self._loss(batch).backward()  # type: ignore[no-untyped-call]
        decoder = self._weights[2]
        assert decoder.grad is not None
        with torch.no_grad():  # what would change the length of a row has no effect on it
            decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder
            self._optimizer.step()
            decoder.copy_(F.normalize(decoder, dim=1))

    def _loss(self, batch: Tensor) -> Tensor:
        encoder, encoder_bias, decoder, pre_bias = self._weights
        activations = F.linear(batch - pre_bias, encoder, encoder_bias)
        codes = _top(activations, self._options.k)
        error = batch - (codes @ decoder + pre_bias)
        loss = error.square().sum(1).mean()
        self._idle += len(batch)
        self._idle[(codes > 0).any(0)] = 0
        dead = self._idle >= self._options.dead_after
        if self._options.aux_weight and bool(dead.any()):
            loss = loss + self._options.aux_weight * self._aux(activations, dead, error.detach())
        return loss

    def _aux(self, activations: Tensor, dead: Tensor, error: Tensor) -> Tensor:
        """The share of the error that dead features do not reconstruct (section 2.4)."""
        own = activations[:, dead]
        codes = _top(own, min(self._options.aux_k, own.shape[1]))
        left = (error - codes @ self._weights[2][dead]).square().sum()
        return left / error.square().sum().clamp(min=torch.finfo(error.dtype).tiny)

    def weights(self) -> AutoencoderWeights:
        return AutoencoderWeights(*(weight.detach().numpy().copy() for weight in self._weights))


def _top(activations: Tensor, k: int) -> Tensor:
    """Returns the k largest activations of each row where they are positive, and zeros elsewhere.

    Codes are dense here: their gradient is then a product of matrices, which repeats to the bit.
    """
    best = torch.topk(activations, k, dim=1)
    return torch.zeros_like(activations).scatter(1, best.indices, best.values.relu())
