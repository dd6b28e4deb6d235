"""Runs one training step: encodes, computes the loss, adds the gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..distributed import processes
from ..losses import cached_embeddings
from ..losses.gradcache import no_sync_of
from .batches import Batch
from .objectives import Objective, ObjectiveLoss
from .objectives.objective import Tokens

Context = Callable[[], contextlib.AbstractContextManager[Any]]


def train_step(
    objective: Objective,
    batch: Batch,
    *,
    chunk_sizes: tuple[int, int] | None = None,
    weight: float = 1.0,
    wrapped: Any = None,
    synchronize: bool = True,
    autocast: Context = contextlib.nullcontext,
    backward: Callable[[Tensor], Any] = torch.autograd.backward,
) -> ObjectiveLoss:
    """Adds the gradients of a batch to the parameters: the body of a training loop.

    `RetrieverTrainer` calls this function, so a loop of your own gets the same gradients.

    Args:
        objective: the model and its loss.
        batch: of a drawing policy such as `Draw`.
        chunk_sizes: queries and passages encoded at a time, for batches that do not fit in memory;
            the gradients are the same for one more forward pass (GradCache).
        weight: of this batch, such as one over the number of batches of an optimizer step.
        wrapped: what the objective is called through, such as a `DistributedDataParallel` of it
            (with ``find_unused_parameters=True`` where embeddings do not use all of the model, such
            as BERT's pooler). With chunks, gradients are averaged once, after the last chunk.
        synchronize: average gradients over processes in this step; False where more batches of
            the same optimizer step follow.
        autocast: opens the context that texts are encoded in, such as mixed precision.
        backward: called with the weighted loss, such as ``accelerator.backward``.

    Returns:
        The loss times `weight`, without a graph, and its terms, which are not weighted.

    Raises:
        ValueError: the batch has no queries, or no parameter of the objective is trained.

    Example:
        A loop::

            for step in range(100):
                rows = rng.choice(len(data), 32, replace=False)
                loss = train_step(objective, draw.batch(rows, step=step)).value
                optimizer.step()
                optimizer.zero_grad()
    """
    if not batch.queries:
        raise ValueError("train_step: the batch has no queries")
    if not any(parameter.requires_grad for parameter in objective.parameters()):
        raise ValueError("train_step: no parameter of the objective requires a gradient")
    called = objective if wrapped is None else wrapped
    # DDP would count every chunk as a step, so with chunks it never exchanges gradients itself.
    local = chunk_sizes is not None or not synchronize
    no_sync = no_sync_of(called) if local else None
    with contextlib.nullcontext() if no_sync is None else no_sync():
        with autocast():
            embeddings = _encode(called, objective.tokenize(batch, chunk_sizes), chunk_sizes)
        value, terms = objective.compute_loss(batch, embeddings)
        value = weight * value
        backward(value)
    if wrapped is not None and chunk_sizes is not None and synchronize and processes.world() > 1:
        processes.average_gradients(objective.parameters())
    return ObjectiveLoss(value.detach(), terms)


def _encode(
    called: Any,
    tokens: Mapping[str, list[Tokens]],
    chunk_sizes: tuple[int, int] | None,
) -> dict[str, Tensor]:
    """Encodes all sides, in one call or in chunks that are encoded again in backward."""
    if chunk_sizes is None:
        embeddings: dict[str, Tensor] = called({side: one for side, (one,) in tokens.items()})[0]
        return embeddings

    def encode(side: str, chunk: Tokens) -> Tensor:
        embeddings: Tensor = called({side: chunk})[0][side]
        return embeddings

    return {
        side: cached_embeddings(partial(encode, side), chunks) for side, chunks in tokens.items()
    }
