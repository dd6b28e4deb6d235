"""Trains a linear head that predicts the variance of a query's embedding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class GaussianHead(NamedTuple):
    """Predicts diagonal log variances of embeddings: ``weight @ (x / scale) + bias``."""

    weight: Tensor  # [dim, dim]
    bias: Tensor  # [dim]
    scale: float  # root mean square of the embeddings that it was trained on

    def log_variances(self, embeddings: Tensor) -> Tensor:
        """Predicts log variances ``[n, dim]``."""
        return embeddings / self.scale @ self.weight.T + self.bias


class ListwiseBatch(NamedTuple):
    """Queries with the scores of candidate documents, which the loss compares."""

    queries: Tensor  # [b, dim]
    candidates: Tensor  # [c, dim]
    is_relevant: Tensor  # [b, c], true once or more for each query


@dataclass(frozen=True)
class HeadTraining:
    """How a head is trained: AdamW, and the epoch with the lowest held-out loss is kept.

    Args:
        temperature: scores are divided by it.
        samples: draws of an embedding.
        epochs: passes over the batches.
        learning_rate, weight_decay: of AdamW.
        seed: of the draws.
    """

    temperature: float
    samples: int
    epochs: int
    learning_rate: float
    weight_decay: float
    seed: int

    def train(self, batches: list[ListwiseBatch], held: ListwiseBatch) -> GaussianHead:
        """Trains a head; one whose deviations are a tenth of the embeddings' is the start."""
        rows = torch.cat([batch.queries for batch in batches])
        scale = float(rows.square().mean().sqrt()) or 1.0
        weight = torch.zeros(rows.shape[1], rows.shape[1], requires_grad=True)
        bias = torch.full((rows.shape[1],), 2 * math.log(0.1 * scale), requires_grad=True)
        head = GaussianHead(weight, bias, scale)
        optimizer = torch.optim.AdamW(
            [
                {"params": [weight], "weight_decay": self.weight_decay},
                {"params": [bias], "weight_decay": 0.0},  # it would pull to a variance of 1
            ],
            lr=self.learning_rate,
        )
        generator = torch.Generator().manual_seed(self.seed)
        lowest, best = self._held_loss(head, held), _copy(head)
        for _ in range(self.epochs):
            for batch in batches:
                noise = torch.randn(self.samples, rows.shape[1], generator=generator)
                loss = negative_log_likelihood(head, batch, noise, self.temperature)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            found = self._held_loss(head, held)
            if found < lowest:
                lowest, best = found, _copy(head)
        return best

    def _held_loss(self, head: GaussianHead, held: ListwiseBatch) -> float:
        # The same draws each time, so that epochs differ by the head alone.
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(self.samples, head.bias.shape[0], generator=generator)
        with torch.no_grad():
            return float(negative_log_likelihood(head, held, noise, self.temperature))


def negative_log_likelihood(
    head: GaussianHead, batch: ListwiseBatch, noise: Tensor, temperature: float
) -> Tensor:
    """Computes minus the log of the mean over draws of the probability of relevant documents.

    Args:
        head: predicts variances.
        batch: b queries and c candidates.
        noise: ``[S, dim]`` standard normal draws, the same for all queries.
        temperature: scores are divided by it.

    Returns:
        The mean over queries, a scalar.

    Source: Kendall and Gal, What Uncertainties Do We Need in Bayesian Deep Learning for Computer
    Vision? (NeurIPS 2017), eq. 12, with several relevant documents summed.
    """
    deviations = (head.log_variances(batch.queries) / 2).exp()
    drawn = batch.queries[:, None] + deviations[:, None] * noise  # [b, S, dim]
    logs = (drawn @ batch.candidates.T / temperature).log_softmax(2)
    relevant = logs.masked_fill(~batch.is_relevant[:, None], -torch.inf).logsumexp(2)
    return (math.log(len(noise)) - relevant.logsumexp(1)).mean()


def _copy(head: GaussianHead) -> GaussianHead:
    return GaussianHead(head.weight.detach().clone(), head.bias.detach().clone(), head.scale)
