"""Trains on batches whose activations exceed memory, by caching the gradients of embeddings.

A contrastive loss needs the embeddings of the whole batch, but not the activations behind them. So
embeddings are computed without a graph, the loss gives their gradients, and each chunk is encoded a
second time to propagate its part of the gradients to the parameters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from .replay import Replay, tensors_in

NoSync = Callable[[], AbstractContextManager[Any]]


def cached_embeddings(
    encode: Callable[[Any], Tensor], chunks: Iterable[Any], *, no_sync: NoSync | None = None
) -> Tensor:
    """Encodes a batch in chunks, holding the activations of one chunk at a time.

    Equals ``torch.cat([encode(chunk) for chunk in chunks])``, and gives the same gradients to the
    parameters of `encode`, dropout included, at the cost of a second forward pass: chunks are
    encoded without a graph, and again inside ``backward()``. Without gradients
    (``torch.no_grad()``) there is no second pass and nothing is kept for one.

    The result always requires a gradient: only the second pass shows whether `encode` has anything
    to train. Gradients arrive through ``backward()`` alone: ``torch.autograd.grad``,
    ``backward(inputs=...)`` and second derivatives do not see the parameters. Encoders must not mix
    rows of a batch (as batch normalisation does), and must be deterministic apart from dropout:
    parameters, chunks and `encode` must not change before ``backward()``.
    An exception in the second pass leaves the gradients of the chunks before it: clear them before
    you try again.

    Args:
        encode: a function from a chunk to embeddings ``[rows, dim]``.
        chunks: the chunks of the batch: anything that `encode` takes. They are kept until the
            graph is freed. Gradients stop at chunks, so a module that produced them is not trained.
        no_sync: under DDP the method `no_sync` of the model: gradients are then exchanged with the
            last chunk only, so ranks may have different numbers of chunks. By default that of
            `encode`, where it is a `DistributedDataParallel`; a function that calls one needs it.
            DDP's ``static_graph=True`` is not supported.

    Returns:
        ``[rows of all chunks, dim]`` of the dtype that `encode` returns.

    Raises:
        ValueError: no chunk, a tensor that is not split, a chunk with a graph behind it, embeddings
            that do not have two dimensions.
        TypeError: `encode` does not return a tensor.

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
    return _embeddings("cached_embeddings", encode, chunks, no_sync)


def no_sync_of(model: Any) -> NoSync | None:
    """Returns the `no_sync` method of a model under DDP, compiled or not; None for other models."""
    model = getattr(model, "_orig_mod", model)
    return model.no_sync if isinstance(model, DistributedDataParallel) else None


def _embeddings(
    op: str, encode: Callable[[Any], Tensor], chunks: Iterable[Any], no_sync: NoSync | None
) -> Tensor:
    if isinstance(chunks, (Tensor, Mapping)):
        kind = type(chunks).__name__
        raise ValueError(f"{op}: chunks must be several, got one {kind}; split it into chunks")
    chunks = list(chunks)
    if not chunks:
        raise ValueError(f"{op}: expected a chunk or more, got none")
    for i, chunk in enumerate(chunks):
        if torch.is_grad_enabled() and not all(x.is_leaf for x in tensors_in(chunk)):
            raise ValueError(
                f"{op}: chunk {i} has a graph behind it, which gradients do not reach; make it "
                "inside encode, or detach it"
            )
    anchor = torch.empty(0, requires_grad=True)  # puts the node into a graph
    embeddings: Tensor = _Cached.apply(  # type: ignore[no-untyped-call]
        anchor, op, encode, chunks, no_sync or no_sync_of(encode)
    )
    return embeddings


