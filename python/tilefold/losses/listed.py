"""Scores of listed candidates, softmax over lists, and the divergences between such distributions.

Lists are CSR as in `ragged_lists.py`: offsets ``[n + 1]`` and indices ``[listed]``; a list may be
empty. Scores are small beside the embeddings, so everything after them is computed in float64.
Elements are gathered by `index_select`, whose backward pass adds in a fixed order; that of advanced
indexing does not guarantee one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..torch_ops import result_dtype

# Rows of queries and of documents that are gathered at a time: at most 4 MiB each in float32.
# A sum over a list is a sum of the sums over such chunks, so small chunks also limit rounding.
_ROWS, _NUMBERS = 1024, 1 << 20


def scores(queries: Tensor, documents: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    """Computes the inner products of each query with its listed documents.

    Equals ``(queries[owners] * documents[indices]).sum(1)`` without holding either copy.

    Args:
        queries: ``[n, dim]`` of a floating-point dtype.
        documents: ``[m, dim]`` of the same dtype.
        offsets: ``[n + 1]`` int64.
        indices: ``[listed]`` int64, the documents of each query.

    Returns:
        ``[listed]`` float32, or float64 for float64 inputs; gradients have the inputs' dtype.

    Example:
        >>> queries, documents = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> scores(queries, documents, torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]))
        tensor([1., 3., 4.])
    """
    result: Tensor = _Scores.apply(queries, documents, offsets, indices)  # type: ignore[no-untyped-call]
    return result


class _Scores(torch.autograd.Function):
    """Computes inner products forward, and weighted sums of the other side's rows backward.

    Both passes process the lists in chunks and save only the inputs for the backward pass.
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
        if wants_documents:  # the transposed lists: queries of each document
            order = torch.argsort(indices, stable=True)
            counts = torch.bincount(indices, minlength=len(documents))
            grad_documents = _weighted_sums(
                queries, grad[order], _from_zero(counts.cumsum(0)), _owners(offsets)[order]
            )
        return grad_queries, grad_documents, None, None


def _weighted_sums(rows: Tensor, weights: Tensor, offsets: Tensor, indices: Tensor) -> Tensor:
    """Sums ``weights[e] * rows[indices[e]]`` over each list: ``[lists, dim]`` typed as `rows`.

    A list longer than a chunk is summed in parts.
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
    """Returns the list that each listed document belongs to."""
    lists = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(lists, offsets.diff())


def _from_zero(ends: Tensor) -> Tensor:
    return F.pad(ends, (1, 0))


def sums(values: Tensor, offsets: Tensor) -> Tensor:
    """Sums over each list: ``[..., listed]`` to ``[..., n]``, 0 for an empty list."""
    keys, shape = _keys(values, offsets)
    return _sums(values.reshape(-1).double(), keys, shape).to(result_dtype(values))


def log_softmax(scores: Tensor, offsets: Tensor) -> Tensor:
    """Computes the log-softmax over each list: ``[..., listed]`` to ``[..., listed]``."""
    keys, shape = _keys(scores, offsets)
    flat = scores.reshape(-1).double()
    largest = flat.new_full((math.prod(shape),), -math.inf)
    largest = largest.scatter_reduce(0, keys, flat.detach(), "amax")
    shifted = flat - largest.index_select(0, keys)
    # Broadcast the totals before the logarithm: the total of an empty list is 0.
    totals = _sums(shifted.exp(), keys, shape).reshape(-1).index_select(0, keys)
    return (shifted - totals.log()).reshape(scores.shape).to(result_dtype(scores))


def logsumexp(values: Tensor, offsets: Tensor) -> Tensor:
    """Computes the logsumexp over each list: ``[..., listed]`` to ``[..., n]``.

    An empty list has 0. Values may be -inf, though not all of a list.
    """
    keys, shape = _keys(values, offsets)
    flat = values.reshape(-1).double()
    largest = flat.new_full((math.prod(shape),), -math.inf)
    largest = largest.scatter_reduce(0, keys, flat.detach(), "amax")
    totals = _sums((flat - largest.index_select(0, keys)).exp(), keys, shape).reshape(-1)
    empty = largest == -math.inf
    found = torch.where(empty, 0.0, largest) + torch.where(empty, 1.0, totals).log()
    return found.reshape(shape).to(result_dtype(values))


def _keys(values: Tensor, offsets: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Numbers the list of each value, through leading dimensions; returns the shape of sums too."""
    leading, n = values.shape[:-1], len(offsets) - 1
    before = torch.arange(math.prod(leading), device=offsets.device)[:, None] * n
    return (before + _owners(offsets)).reshape(-1), (*leading, n)


def _sums(values: Tensor, keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    return values.new_zeros(math.prod(shape)).index_add(0, keys, values).reshape(shape)


def alignment(student: Tensor, teacher: Tensor, offsets: Tensor, divergence: str) -> Tensor:
    """Computes the divergence of the student's softmax over each list from the teacher's.

    Args:
        student: ``[listed]`` scaled scores.
        teacher: ``[listed]`` scaled scores; they get a gradient, too, unless they are detached.
        offsets: ``[n + 1]`` int64.
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
        terms = 0.5 * (_kl_to_middle_terms(log_s, log_t) + _kl_to_middle_terms(log_t, log_s))
    return sums(terms, offsets).to(result_dtype(student))


def _kl_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Computes ``p (log p - log q)``; where p underflows to 0, the term and its gradient are 0."""
    return log_p.exp() * (log_p - log_q)


def _kl_to_middle_terms(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Computes the terms of ``KL(p || m)``, ``m = (p + q) / 2``.

    There ``p / m = 2 sigmoid(log p - log q)``.
    """
    return log_p.exp() * (math.log(2) + F.logsigmoid(log_p - log_q))


class Consistency(NamedTuple):
    """Divergences of several views from their mean, and moments of their probabilities."""

    losses: Tensor  # [n]: the mean of the divergences over views
    divergences: Tensor  # [S, n]
    means: Tensor  # [listed] of the probability over views
    variances: Tensor  # [listed]


def consistency(views: Tensor, offsets: Tensor, invariant: Tensor | None = None) -> Consistency:
    """Computes the KL divergence of the views' mean from every view; the mean is a constant.

    The mean is restricted to the invariant documents and renormalised. It is computed in log space,
    so that it is a distribution even where the probabilities of all of them underflow.

    Args:
        views: ``[S, listed]`` scaled scores.
        offsets: ``[n + 1]`` int64.
        invariant: ``[listed]`` bool, the documents that the mean keeps; all by default.

    Returns:
        The results of `reference.consistency_losses` for listed documents; float32, or float64 for
        float64 views.
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
