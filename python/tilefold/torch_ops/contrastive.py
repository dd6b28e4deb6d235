"""Registers tilefold::contrastive: losses of queries and documents, and their gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _native
from ..ragged_lists import Integers, Lists, checked, shares
from .dispatch import (
    beside,
    devices,
    host_array,
    native_array,
    native_rows,
    queue_of,
    register,
)
from .identity import Identity, excluded, identity
from .precision import checked_factor, result_dtype

_CONTRASTIVE = "contrastive_loss"  # in messages: the public function
_SCHEMA = (
    "(Tensor queries, Tensor documents, Tensor scale, Tensor positive_offsets, "
    "Tensor positives, Tensor? soft_targets, Tensor? exclude_offsets, Tensor? exclude, "
    "Tensor? exclude_id_offsets, Tensor? exclude_ids, "
    "Tensor? query_ids, Tensor? document_ids, Tensor? gate_queries, Tensor? gate_documents, "
    "Tensor? query_weights, Tensor? document_weights, bool each, bool symmetric, "
    "bool grad_queries, bool grad_documents) -> (Tensor, Tensor, Tensor, Tensor)"
)


class _HostArguments(NamedTuple):
    """Arguments that Python computes from indices and ids, on the host for every device."""

    positives: Lists
    soft_targets: NDArray[np.float64] | None
    exclude: Lists | None
    identity: Identity | None

    def as_keywords(self, queries: Tensor) -> dict[str, Any]:
        """Returns them as keyword arguments of `_native.contrastive`, on the device of queries."""
        exclude, same = self.exclude, self.identity
        keywords = {
            "soft_targets": self.soft_targets,
            "exclude_offsets": None if exclude is None else exclude.offsets,
            "excluded": None if exclude is None else exclude.indices,
            "groups": None if same is None else same.groups,
            "group_offsets": None if same is None else same.ids.offsets,
            "group_ids": None if same is None else same.ids.indices,
            "document_ids": None if same is None else same.document_ids,
        }
        return {name: beside(queries, array) for name, array in keywords.items()}


def _results(
    queries: Tensor, documents: Tensor, symmetric: bool, grad_queries: bool, grad_documents: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocates losses of queries and documents, and gradients; empty where not requested."""
    n, m = len(queries), len(documents)
    dtype = result_dtype(queries)
    return (
        queries.new_empty(n, dtype=torch.float64),
        queries.new_empty(m if symmetric else 0, dtype=torch.float64),
        queries.new_empty((n if grad_queries else 0, queries.shape[1]), dtype=dtype),
        queries.new_empty((m if grad_documents else 0, queries.shape[1]), dtype=dtype),
    )


def _host_arguments(
    m: int,
    positives: Lists,
    soft_targets: Tensor | None,
    exclude: Lists | None,
    exclude_ids: Lists | None,
    query_ids: Integers | None,
    document_ids: Integers | None,
) -> _HostArguments:
    """Checks lists and ids of m documents, and combines them."""
    own = checked(positives, _CONTRASTIVE, "positives", m)
    empty = np.flatnonzero(own.offsets[1:] == own.offsets[:-1])
    if len(empty):  # the kernels of a GPU do not look
        raise ValueError(f"{_CONTRASTIVE}: query {empty[0]} has no positive")
    targets = None
    if soft_targets is not None:
        targets = shares(positives, host_array(soft_targets), _CONTRASTIVE, "soft_targets", m)
    listed = excluded(_CONTRASTIVE, m, exclude, exclude_ids, document_ids)
    return _HostArguments(own, targets, listed, identity(own, m, query_ids, document_ids))


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
    losses, document_losses, query_gradients, document_gradients = results
    host = _host_arguments(
        len(documents),
        Lists(host_array(positive_offsets), host_array(positives)),
        soft_targets,
        _lists(exclude_offsets, exclude),
        _lists(exclude_id_offsets, exclude_ids),
        None if query_ids is None else host_array(query_ids),
        None if document_ids is None else host_array(document_ids),
    )
    _native.contrastive(
        native_rows(queries),
        native_rows(documents),
        beside(queries, host.positives.offsets),
        beside(queries, host.positives.indices),
        native_array(losses),
        scale=checked_factor(scale, queries.dtype, _CONTRASTIVE),
        each=each,
        **host.as_keywords(queries),
        query_weights=None if query_weights is None else native_array(query_weights.contiguous()),
        document_weights=None if document_weights is None else native_array(document_weights),
        document_losses=native_array(document_losses) if symmetric else None,
        grad_queries=native_array(query_gradients) if grad_queries else None,
        grad_documents=native_array(document_gradients) if grad_documents else None,
        gate_queries=None if gate_queries is None else native_rows(gate_queries),
        gate_documents=None if gate_documents is None else native_rows(gate_documents),
        **queue_of(queries),
    )
    return results


def _lists(offsets: Tensor | None, indices: Tensor | None) -> Lists | None:
    if offsets is None or indices is None:
        return None
    return Lists(host_array(offsets), host_array(indices))


def _contrastive_fake(
    queries: Tensor, documents: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _, symmetric, grad_queries, grad_documents = rest[-4:]
    return _results(queries, documents, symmetric, grad_queries, grad_documents)


register("contrastive", _SCHEMA, fake=_contrastive_fake, implementations=devices(_contrastive))
