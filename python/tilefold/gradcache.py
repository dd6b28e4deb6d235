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

NoSync = Callable[[], AbstractContextManager[Any]]


class _Conditions(NamedTuple):
    """What an encoder sees besides its chunk: random numbers and autocast.

    Random states are those of the CPU and of every CUDA device in use, before a chunk was encoded.
    """

    cpu: Tensor
    cuda: list[Tensor]
    autocast: list[dict[str, Any]]

    @classmethod
    def now(cls) -> _Conditions:
        in_use = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        autocast = [
            {
                "device_type": device,
                "enabled": torch.is_autocast_enabled(device),
                "dtype": torch.get_autocast_dtype(device),
                "cache_enabled": torch.is_autocast_cache_enabled(),
            }
            for device in (["cpu", "cuda"] if in_use else ["cpu"])
        ]
        states = torch.cuda.get_rng_state_all() if in_use else []
        return cls(torch.get_rng_state(), states, autocast)

    @contextlib.contextmanager
    def replayed(self) -> Iterator[None]:
        """The same random numbers again; afterwards those go on that would have come anyway."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=range(len(self.cuda))))
            torch.set_rng_state(self.cpu)
            if self.cuda:
                torch.cuda.set_rng_state_all(self.cuda)
            for options in self.autocast:
                stack.enter_context(torch.autocast(**options))
            yield


def cached_embeddings(
    encode: Callable[[Any], Tensor], chunks: Sequence[Any], *, no_sync: NoSync | None = None
) -> Tensor:
    """Embeddings of a batch of which one chunk's activations are held at any time.

    Equals ``torch.cat([encode(chunk) for chunk in chunks])``, and gives the same gradients to the
    parameters of `encode`, dropout included, for one more forward pass: chunks are encoded without
    a graph, and once more inside ``backward()``. Without gradients (``torch.no_grad()``) there is
    no second pass and nothing is kept for one.

    Gradients arrive through ``backward()`` alone: ``torch.autograd.grad``, ``backward(inputs=...)``
    and second derivatives do not see the parameters. Encoders must not mix rows of a batch (as
    batch normalisation does), and must give the same for a chunk when called again, but for
    dropout: nothing may change parameters, chunks or `encode` before ``backward()``.

    Args:
        encode: a function from a chunk to embeddings ``[rows, dim]``.
        chunks: the chunks of the batch: anything that `encode` takes.
        no_sync: under DDP the method `no_sync` of the model: gradients are then exchanged with the
            last chunk only.

    Returns:
        ``[rows of all chunks, dim]``.

    Raises:
        ValueError: no chunk.

    Source:
        Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup
        (arXiv:2101.06983).

    Example:
        >>> encoder = torch.nn.Linear(8, 4)
        >>> embeddings = cached_embeddings(encoder, torch.randn(6, 8).split(2))
        >>> embeddings.square().mean().backward()
        >>> encoder.weight.grad.shape
        torch.Size([4, 8])
    """
    if not len(chunks):
        raise ValueError("cached_embeddings: expected a chunk or more, got none")
    if not torch.is_grad_enabled():
        return torch.cat([encode(chunk) for chunk in chunks])
    place = torch.empty(0, requires_grad=True)  # in the graph, which encoders are not part of
    embeddings: Tensor = _Cached.apply(place, encode, chunks, no_sync)  # type: ignore[no-untyped-call]
    return embeddings


class _Cached(torch.autograd.Function):
    """Encodes without a graph; then again, with a backward pass of its own for each chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        place: Tensor,
        encode: Callable[[Any], Tensor],
        chunks: Sequence[Any],
        no_sync: NoSync | None,
    ) -> Tensor:
        ctx.encode, ctx.chunks, ctx.no_sync = encode, chunks, no_sync
        ctx.conditions, parts = [], []
        for chunk in chunks:
            ctx.conditions.append(_Conditions.now())
            parts.append(encode(chunk))
        # Under autocast, casts of weights that were kept without a graph would be used again.
        torch.clear_autocast_cache()
        ctx.rows = [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        shares = torch.split(grad, ctx.rows)
        for i, (chunk, before) in enumerate(zip(ctx.chunks, ctx.conditions, strict=True)):
            last = i == len(shares) - 1
            with contextlib.nullcontext() if ctx.no_sync is None or last else ctx.no_sync():
                with before.replayed(), torch.enable_grad():
                    again = ctx.encode(chunk)
                if again.requires_grad:  # else the encoder is frozen
                    again.backward(shares[i])
        return (None,) * 4


def cached_backward(
    loss: Callable[..., Tensor],
    *towers: tuple[Callable[[Any], Tensor], Sequence[Any]],
    no_sync: NoSync | None = None,
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
    embeddings = [cached_embeddings(encode, chunks, no_sync=no_sync) for encode, chunks in towers]
    value = loss(*embeddings)
    if value.numel() != 1:
        raise ValueError(
            f"cached_backward: loss must return one number, got shape {tuple(value.shape)}"
        )
    (value if scaler is None else scaler.scale(value)).backward()
    return value.detach()
