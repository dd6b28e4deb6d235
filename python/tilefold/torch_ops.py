"""The kernels as ops of torch, registered with torch.library so that torch.compile sees them.

What only the values of arguments show (indices out of range, a scale that is not positive) is
checked here, because a compiled graph has no values before.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _native
from .identity import identity
from .lists import Lists, checked, shares

_library = torch.library.Library("tilefold", "DEF")  # type: ignore[no-untyped-call]
_CONTRASTIVE = "contrastive_loss"  # in messages: what users call
_library.define(  # type: ignore[no-untyped-call]
    "contrastive(Tensor queries, Tensor documents, Tensor scale, Tensor positive_offsets, "
    "Tensor positives, Tensor? soft_targets, Tensor? exclude_offsets, Tensor? exclude, "
    "Tensor? query_ids, Tensor? document_ids, Tensor? gate_queries, Tensor? gate_documents, "
    "Tensor? query_weights, Tensor? document_weights, bool each, bool symmetric, "
    "bool grad_queries, bool grad_documents) -> (Tensor, Tensor, Tensor, Tensor)"
)


def result_dtype(queries: Tensor) -> torch.dtype:
    """Of losses, and of gradients before they are rounded to the dtype of the inputs."""
    return torch.float64 if queries.dtype == torch.float64 else torch.float32


def _results(
    queries: Tensor, documents: Tensor, symmetric: bool, grad_queries: bool, grad_documents: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses of queries and documents, and their gradients; empty where not asked for."""
    n, m = len(queries), len(documents)
    exact = queries.new_empty
    dtype = result_dtype(queries)
    return (
        exact(n, dtype=torch.float64),
        exact(m if symmetric else 0, dtype=torch.float64),
        exact((n if grad_queries else 0, queries.shape[1]), dtype=dtype),
        exact((m if grad_documents else 0, queries.shape[1]), dtype=dtype),
    )


