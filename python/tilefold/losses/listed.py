"""Scores of listed candidates, softmax over lists, and the divergences between such distributions.

Lists are CSR as in `lists.py`: offsets ``[n + 1]`` and indices ``[listed]``; one may be empty. A
score is one number where a document is hundreds, so all that follows scores is formed in float64.
`index_select` picks from them, because its backward adds in order; that of indexing need not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..torch_ops import result_dtype

# Rows gathered at a time, of queries and documents each: 4 MiB in float32 at most. Sums over a list
# are formed of sums over these, so few rows also keep their rounding small.
_ROWS, _NUMBERS = 1024, 1 << 20


def scores(queries: Tensor, documents: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    """Inner products of each query with its listed documents.

    Equals ``(queries[owners] * documents[indices]).sum(1)`` without holding either copy.

    Args:
        queries: ``[n, dim]``.
        documents: ``[m, dim]`` of the same dtype.
        offsets, indices: the documents of each query.

    Returns:
        ``[listed]`` float32, or float64 for float64 inputs; gradients have the inputs' dtype.
    """
    result: Tensor = _Scores.apply(queries, documents, offsets, indices)  # type: ignore[no-untyped-call]
    return result


class _Scores(torch.autograd.Function):
    """Inner products on the way out; on the way back weighted sums of the rows on the other side.

    Both go through the lists a chunk at a time and save nothing but the inputs.
    """

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, documents: Tensor, offsets: Tensor, indices: Tensor
    ) -> Tensor:
        ctx.save_for_backward(queries, documents, offsets, indices)
        dtype, owners = result_dtype(queries), _owners(offsets)
        result = queries.new_empty(len(indices), dtype=dtype)
        for part in _chunks(len(indices), queries.shape[1]):
            product = documents.index_select(0, indices[part]).to(dtype)
            product *= queries.index_select(0, owners[part]).to(dtype)
            torch.sum(product, 1, out=result[part])
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, documents, offsets, indices = ctx.saved_tensors
        wants_queries, wants_documents = ctx.needs_input_grad[:2]
        grad_queries = grad_documents = None
        if wants_queries:
            grad_queries = _weighted_sums(documents, grad, offsets, indices)
        if wants_documents:  # the same lists from the side of the documents
            order = torch.argsort(indices, stable=True)
            counts = torch.bincount(indices, minlength=len(documents))
            grad_documents = _weighted_sums(
                queries, grad[order], _from_zero(counts.cumsum(0)), _owners(offsets)[order]
            )
        return grad_queries, grad_documents, None, None


def _weighted_sums(rows: Tensor, weights: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    """For each list the sum of ``weights[e] * rows[indices[e]]``: ``[lists, dim]`` as `rows`.

    A list longer than a chunk is added up in parts.
    """
    result = rows.new_zeros((len(offsets) - 1, rows.shape[1]), dtype=weights.dtype)
    for part in _chunks(len(indices), rows.shape[1]):
        begin, end = part.start, part.stop
        ends = torch.searchsorted(offsets, offsets.new_tensor([begin, end - 1]), right=True)
        first, last = (ends - 1).tolist()  # lists of the chunk's first and last element
        result[first : last + 1] += F.embedding_bag(
            torch.arange(end - begin, device=rows.device),
            rows.index_select(0, indices[part]).to(weights.dtype),
            offsets[first : last + 2].clamp(begin, end) - begin,
            mode="sum",
            per_sample_weights=weights[part],
            include_last_offset=True,
        )
    return result.to(rows.dtype)


def _chunks(listed: int, dim: int) -> Iterator[slice]:
    step = min(_ROWS, max(1, _NUMBERS // max(1, dim)))
    for begin in range(0, listed, step):
        yield slice(begin, min(begin + step, listed))


def _owners(offsets: Tensor) -> Tensor:
    """The list of each listed document."""
    lists = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(lists, offsets.diff())


def _from_zero(ends: Tensor) -> Tensor:
    return F.pad(ends, (1, 0))


# ---- distributions over lists --------------------------------------------------------------------


def sums(values: Tensor, offsets: Tensor) -> Tensor:
    """The sum over each list: ``[..., listed]`` to ``[..., n]``, 0 for an empty one."""
    keys, shape = _keys(values, offsets)
    return _sums(values.reshape(-1).double(), keys, shape).to(result_dtype(values))


def log_softmax(scores: Tensor, offsets: Tensor) -> Tensor:
    """Logarithms of the softmax over each list: ``[..., listed]`` for ``[..., listed]``."""
    keys, shape = _keys(scores, offsets)
    flat = scores.reshape(-1).double()
    largest = flat.new_full((math.prod(shape),), -math.inf)
    largest = largest.scatter_reduce(0, keys, flat.detach(), "amax")
    shifted = flat - largest.index_select(0, keys)
    # Spread before the logarithm, which would be taken of 0 for an empty list.
    totals = _sums(shifted.exp(), keys, shape).reshape(-1).index_select(0, keys)
    return (shifted - totals.log()).reshape(scores.shape).to(result_dtype(scores))


def _keys(values: Tensor, offsets: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """The list of each value, counted on through leading dimensions; and the shape of all lists."""
    leading, n = values.shape[:-1], len(offsets) - 1
    before = torch.arange(math.prod(leading), device=offsets.device)[:, None] * n
    return (before + _owners(offsets)).reshape(-1), (*leading, n)


def _sums(values: Tensor, keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    return values.new_zeros(math.prod(shape)).index_add(0, keys, values).reshape(shape)


# ---- divergences ---------------------------------------------------------------------------------


def alignment(student: Tensor, teacher: Tensor, offsets: Tensor, divergence: str) -> Tensor:
    """How far the student's softmax over each list is from the teacher's.

    Args:
        student: ``[listed]`` scaled scores.
        teacher: ``[listed]``; it gets a gradient, too, unless it is detached.
        offsets: the lists.
        divergence: "forward_kl", "reverse_kl" or "js", as in `reference.alignment_losses`.

    Returns:
        ``[n]`` float32, or float64 for a float64 student.
    """
    log_s, log_t = (log_softmax(x.double(), offsets) for x in (student, teacher))
    if divergence == "forward_kl":
        terms = _kl_terms(log_t, log_s)
    elif divergence == "reverse_kl":
        terms = _kl_terms(log_s, log_t)
    else:
        terms = 0.5 * (_to_middle(log_s, log_t) + _to_middle(log_t, log_s))
    return sums(terms, offsets).to(result_dtype(student))


def _kl_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Logarithms are finite, so where p underflows to 0 the term and its gradient are 0."""
    return log_p.exp() * (log_p - log_q)


