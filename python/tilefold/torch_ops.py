"""The kernels as ops of torch, registered with torch.library so that torch.compile sees them.

What only the values of arguments show (indices out of range, a scale that is not positive) is
checked here, because a compiled graph has no values before.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _native
from .lists import Lists, checked, left_out, shares

_NAME = "contrastive_loss"  # in messages: what users call

_library = torch.library.Library("tilefold", "DEF")  # type: ignore[no-untyped-call]
_library.define(  # type: ignore[no-untyped-call]
    "contrastive(Tensor queries, Tensor documents, Tensor scale, Tensor positive_offsets, "
    "Tensor positives, Tensor? soft_targets, Tensor? exclude_offsets, Tensor? exclude, "
    "Tensor? query_ids, Tensor? document_ids, Tensor? query_weights, Tensor? document_weights, "
    "bool each, bool symmetric, bool grad_queries, bool grad_documents) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
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
    query_weights: Tensor | None,
    document_weights: Tensor | None,
    each: bool,
    symmetric: bool,
    grad_queries: bool,
    grad_documents: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    results = _results(queries, documents, symmetric, grad_queries, grad_documents)
    losses, document_losses, of_queries, of_documents = results
    factor, m = float(scale), len(documents)
    # In fp32 a larger or smaller factor would make 0 * inf of what is left out.
    if not (0 < factor < math.inf and (queries.dtype == torch.float64 or 1e-30 < factor < 1e30)):
        raise ValueError(
            f"{_NAME}: temperature must be positive and log_scale finite, but scores would be "
            f"multiplied by {factor}"
        )
    given = Lists(positive_offsets.numpy(), positives.numpy())
    own = checked(given, _NAME, "positives", m)
    targets = None
    if soft_targets is not None:
        targets = shares(given, soft_targets.numpy(), _NAME, "soft_targets", m)
    listed = None
    if exclude_offsets is not None and exclude is not None:
        listed = checked(Lists(exclude_offsets.numpy(), exclude.numpy()), _NAME, "exclude", m)
    ids = [None if given is None else given.numpy() for given in (query_ids, document_ids)]
    out = left_out(own, m, listed, *ids)
    _native.contrastive(
        _rows(queries),
        _rows(documents),
        own.offsets,
        own.indices,
        losses.numpy(),
        scale=factor,
        each=each,
        soft_targets=targets,
        exclude_offsets=None if out is None else out.offsets,
        excluded=None if out is None else out.indices,
        query_weights=None if query_weights is None else _array(query_weights.contiguous()),
        document_weights=None if document_weights is None else _array(document_weights),
        document_losses=document_losses.numpy() if symmetric else None,
        grad_queries=of_queries.numpy() if grad_queries else None,
        grad_documents=of_documents.numpy() if grad_documents else None,
    )
    return results


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
