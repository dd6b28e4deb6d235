"""Computes KL divergences between the softmaxes of several views and their mixture.

The alignment and the invariance loss are built on them.
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
    """The mixture M that the softmaxes P of views are compared with, and the form of the loss."""

    reference: int  # the view that is M; -1: M is the mean of all views
    first: bool  # KL(M || P) if true, else KL(P || M)
    shares: tuple[float, ...]  # the weight of each view's divergence in the loss


class Divergence(NamedTuple):
    """A loss with its gradient, and the quantities that it is computed from, without gradients."""

    loss: Tensor  # a number, or [n]
    divergences: Tensor  # [views, n]
    masses: Tensor  # [n] probability of listed documents under the mixture
    variances: Tensor  # [n] variance of P over views, summed over documents


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
    """Computes a weighted sum of KL divergences between softmaxes and their mixture, a constant.

    The softmaxes are those of ``scale * queries @ documents.T``; no matrix ``[n, m]`` is formed,
    and the gradients are computed together with the loss.

    Args:
        name: the public function, for messages.
        queries: one matrix ``[n, dim]`` per view.
        documents: one matrix ``[m, dim]`` per view, or a single one for all views.
        scales: ``[views]`` float64, the factors of inner products.
        mixture: the mixture and the form of the divergence.
        sides: the name of each view in messages, such as " of the teacher".
        exclude: ``(offsets [n + 1], indices)``: documents that are no candidates of a query.
        listed: ``(offsets [n + 1], indices)``: the only documents of the mixture.
        reduction: "mean" or "sum" over queries, or "none".

    Returns:
        The loss, a number or ``[n]``, and the divergences, masses and variances of `Divergence`.

    Raises:
        ValueError: a scale that is not positive, an index out of range, a NaN or an infinity in a
            row.
    """
    lists = (*(exclude or (None, None)), *(listed or (None, None)))
    graph = torch.is_grad_enabled()  # inside forward() it is always disabled
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
    """Computes gradients along with the loss, as `_Contrastive` does; backward scales them."""

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
        if ctx.compiled and known:  # a compiled graph saves tensors through ctx only
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
        if ctx.wants_scales:  # every score is scale <q, d>, as in contrastive_loss.py
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
