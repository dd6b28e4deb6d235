"""Gathers rows of different numbers per rank, with gradients.

Ranks may have different numbers of rows. Every function here is called by all ranks of the group,
in the same order, or those that call wait for those that do not.
"""

from __future__ import annotations

import json
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..torch_ops import result_dtype


def is_single_rank(op: str, group: Any) -> bool:
    """Returns whether the group has one rank, after checking that it can be used.

    Raises:
        ValueError: torch.distributed is not initialised.
        TypeError: no process group, or one without this process.
    """
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError(f"{op}: process_group needs torch.distributed, which is not initialised")
    if not isinstance(group, dist.ProcessGroup) or dist.get_rank(group) < 0:
        raise TypeError(
            f"{op}: process_group must be a torch.distributed.ProcessGroup with this process in "
            f"it, got {type(group).__name__}"
        )
    return dist.get_world_size(group) == 1


def all_gather_json(facts: dict[str, Any], group: dist.ProcessGroup) -> list[dict[str, Any]]:
    """Gathers a JSON object from every rank; pickled objects could run code when read."""
    mine = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
    ones = [1] * dist.get_world_size(group)
    sizes = all_gather_rows(torch.tensor([len(mine)]), ones, group).tolist()
    texts = torch.split(all_gather_rows(mine, sizes, group), sizes)
    return [json.loads(text.numpy().tobytes()) for text in texts]


def all_gather_rows(x: Tensor, sizes: list[int], group: dist.ProcessGroup) -> Tensor:
    """Gathers the rows of all ranks, in the order of ranks.

    Each rank sends its own straight to their place: gathering rows of different numbers would have
    to pad them and copy them once more.
    """
    whole = x.new_empty((sum(sizes), *x.shape[1:]))
    parts = torch.split(whole, sizes)
    parts[dist.get_rank(group)].copy_(x)
    sent = [
        dist.broadcast(_as_bytes(part), rank, group, async_op=True)
        for rank, part in zip(dist.get_process_group_ranks(group), parts, strict=True)
        if part.numel()
    ]
    for work in sent:
        work.wait()
    return whole


def all_gather_with_gradient(
    x: Tensor, sizes: list[int], wanted: bool, group: dist.ProcessGroup
) -> Tensor:
    """Gathers the rows of all ranks; backward sums over ranks the gradient of each rank's rows.

    Args:
        x: ``[sizes[rank], dim]``.
        sizes: rows of each rank.
        wanted: whether any rank wants a gradient: then all must help to form it.
        group: the ranks.
    """
    if not wanted:
        return all_gather_rows(x.detach(), sizes, group)
    x = x if x.requires_grad else x.detach().requires_grad_()
    whole: Tensor = _Gathered.apply(x, sizes, group)  # type: ignore[no-untyped-call]
    return whole


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        return all_gather_rows(x, sizes, group)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        sizes, world = ctx.sizes, len(ctx.sizes)
        rows = sizes[dist.get_rank(ctx.group)]
        parts = grad.new_empty((world, rows, grad.shape[1]))
        dist.all_to_all_single(
            _as_bytes(parts.flatten(0, 1)),
            _as_bytes(grad.contiguous()),
            [rows] * world,
            sizes,
            ctx.group,
        )
        # Added here, in the order of ranks and with the precision of the result.
        return parts.sum(0, dtype=result_dtype(grad)).to(grad.dtype), None, None


def average_gradient(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Returns x; backward averages its gradient over ranks.

    DDP does this to the parameters that it knows of. Once more does not matter: all ranks have the
    mean by then.
    """
    same: Tensor = _Averaged.apply(x, group)  # type: ignore[no-untyped-call]
    return same


class _Averaged(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ones = [1] * dist.get_world_size(ctx.group)
        return all_gather_rows(grad.reshape(1), ones, ctx.group).mean().reshape(grad.shape), None


def _as_bytes(x: Tensor) -> Tensor:
    """Views a tensor as bytes: backends do not know every dtype."""
    return x.view(torch.uint8)