def _contrastive(
    queries: Tensor,
    documents: Tensor,
    scale: Tensor,
    positive_offsets: Tensor,
    positives: Tensor,
    soft_targets: Tensor | None,
    exclude_offsets: Tensor | None,
    exclude: Tensor | None,
    query_ids: Tensor | None,
    document_ids: Tensor | None,
    gate_queries: Tensor | None,
    gate_documents: Tensor | None,
    query_weights: Tensor | None,
    document_weights: Tensor | None,
    each: bool,
    symmetric: bool,
    grad_queries: bool,
    grad_documents: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    results = _results(queries, documents, symmetric, grad_queries, grad_documents)
    losses, document_losses, of_queries, of_documents = results
    m = len(documents)
    given = Lists(positive_offsets.numpy(), positives.numpy())
    own = checked(given, _CONTRASTIVE, "positives", m)
    targets = None
    if soft_targets is not None:
        targets = shares(given, soft_targets.numpy(), _CONTRASTIVE, "soft_targets", m)
    listed = None
    if exclude_offsets is not None and exclude is not None:
        listed = Lists(exclude_offsets.numpy(), exclude.numpy())
        listed = checked(listed, _CONTRASTIVE, "exclude", m)
    rows, columns = (None if ids is None else ids.numpy() for ids in (query_ids, document_ids))
    mask = identity(own, m, rows, columns)
    _native.contrastive(
        _rows(queries),
        _rows(documents),
        own.offsets,
        own.indices,
        losses.numpy(),
        scale=checked_factor(scale, queries.dtype, _CONTRASTIVE),
        each=each,
        soft_targets=targets,
        exclude_offsets=None if listed is None else listed.offsets,
        excluded=None if listed is None else listed.indices,
        groups=None if mask is None else mask.groups,
        group_offsets=None if mask is None else mask.ids.offsets,
        group_ids=None if mask is None else mask.ids.indices,
        document_ids=None if mask is None else mask.document_ids,
        query_weights=None if query_weights is None else _array(query_weights.contiguous()),
        document_weights=None if document_weights is None else _array(document_weights),
        document_losses=document_losses.numpy() if symmetric else None,
        grad_queries=of_queries.numpy() if grad_queries else None,
        grad_documents=of_documents.numpy() if grad_documents else None,
        gate_queries=None if gate_queries is None else _rows(gate_queries),
        gate_documents=None if gate_documents is None else _rows(gate_documents),
    )
    return results


def checked_factor(scale: Tensor, dtype: torch.dtype, op: str, side: str = "") -> float:
    """What scores are multiplied by; in fp32, more or less would make 0 * inf of -inf."""
    factor = float(scale.detach())
    if not (0 < factor < math.inf and (dtype == torch.float64 or 1e-30 < factor < 1e30)):
        raise ValueError(
            f"{op}: temperature{side} must be positive and log_scale finite, but scores would be "
            f"multiplied by {factor}"
        )
    return factor


def _rows(x: Tensor) -> NDArray[Any]:
    """As the kernels take it: dimensions contiguous."""
    return _array(x if x.stride(1) == 1 else x.contiguous())


def _array(x: Tensor) -> NDArray[Any]:
    """The same memory for NumPy, which exports it four times as fast as torch; bfloat16 as bits."""
    x = x.detach()
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def _contrastive_shapes(
    queries: Tensor, documents: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _, symmetric, grad_queries, grad_documents = rest[-4:]
    return _results(queries, documents, symmetric, grad_queries, grad_documents)


_library.impl("contrastive", _contrastive, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("tilefold::contrastive", _contrastive_shapes, lib=_library)


_library.define(  # type: ignore[no-untyped-call]
    "divergence(str name, str[] sides, Tensor[] queries, Tensor[] documents, Tensor scales, "
    "int reference, bool mixture_first, Tensor? exclude_offsets, Tensor? exclude, "
    "Tensor? listed_offsets, Tensor? listed, Tensor? weights, bool[] grad_queries, "
    "bool[] grad_documents) -> (Tensor, Tensor, Tensor, Tensor[], Tensor[])"
)

_Divergences = tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]


def _divergence_results(
    queries: list[Tensor],
    documents: list[Tensor],
    grad_queries: list[bool],
    grad_documents: list[bool],
) -> _Divergences:
    """Divergences, masses, variances, and gradients of every view, empty where not asked for."""
    n = len(queries[0])
    doubles = partial(queries[0].new_empty, dtype=torch.float64)

    def gradients(rows: list[Tensor], wanted: list[bool]) -> list[Tensor]:
        return [
            x.new_empty((len(x) if want else 0, x.shape[1]), dtype=result_dtype(x))
            for x, want in zip(rows, wanted, strict=True)
        ]

    return (
        doubles((len(queries), n)),
        doubles(n),
        doubles(n),
        gradients(queries, grad_queries),
        gradients(documents, grad_documents),
    )


def _divergence(
    name: str,
    sides: list[str],
    queries: list[Tensor],
    documents: list[Tensor],
    scales: Tensor,
    reference: int,
    mixture_first: bool,
    exclude_offsets: Tensor | None,
    exclude: Tensor | None,
    listed_offsets: Tensor | None,
    listed: Tensor | None,
    weights: Tensor | None,
    grad_queries: list[bool],
    grad_documents: list[bool],
) -> _Divergences:
    """Documents: those of each view, or one matrix for all. Sides: what messages call a view."""
    results = _divergence_results(queries, documents, grad_queries, grad_documents)
    divergences, masses, variances, of_queries, of_documents = results
    m = len(documents[0])

    def lists(offsets: Tensor | None, indices: Tensor | None, what: str) -> Lists | None:
        if offsets is None or indices is None:
            return None
        return checked(Lists(offsets.numpy(), indices.numpy()), name, what, m)

    out = lists(exclude_offsets, exclude, "exclude")
    own = lists(listed_offsets, listed, "invariant")
    d = [_rows(x) for x in documents]
    dd = [x.numpy() if want else None for x, want in zip(of_documents, grad_documents, strict=True)]
    each = range(len(queries))
    _native.divergence(
        name,
        [
            (
                _rows(queries[v]),
                d[v % len(d)],
                of_queries[v].numpy() if grad_queries[v] else None,
                dd[v % len(d)],
                checked_factor(scales[v], queries[v].dtype, name, sides[v]),
                sides[v],
            )
            for v in each
        ],
        divergences.numpy(),
        masses.numpy(),
        variances.numpy(),
        reference=reference,
        mixture_first=mixture_first,
        exclude_offsets=None if out is None else out.offsets,
        excluded=None if out is None else out.indices,
        listed_offsets=None if own is None else own.offsets,
        listed=None if own is None else own.indices,
        weights=None if weights is None else _array(weights.contiguous()),
    )
    return results


def _divergence_shapes(
    name: str, sides: list[str], queries: list[Tensor], documents: list[Tensor], *rest: Any
) -> _Divergences:
    return _divergence_results(queries, documents, *rest[-2:])


_library.impl("divergence", _divergence, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("tilefold::divergence", _divergence_shapes, lib=_library)
