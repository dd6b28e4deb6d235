"""Batches larger than memory: gradients of embeddings first, encoders afterwards, chunk by chunk.

A contrastive loss needs the embeddings of the whole batch, but not the activations behind them. So
embeddings are made without a graph, the loss gives their gradients, and each chunk is encoded once
more to carry its part of them into the parameters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _RandomState(NamedTuple):
    """Of the CPU and of every CUDA device in use, as they were before a chunk was encoded."""

    cpu: Tensor
    cuda: list[Tensor]

    @classmethod
    def now(cls) -> _RandomState:
        in_use = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state_all() if in_use else [])

    @contextlib.contextmanager
    def replayed(self) -> Iterator[None]:
        """The same random numbers again; afterwards those go on that would have come anyway."""
        with torch.random.fork_rng(devices=range(len(self.cuda))):
            torch.set_rng_state(self.cpu)
            if self.cuda:
                torch.cuda.set_rng_state_all(self.cuda)
            yield


def cached_backward(
    loss: Callable[..., Tensor],
    *towers: tuple[Callable[[Any], Tensor], Sequence[Any]],
    no_sync: Callable[[], AbstractContextManager[Any]] | None = None,
    scaler: Any = None,
) -> Tensor:
    """Adds to parameters the gradients of a loss over a whole batch, encoding a chunk at a time.

    The gradients are those of ``loss(*(torch.cat([encode(c) for c in chunks]) for encode, chunks in
    towers)).backward()``, dropout included, up to the order in which chunks are added; but only one
    chunk's activations are held at any time, for one more forward pass. Encoders must not mix rows
    of a batch (as batch normalisation does).

    Args:
        loss: takes the embeddings ``[rows, dim]`` of each tower, in order, and returns a number.
            Its own parameters, such as a temperature, get their gradients, too.
        towers: pairs ``(encode, chunks)``: a function from a chunk to embeddings ``[rows, dim]``,
            and the chunks of the batch: anything that it takes.
        no_sync: under DDP the method `no_sync` of the model (or a function that enters those of
            several): gradients are then exchanged with the last chunk of each tower only.
        scaler: a `torch.amp.GradScaler`, which scales the loss as it would without caching.

    Returns:
        The loss, without a graph.

    Raises:
        ValueError: no tower, a tower without chunks, or a loss that is not a number.

    Source:
        Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup
        (arXiv:2101.06983).

    Example:
        >>> from tilefold.losses import ContrastiveLoss
        >>> encoder = torch.nn.Linear(8, 4)
        >>> queries, documents = torch.randn(6, 8), torch.randn(6, 8)
        >>> towers = (encoder, queries.split(2)), (encoder, documents.split(3))
        >>> loss = cached_backward(ContrastiveLoss(), *towers)
        >>> encoder.weight.grad.shape
        torch.Size([4, 8])
    """
    if not towers or not all(len(chunks) for _, chunks in towers):
        raise ValueError("cached_backward: expected at least one tower, each with a chunk or more")
    states: list[list[_RandomState]] = []
    embeddings: list[Tensor] = []
    sizes: list[list[int]] = []
    for encode, chunks in towers:
        before, parts = [], []
        with torch.no_grad():
            for chunk in chunks:
                before.append(_RandomState.now())
                parts.append(encode(chunk))
        states.append(before)
        sizes.append([len(part) for part in parts])
        embeddings.append(torch.cat(parts).requires_grad_())
    # Under autocast, casts of weights that were kept without a graph would be used again below.
    torch.clear_autocast_cache()
    value = loss(*embeddings)
    if value.numel() != 1:
        raise ValueError(
            f"cached_backward: loss must return one number, got shape {tuple(value.shape)}"
        )
    (value if scaler is None else scaler.scale(value)).backward()
    for (encode, chunks), before, whole, rows in zip(
        towers, states, embeddings, sizes, strict=True
    ):
        if whole.grad is None:  # the loss does not look at it
            continue
        shares = torch.split(whole.grad, rows)
        for i, (chunk, state, share) in enumerate(zip(chunks, before, shares, strict=True)):
            last = i == len(chunks) - 1
            quiet = contextlib.nullcontext() if no_sync is None or last else no_sync()
            with quiet, state.replayed():
                again = encode(chunk)
                if again.requires_grad:  # else the tower is frozen
                    again.backward(share)  # type: ignore[no-untyped-call]
    return value.detach()
