"""Computes the in-batch contrastive loss (InfoNCE) and its gradients without the score matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..distributed import collectives
from ..losses import loss_inputs, spread
from ..torch_ops import result_dtype
from .derivative import first_derivative_only
from .finished_calls import finishes_before_exit
from .sums import inner_product

_OP = "contrastive_loss"


@finishes_before_exit
def contrastive_loss(
    queries: Tensor,
    documents: Tensor,
    positives: Tensor | tuple[Tensor, Tensor] | Sequence[Sequence[int]],
    *,
    temperature: float | Tensor | None = None,
    log_scale: Tensor | float | None = None,
    mode: str = "each",
    exclude: tuple[Tensor, Tensor] | Sequence[Sequence[int]] | None = None,
    exclude_ids: tuple[Tensor, Tensor] | Sequence[Sequence[int]] | None = None,
    query_ids: Tensor | None = None,
    document_ids: Tensor | None = None,
    soft_targets: Tensor | None = None,
    gates: tuple[Tensor, Tensor] | None = None,
    symmetric: bool = False,
    reduction: str = "mean",
    process_group: torch.distributed.ProcessGroup | None = None,
) -> Tensor:
    """Computes the in-batch contrastive loss (InfoNCE) without the score matrix.

    With one positive per query it equals ``F.cross_entropy(queries @ documents.T / temperature,
    positives)``: the same loss and the same gradients, with memory for a block of queries (40 MiB)
    instead of three matrices ``[n, m]`` in autograd. Documents are one flat matrix: hard negatives
    are simply further rows, any number per query, and every document is a candidate
    for every query.

    With scores ``s = scale <q, d>``, positives P and the other candidates C of a query:

    - mode "each": the mean over p in P of ``logsumexp({s_p} + C) - s_p``; other positives stay out
      of the denominator. Yu et al. (arXiv:2305.17331), in the authors' code.
    - mode "sum": ``logsumexp(P + C) - logsumexp(P)``, the likelihood of the set of positives.
    - `soft_targets` t: ``KL(t || softmax(P + C))``, as in distillation; t is 0 for documents that
      `positives` does not list. (`alignment_loss` has a softmax over listed documents alone.)

    Over the ranks of a `process_group` it is the loss of one process with the rows of all ranks, in
    their order, however many each has, also none. Every rank passes its own queries and documents,
    with lists of these; its queries are scored against the documents of all ranks, and the summed
    gradients of documents return to the rank that owns them. DDP averages gradients of parameters
    over ranks, so a rank's value is the number of ranks times its own part of the loss, for "mean"
    as for "sum": the mean over ranks, of values and of gradients, is that of one process. Do not
    multiply by the number of ranks again, as recipes for losses of gathered rows do; and register a
    learned scale with DDP. "none" returns the losses of own queries unscaled: multiply a weighted
    sum of them by the number of ranks. A rank holds the embeddings of all and their gradients,
    never scores; masks by id become lists there, so ids of few values (labels) cost memory for all
    pairs of them.

    Gradients have the same bits for any number of threads. The loss and the gradients are formed in
    float32 for half-precision inputs, in float64 for float64. The second derivative is not offered.

    Args:
        queries: ``[n, dim]`` float32, bfloat16, float16 or float64.
        documents: ``[m, dim]`` of the same dtype (under autocast, of any).
        positives: ``[n]`` int64, the document of each query; or ``(offsets [n + 1], indices)`` for
            lists of one or more; or a list of n lists.
        temperature: scores are divided by it; a number or a tensor (which then gets a gradient).
        log_scale: scores are multiplied by its exponential instead: the usual learned parameter.
            With neither, scores stay as they are.
        mode: "each" or "sum"; they differ where a query has several positives.
        exclude: ``(offsets [n + 1], indices)``, or a list of n lists: documents that are no
            candidates of a query, such as known positives elsewhere in the batch. A positive of
            the query stays one.
        exclude_ids: ``(offsets [n + 1], ids)``, or a list of n lists: documents with one of these
            `document_ids` are no candidates of a query, whichever rank they are on, such as all its
            known positives.
        query_ids: ``[n]`` int64: positives of queries with the same id are no negatives.
        document_ids: ``[m]`` int64: documents with the id of a positive (or of what `query_ids`
            spares) are no negatives.
        soft_targets: how much each of the listed `positives` counts, in their order: numbers of 0
            or more that sum to one for each query. They get no gradient.
        gates: ``(queries [n, e], documents [m, e])``: each score is multiplied by the sigmoid of
            the inner product of these, which get no gradient. Not with a `process_group`.
        symmetric: half of this loss plus half of the same over documents: each that is a positive,
            against all queries. Together they cost a third more, not twice as much.
        reduction: "mean" over queries (and over documents with a positive), "sum", or "none" for
            ``[n]``, not offered with `symmetric`. Nor are soft targets.
        process_group: the `torch.distributed.ProcessGroup` that the batch is spread over, with a
            backend for the CPU, such as gloo. Ids are of all ranks: documents of one id are the
            same document on any. All ranks must call with the same options and go backward alike,
            or some wait for others. With `symmetric` all ranks together take ``6 n (m + documents
            that are a positive) dim`` operations where one process takes ``8 n m dim``.
            (`torch.distributed.group.WORLD` is None until torch.distributed is initialised.)

    Returns:
        The loss: a number, or ``[n]``; float32, or float64 for float64 inputs. Where nothing is
        left to compare a positive with, the loss of that query is 0.

    Raises:
        ValueError: shapes that do not fit, an index out of range, a query without a positive, ids
            of another length, a temperature that is not positive, soft targets that do not sum to
            one, a NaN or an infinity in a row. Where the arguments of one rank of
            a `process_group` are invalid, all ranks raise an error that names the rank.
        TypeError: dtypes that cannot be used.

    Example:
        >>> queries, documents = torch.eye(4)[:2], torch.eye(4)
        >>> contrastive_loss(queries, documents, torch.tensor([0, 1]), temperature=0.5)
        tensor(0.3408)
    """

    alone = process_group is None or collectives.is_single_rank(_OP, process_group)

    def batch() -> loss_inputs.Batch:
        check_options(mode, reduction, symmetric, soft_targets is not None)
        if gates is not None and process_group is not None:
            raise ValueError(f"{_OP}: gates have no form over the ranks of a process_group")
        q, d = loss_inputs.matched(_OP, queries, documents, min_rows=1 if alone else 0)
        n, m = len(q), len(d)
        lists = loss_inputs.lists(_OP, positives, "positives", n)
        return loss_inputs.Batch(
            q,
            d,
            loss_inputs.scale(_OP, temperature, log_scale),
            lists,
            None
            if soft_targets is None
            else loss_inputs.soft_targets(_OP, soft_targets, len(lists[1])),
            None if exclude is None else loss_inputs.lists(_OP, exclude, "exclude", n),
            None if exclude_ids is None else loss_inputs.lists(_OP, exclude_ids, "exclude_ids", n),
            None if query_ids is None else loss_inputs.row_ids(_OP, query_ids, "query_ids", n),
            None
            if document_ids is None
            else loss_inputs.row_ids(_OP, document_ids, "document_ids", m),
            None if gates is None else loss_inputs.gates(_OP, gates, q, d),
        )

    if process_group is None or alone:
        return _loss(batch(), mode, symmetric, reduction)
    options = {"mode": mode, "symmetric": symmetric, "reduction": reduction}
    part = spread.part(_OP, batch, options, process_group)
    return _rank_loss(part, mode, reduction)


def check_options(mode: Any, reduction: Any, symmetric: Any, soft: bool) -> None:
    """Raises for options that are unknown or do not go together."""
    if mode not in ("each", "sum"):
        raise ValueError(f"{_OP}: mode must be 'each' or 'sum', got {mode!r}")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{_OP}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if not isinstance(symmetric, bool):
        kind = type(symmetric).__name__
        raise TypeError(f"{_OP}: symmetric must be True or False, got {kind}")
    if symmetric and reduction == "none":
        raise ValueError(
            f"{_OP}: reduction='none' has no symmetric form; call it twice, transposed"
        )
    if soft and (symmetric or mode != "each"):
        raise ValueError(f"{_OP}: soft_targets allow neither symmetric=True nor mode='sum'")


def _loss(batch: loss_inputs.Batch, mode: str, symmetric: bool, reduction: str) -> Tensor:
    graph = torch.is_grad_enabled()  # inside forward() it is always disabled
    q, d, scale, *_ = batch
    loss: Tensor = _Contrastive.apply(  # type: ignore[no-untyped-call]
        q, d, scale, batch.lists(), mode == "each", symmetric, reduction, graph
    )
    return loss


def _rank_loss(part: spread.Part, mode: str, reduction: str) -> Tensor:
    """Scales the loss of a rank so that the mean over ranks equals the loss of one process.

    The same holds for gradients, which DDP averages over ranks.
    """
    if reduction == "none":
        return _loss(part.query_batch, mode, False, "none")
    n, m = (part.n_queries, part.n_documents) if reduction == "mean" else (1, 1)
    loss = _loss(part.query_batch, mode, False, "sum") * (part.world / n)
    if part.document_batch is not None:
        document_loss = _loss(part.document_batch, mode, False, "sum") * (part.world / m)
        loss = (loss + document_loss) / 2
    return loss


class _Contrastive(torch.autograd.Function):
    """Computes the loss, one number or one per query, and its gradients.

    In a mean or a sum the weight of each query's loss is known in advance, so the gradients are
    computed along with the loss, for an incoming gradient of 1, and scaled in place in backward.
    A second backward pass, and reduction "none", compute them again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        documents: Tensor,
        scale: Tensor,
        lists: tuple[Tensor | None, ...],
        each: bool,
        symmetric: bool,
        reduction: str,
        graph: bool,
    ) -> Tensor:
        wants_queries, wants_documents, ctx.wants_scale = (
            graph and wanted for wanted in ctx.needs_input_grad[:3]
        )
        ctx.each, ctx.symmetric = each, symmetric
        ctx.wants = (wants_queries or ctx.wants_scale, wants_documents)
        ctx.gradients, ctx.reduction = None, reduction
        inputs = (queries, documents, scale, *lists)
        if reduction == "none":
            losses, *_ = torch.ops.tilefold.contrastive(
                *inputs, None, None, each, symmetric, False, False
            )
            ctx.save_for_backward(*inputs, None, None)
            return _as_result(losses, queries)
        n, m, mean = len(queries), len(documents), reduction == "mean"
        share = 0.5 if symmetric else 1.0
        query_weights = queries.new_full((n,), share / (n if mean else 1), dtype=torch.float64)
        document_weights = None
        if symmetric:
            own = torch.zeros(m, dtype=torch.float64, device="cpu")  # lists are on the host
            own[lists[1].clamp(0, m - 1)] = 1  # type: ignore[union-attr]  # the op checks them
            document_weights = own * (share / (own.sum() if mean else 1))
            document_weights = document_weights.to(queries.device)
        losses, document_losses, *gradients = torch.ops.tilefold.contrastive(
            *inputs, query_weights, document_weights, each, symmetric, *ctx.wants
        )
        ctx.compiled = torch.compiler.is_compiling()
        if ctx.compiled:  # a compiled graph saves tensors through ctx only
            ctx.save_for_backward(queries, scale, *gradients)
        else:
            ctx.save_for_backward(*inputs, query_weights, document_weights)
            ctx.gradients = gradients
        total = inner_product(query_weights, losses)
        if document_weights is not None:
            total = total + inner_product(document_weights, document_losses)
        return _as_result(total, queries)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first_derivative_only(_OP)
        if ctx.reduction != "none" and ctx.compiled:
            queries, scale, *gradients = ctx.saved_tensors
            gradients = [g * grad for g in gradients]
        elif ctx.gradients is not None:
            queries, _, scale, *_ = ctx.saved_tensors
            gradients, ctx.gradients = [g.mul_(grad) for g in ctx.gradients], None
        else:
            *inputs, query_weights, document_weights = ctx.saved_tensors
            queries, _, scale, *_ = inputs
            weights = grad.double() * (1 if query_weights is None else query_weights)
            if document_weights is not None:
                document_weights = grad.double() * document_weights
            _, _, *gradients = torch.ops.tilefold.contrastive(
                *inputs, weights, document_weights, ctx.each, ctx.symmetric, *ctx.wants
            )
        grad_queries, grad_documents = gradients
        wants_queries, wants_documents = ctx.needs_input_grad[:2]
        return (
            grad_queries.to(queries.dtype) if wants_queries else None,
            grad_documents.to(queries.dtype) if wants_documents else None,
            # every score is scale <q, d>, so the sum of <q, dL/dq> is scale dL/dscale
            (
                inner_product(queries, grad_queries).to(scale.device) / scale
                if ctx.wants_scale
                else None
            ),
            *[None] * 5,
        )


def _as_result(loss: Tensor, queries: Tensor) -> Tensor:
    return loss.to(result_dtype(queries))