class _Cached(torch.autograd.Function):
    """Encodes without a graph; backward encodes each chunk again and differentiates it."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        op: str,
        encode: Callable[[Any], Tensor],
        chunks: list[Any],
        no_sync: NoSync | None,
    ) -> Tensor:
        ctx.op, ctx.encode, ctx.no_sync, ctx.trained = op, encode, no_sync, False
        ctx.replays, parts = [], []
        for chunk in chunks:
            ctx.replays.append(Replay.record(chunk))
            parts.append(_checked(op, encode(chunk)))
        # Before 2.10, torch would reuse cached casts of weights that have no graph.
        torch.clear_autocast_cache()
        ctx.rows = [len(part) for part in parts]
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, ...]:
        shares = torch.split(grad, ctx.rows)
        for i, replay in enumerate(ctx.replays):
            last = i == len(shares) - 1
            with contextlib.nullcontext() if ctx.no_sync is None or last else ctx.no_sync():
                with replay.restored(ctx.op) as chunk, torch.enable_grad():
                    embeddings = ctx.encode(chunk)
                if embeddings.requires_grad:  # else the encoder is frozen
                    ctx.trained = True
                    embeddings.backward(shares[i])
        return (None,) * 5


def _checked(op: str, embeddings: Any) -> Tensor:
    if not isinstance(embeddings, Tensor):
        kind = type(embeddings).__name__
        raise TypeError(f"{op}: encode must return a tensor [rows, dim], got {kind}")
    if embeddings.ndim != 2:
        shape = tuple(embeddings.shape)
        raise ValueError(f"{op}: encode must return a tensor [rows, dim], got shape {shape}")
    return embeddings


def cached_backward(
    loss: Callable[..., Tensor],
    *towers: tuple[Callable[[Any], Tensor], Iterable[Any]],
    no_sync: NoSync | None = None,
    scaler: Any = None,
) -> Tensor:
    """Adds to parameters the gradients of a loss over a whole batch, encoding a chunk at a time.

    The gradients are those of ``loss(*(torch.cat([encode(c) for c in chunks]) for encode, chunks in
    towers)).backward()``, dropout included, up to the order in which chunks are added; but only one
    chunk's activations are held at any time, at the cost of a second forward pass. The restrictions
    of `cached_embeddings` on encoders, chunks and exceptions apply here, too.

    Args:
        loss: takes the embeddings ``[rows, dim]`` of each tower, in order, and returns a number.
            Its own parameters, such as a temperature, get their gradients, too.
        towers: pairs ``(encode, chunks)``: a function from a chunk to embeddings ``[rows, dim]``,
            and the chunks of the batch: anything that `encode` takes.
        no_sync: as in `cached_embeddings`, for all towers (for several models, a function that
            enters the methods of all). Gradients are exchanged with the last chunk of each tower.
        scaler: a `torch.amp.GradScaler`, which scales the loss as it would without caching.

    Returns:
        The loss, without a graph.

    Raises:
        ValueError: no tower, chunks or embeddings that cannot be used, a loss that is not a number
            with a graph, a call under ``torch.no_grad()``, and towers and a loss that have nothing
            to train (an `encode` that runs under ``torch.no_grad()`` itself, or frozen parameters).
        TypeError: a tower that is not a pair, `encode` or `loss` not returning a tensor.

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
    op = "cached_backward"
    if not torch.is_grad_enabled():
        raise ValueError(f"{op}: gradients are disabled here, by torch.no_grad() or the like")
    if not towers:
        raise ValueError(f"{op}: expected at least one tower, got none")
    for tower in towers:
        _check_tower(op, tower)
    embeddings = [_embeddings(op, encode, chunks, no_sync) for encode, chunks in towers]
    nodes = [x.grad_fn for x in embeddings]
    value = loss(*embeddings)
    _check_loss(op, value)
    (value if scaler is None else scaler.scale(value)).backward()
    if not any(node.trained for node in nodes) and not _reaches_other_leaves(value):  # type: ignore[union-attr]
        raise ValueError(
            f"{op}: nothing was trained: no chunk of any tower has a graph; does encode run under "
            "no_grad?"
        )
    return value.detach()


def _check_tower(op: str, tower: Any) -> None:
    if not (isinstance(tower, (tuple, list)) and len(tower) == 2 and callable(tower[0])):
        kind = type(tower).__name__
        raise TypeError(f"{op}: each tower must be a pair (encode, chunks), got {kind}")


def _check_loss(op: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: loss must return a tensor, got {type(value).__name__}")
    if value.numel() != 1:
        raise ValueError(f"{op}: loss must return one number, got shape {tuple(value.shape)}")
    if not value.requires_grad:
        raise ValueError(f"{op}: loss returned a number without a graph; is it detached?")


def _reaches_other_leaves(value: Tensor) -> bool:
    """Returns whether the graph of a loss reaches anything besides cached embeddings."""
    nodes, seen = [value.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen or hasattr(node, "replays"):
            continue
        if hasattr(node, "variable"):
            return True
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
    return False
