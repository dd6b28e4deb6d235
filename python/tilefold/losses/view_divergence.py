"""KL divergences between the softmaxes of several views and their mixture, with gradients.

Alignment and invariance losses share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..torch_ops import result_dtype
from .derivative import first_derivative_only
from .sums import inner_product, total


class Mixture(NamedTuple):
    """What softmaxes P of views are compared with, and how."""

    reference: int  # the view that the mixture M is; -1: the mean of all
    first: bool  # KL(M || P), else KL(P || M)
    shares: tuple[float, ...]  # of each view's divergence in the loss


class Divergence(NamedTuple):
    """A loss with its gradient, and what it is made of, without."""

    loss: Tensor  # a number, or [n]
    divergences: Tensor  # [views, n]
    masses: Tensor  # [n] of the mixture on listed documents
    variances: Tensor  # [n] of P over views, summed over documents


def divergence(
    name: str,
    queries: Sequence[Tensor],
    documents: Sequence[Tensor],
    scales: Tensor,
    mixture: Mixture,
    sides: Sequence[str],
    *,
    exclude: tuple[Tensor, Tensor] | None = None,
    listed: tuple[Tensor, Tensor] | None = None,
    reduction: str = "mean",
) -> Divergence:
    """Shares of KL divergences between softmaxes over documents and their mixture, a constant.

    Args:
        name: of the loss, for messages.
        queries: of each view ``[n, dim]``.
        documents: of each view ``[m, dim]``, or one for all.
        scales: ``[views]`` what inner products are multiplied by.
        mixture: what they are compared with.
        sides: what messages call each view, such as " of the teacher".
        exclude: lists of documents that are no candidates.
        listed: lists of the only documents of the mixture.
        reduction: "mean" or "sum" over queries, or "none".
    """
    lists = (*(exclude or (None, None)), *(listed or (None, None)))
    graph = torch.is_grad_enabled()  # inside forward it never is
    results = _Divergence.apply(  # type: ignore[no-untyped-call]
        (name, tuple(sides)),
        mixture,
        lists,
        reduction,
        graph,
        len(queries),
        scales,
        *queries,
        *documents,
    )
    return Divergence(*results)


class _Divergence(torch.autograd.Function):
    """Gradients are formed with the loss and handed on without a copy, as in contrastive.py."""

    @staticmethod
    def forward(
        ctx: Any,
        names: tuple[str, tuple[str, ...]],
        mixture: Mixture,
        lists: tuple[Tensor | None, ...],
        reduction: str,
        graph: bool,
        views: int,
        scales: Tensor,
        *rows: Tensor,
    ) -> tuple[Tensor, ...]:
        *_, ctx.wants_scales = ctx.needs_input_grad[:7]
        wanted = [graph and want for want in ctx.needs_input_grad[7:]]
        wants = (
            [
                graph and (want or (ctx.wants_scales and share != 0))
                for want, share in zip(wanted[:views], mixture.shares, strict=True)
            ],
            wanted[views:],
        )
        how = (mixture.reference, mixture.first, *lists)
        ctx.call = (names, how, views, wants, reduction)
        shares = scales.new_tensor(mixture.shares)
        n = len(rows[0])
        each = (shares / n if reduction == "mean" else shares).to(rows[0].device)
        weights = each[:, None].expand(views, n)
        known = reduction != "none" and (any(wants[0]) or any(wants[1]))
        nothing = ([False] * views, [False] * (len(rows) - views))
        divergences, masses, variances, grad_queries, grad_documents = (
            torch.ops.tilefold.divergence(
                *names,
                rows[:views],
                rows[views:],
                scales,
                *how,
                weights if known else None,
                *(wants if known else nothing),
            )
        )
        ctx.compiled = torch.compiler.is_compiling()
        ctx.gradients = None
        if ctx.compiled and known:  # a graph keeps tensors in one way only
            ctx.save_for_backward(scales, *rows, *grad_queries, *grad_documents)
        else:
            ctx.save_for_backward(scales, *rows, weights)
            ctx.gradients = (*grad_queries, *grad_documents) if known else None
        losses = each @ divergences
        loss = (losses if reduction == "none" else total(losses)).to(result_dtype(rows[0]))
        ctx.mark_non_differentiable(divergences, masses, variances)
        return loss, divergences, masses, variances

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        names, how, views, wants, reduction = ctx.call
        first_derivative_only(names[0])
        scales, *saved = ctx.saved_tensors
        if ctx.compiled and reduction != "none":
            rows = saved[: len(saved) // 2]
            gradients = [g * grad for g in saved[len(rows) :]]
        elif ctx.gradients is not None:
            *rows, _ = saved
            gradients, ctx.gradients = [g.mul_(grad) for g in ctx.gradients], None
        else:
            *rows, weights = saved
            *_, grad_queries, grad_documents = torch.ops.tilefold.divergence(
                *names, rows[:views], rows[views:], scales, *how, weights * grad.double(), *wants
            )
            gradients = [*grad_queries, *grad_documents]
        grad_scales = None
        if ctx.wants_scales:  # every score is scale <q, d>, as in contrastive.py
            parts = [  # 0 where no gradient was needed
                inner_product(q[: len(g)], g)
                for q, g in zip(rows[:views], gradients[:views], strict=True)
            ]
            grad_scales = torch.stack(parts).to(scales.device) / scales
        wanted = ctx.needs_input_grad[7:]
        return (
            *[None] * 6,
            grad_scales,
            *[
                g.to(x.dtype) if want else None
                for g, x, want in zip(gradients, rows, wanted, strict=True)
            ],
        )
