"""tilefold::contrastive: losses of queries and documents, and gradients of their weighted sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..ragged_lists import Lists, checked, shares
from .identity import excluded, identity
from .library import checked_factor, contiguous, in_numpy, library, result_dtype

_CONTRASTIVE = "contrastive_loss"  # in messages: what users call
library.define(  # type: ignore[no-untyped-call]
    "contrastive(Tensor queries, Tensor documents, Tensor scale, Tensor positive_offsets, "
    "Tensor positives, Tensor? soft_targets, Tensor? exclude_offsets, Tensor? exclude, "
    "Tensor? exclude_id_offsets, Tensor? exclude_ids, "
    "Tensor? query_ids, Tensor? document_ids, Tensor? gate_queries, Tensor? gate_documents, "
    "Tensor? query_weights, Tensor? document_weights, bool each, bool symmetric, "
    "bool grad_queries, bool grad_documents) -> (Tensor, Tensor, Tensor, Tensor)"
)


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
    exclude_id_offsets: Tensor | None,
    exclude_ids: Tensor | None,
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
    rows, columns = (None if ids is None else ids.numpy() for ids in (query_ids, document_ids))
    listed = excluded(
        _CONTRASTIVE,
        m,
        _lists(exclude_offsets, exclude),
        _lists(exclude_id_offsets, exclude_ids),
        columns,
    )
    mask = identity(own, m, rows, columns)
    _native.contrastive(
        contiguous(queries),
        contiguous(documents),
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
        query_weights=None if query_weights is None else in_numpy(query_weights.contiguous()),
        document_weights=None if document_weights is None else in_numpy(document_weights),
        document_losses=document_losses.numpy() if symmetric else None,
        grad_queries=of_queries.numpy() if grad_queries else None,
        grad_documents=of_documents.numpy() if grad_documents else None,
        gate_queries=None if gate_queries is None else contiguous(gate_queries),
        gate_documents=None if gate_documents is None else contiguous(gate_documents),
    )
    return results


def _lists(offsets: Tensor | None, indices: Tensor | None) -> Lists | None:
    return None if offsets is None or indices is None else Lists(offsets.numpy(), indices.numpy())


def _contrastive_shapes(
    queries: Tensor, documents: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _, symmetric, grad_queries, grad_documents = rest[-4:]
    return _results(queries, documents, symmetric, grad_queries, grad_documents)


library.impl("contrastive", _contrastive, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("tilefold::contrastive", _contrastive_shapes, lib=library)
