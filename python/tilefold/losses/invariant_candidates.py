"""Chooses invariant candidates: documents that stay probable in all views of a query."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..integers import as_integer
from ..losses import listed, loss_inputs

_OP = "invariant_candidates"
# Probabilities of a block of queries in all views, 16 MiB in float64.
_NUMBERS = 1 << 21
_ROWS = 1024  # documents that are widened to float64 at a time


@torch.no_grad()
def invariant_candidates(
    queries: Tensor,
    documents: Tensor,
    *,
    top: int,
    beta: float = 1.0,
    candidates: Tensor | tuple[Tensor, Tensor] | None = None,
    temperature: float | Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Chooses the candidates that are probable in every view of a query, as `invariant` of a loss.

    With P_s the softmax over candidates in view s, a candidate's value is
    ``mean_s P_s - beta * sqrt(var_s P_s)`` (variance of a population), and those with the `top`
    largest values of a query are invariant; of equal values the earlier candidate. A query with no
    more candidates than that keeps all of them. Computed in float64, without a graph; of the
    matrix ``[n, m]`` a block of queries is formed at a time.

    Args:
        queries: ``[S, n, dim]``.
        documents: ``[m, dim]`` for all views, or ``[S, m, dim]``.
        top: candidates of a query that are invariant, 1 or more.
        beta: weight of the standard deviation over views, 0 or more.
        candidates: as in `invariance_loss`; all documents by default.
        temperature: scores are divided by it.

    Returns:
        What `invariance_loss` takes as `invariant`: ``(offsets [n + 1], indices)``, indices rising
        within a query; with `candidates` a bool ``[listed]`` for each of them.

    Raises:
        TypeError: `top` is no integer.
        ValueError: shapes that do not fit, a number out of range, a NaN or an infinity in a row.

    Example:
        >>> views = torch.tensor([[[3.0, 2.0, 0.0]], [[0.0, 2.0, 3.0]]])
        >>> invariant_candidates(views, torch.eye(3), top=1)
        (tensor([0, 1]), tensor([1]))
    """
    top = as_integer(top, _OP, "top", at_least=1)
    if not 0 <= beta < math.inf:
        raise ValueError(f"{_OP}: beta must be 0 or more and finite, got {beta}")
    scale = loss_inputs.checked_scale(_OP, loss_inputs.scale(_OP, temperature, None))
    pairs = _pairs(queries, documents)
    n, m = len(pairs[0][0]), len(pairs[0][1])
    if candidates is None:
        kept = torch.cat(
            [_of_block(pairs, begin, scale, top, beta) for begin in range(0, n, _rows(pairs))]
        )
        counts = torch.full((n,), min(top, m))
        return torch.nn.functional.pad(counts.cumsum(0), (1, 0)), kept
    offsets, indices = loss_inputs.candidates(_OP, candidates, n)
    loss_inputs.check_lists(_OP, offsets, indices, "candidates", m)
    scores = torch.stack([listed.scores(q, d, offsets, indices) for q, d in pairs])
    p = listed.log_softmax(scores.double() * scale, offsets).exp()
    return _largest(_values(p, beta), offsets, top)


def _pairs(queries: Tensor, documents: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns queries and documents of each view, checked."""
    if queries.ndim != 3 or not len(queries):
        raise ValueError(
            f"{_OP}: queries must have shape [views, rows, dim], got {tuple(queries.shape)}"
        )
    if documents.ndim == 3 and len(documents) != len(queries):
        raise ValueError(
            f"{_OP}: documents are of {len(documents)} views, but queries of {len(queries)}"
        )
    d = documents.expand(len(queries), -1, -1)
    pairs = []
    for s, (x, y) in enumerate(zip(queries, d, strict=True)):
        names = f"queries of view {s}", f"documents of view {s}"
        pair = loss_inputs.matched(_OP, x, y, names)
        loss_inputs.check_finite(_OP, names, pair)
        pairs.append(pair)
    return pairs


def _rows(pairs: list[Any]) -> int:
    return max(1, _NUMBERS // (len(pairs) * len(pairs[0][1])))


def _of_block(pairs: list[Any], begin: int, scale: Tensor, top: int, beta: float) -> Tensor:
    """Returns the invariant documents of some queries, one after another."""
    values = _values(_probabilities(pairs, slice(begin, begin + _rows(pairs)), scale), beta)
    if top >= values.shape[1]:
        return torch.arange(values.shape[1]).repeat(len(values))
    # Without a sort, which would take several times the memory of the scores, and most of the time.
    least = values.topk(top, 1).values[:, -1:]
    above, equal = values > least, values == least
    kept = above | (equal & (equal.cumsum(1) <= top - above.sum(1, keepdim=True)))
    return kept.nonzero()[:, 1]


def _probabilities(pairs: list[Any], block: slice, scale: Tensor) -> Tensor:
    """Computes the softmax over all documents in each view: ``[S, queries of the block, m]``."""
    queries = torch.stack([q[block].double() * scale for q, _ in pairs])
    p = queries.new_empty((*queries.shape[:2], len(pairs[0][1])))
    for view, (_, documents) in enumerate(pairs):
        for begin in range(0, len(documents), _ROWS):
            part = slice(begin, begin + _ROWS)
            torch.mm(queries[view], documents[part].double().T, out=p[view, :, part])
    p -= p.amax(2, keepdim=True)
    p.exp_()
    p /= p.sum(2, keepdim=True)
    return p


def _values(p: Tensor, beta: float) -> Tensor:
    """Computes ``mean - beta * sqrt(variance)`` over views: ``[S, ...]`` to ``[...]``."""
    return p.mean(0) - beta * p.var(0, correction=0).sqrt()


def _largest(values: Tensor, offsets: Tensor, top: int) -> Tensor:
    """Marks the `top` largest values of each list, the first of equal ones."""
    owners = torch.repeat_interleave(torch.arange(len(offsets) - 1), offsets.diff())
    by_value = torch.sort(values, descending=True, stable=True)[1]
    order = by_value[torch.sort(owners[by_value], stable=True)[1]]
    ranks = torch.arange(len(values)) - offsets[:-1][owners]
    kept = torch.zeros(len(values), dtype=torch.bool)
    kept[order] = ranks < top
    return kept