def _to_middle(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The terms of ``KL(p || (p + q) / 2)``: there ``p / m = 2 sigmoid(log p - log q)``."""
    return log_p.exp() * (math.log(2) + F.logsigmoid(log_p - log_q))


class Consistency(NamedTuple):
    """How much the distributions of several views agree."""

    losses: Tensor  # [n]: the mean of the divergences over views
    divergences: Tensor  # [S, n]
    means: Tensor  # [listed] of the probability over views
    variances: Tensor  # [listed]


def consistency(views: Tensor, offsets: Tensor, invariant: Tensor | None = None) -> Consistency:
    """The KL of every view from the views' mean over invariant documents, which is held constant.

    The mean is formed of logarithms, so it has a distribution over the invariant documents even
    where all their probabilities underflow.

    Args:
        views: ``[S, listed]`` scaled scores.
        offsets: the lists.
        invariant: ``[listed]`` bool; all by default.

    Returns:
        As `reference.consistency_losses`, documents listed; float32, or float64 for float64 views.
    """
    log_p = log_softmax(views.double(), offsets)
    log_means = torch.logsumexp(log_p, 0) - math.log(len(views))
    kept, offsets_kept, log_target = log_p, offsets, log_means.detach()
    if invariant is not None:
        places = invariant.nonzero().squeeze(1)
        kept, log_target = log_p.index_select(1, places), log_target[places]
        offsets_kept = _from_zero(invariant.cumsum(0))[offsets]
    log_target = log_softmax(log_target, offsets_kept)
    divergences = sums(_kl_terms(log_target, kept), offsets_kept)
    p = log_p.exp()
    variances = (p - p.mean(0)).square().mean(0)
    results = (divergences.mean(0), divergences, p.mean(0), variances)
    return Consistency(*(x.to(result_dtype(views)) for x in results))
