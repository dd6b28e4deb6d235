"""Registers tilefold::divergence: softmaxes of views against their mixture, and gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..ragged_lists import Lists, checked
from .dispatch import (
    beside,
    devices,
    host_array,
    native_array,
    native_rows,
    queue_of,
    register,
)
from .precision import checked_factor, result_dtype

_SCHEMA = (
    "(str name, str[] sides, Tensor[] queries, Tensor[] documents, Tensor scales, "
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
    """Allocates divergences, masses, variances, and gradients; empty where not requested."""
    n = len(queries[0])
    float64 = partial(queries[0].new_empty, dtype=torch.float64)

    def gradients(rows: list[Tensor], wanted: list[bool]) -> list[Tensor]:
        return [
            x.new_empty((len(x) if want else 0, x.shape[1]), dtype=result_dtype(x))
            for x, want in zip(rows, wanted, strict=True)
        ]

    return (
        float64((len(queries), n)),
        float64(n),
        float64(n),
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
    """Computes divergences and gradients of views.

    `documents` is one matrix per view, or a single one for all views; `sides` names the views in
    messages.
    """
    results = _divergence_results(queries, documents, grad_queries, grad_documents)
    divergences, masses, variances, query_gradients, document_gradients = results
    x, m = queries[0], len(documents[0])

    def lists(offsets: Tensor | None, indices: Tensor | None, argument: str) -> Lists | None:
        if offsets is None or indices is None:
            return None
        return checked(Lists(host_array(offsets), host_array(indices)), name, argument, m)

    excluded = lists(exclude_offsets, exclude, "exclude")
    candidates = lists(listed_offsets, listed, "invariant")
    document_rows = [  # with their gradient; the same memory for views that share them
        (native_rows(x), native_array(gradient) if want else None)
        for x, gradient, want in zip(documents, document_gradients, grad_documents, strict=True)
    ]
    one_scale = bool((scales == scales[0]).all())
    _native.divergence(
        name,
        [
            (
                native_rows(queries[v]),
                document_rows[v % len(documents)][0],
                native_array(query_gradients[v]) if grad_queries[v] else None,
                document_rows[v % len(documents)][1],
                checked_factor(scales[v], queries[v].dtype, name, "" if one_scale else sides[v]),
                sides[v],
            )
            for v in range(len(queries))
        ],
        native_array(divergences),
        native_array(masses),
        native_array(variances),
        reference=reference,
        mixture_first=mixture_first,
        exclude_offsets=None if excluded is None else beside(x, excluded.offsets),
        excluded=None if excluded is None else beside(x, excluded.indices),
        listed_offsets=None if candidates is None else beside(x, candidates.offsets),
        listed=None if candidates is None else beside(x, candidates.indices),
        weights=None if weights is None else native_array(weights.contiguous()),
        **queue_of(x),
    )
    return results


def _divergence_fake(
    name: str, sides: list[str], queries: list[Tensor], documents: list[Tensor], *rest: Any
) -> _Divergences:
    return _divergence_results(queries, documents, *rest[-2:])


register("divergence", _SCHEMA, fake=_divergence_fake, implementations=devices(_divergence))
