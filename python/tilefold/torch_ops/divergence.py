"""tilefold::divergence: softmaxes of several views against their mixture, and gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import _native
from ..ragged_lists import Lists, checked
from .library import checked_factor, contiguous, in_numpy, library, result_dtype

library.define(  # type: ignore[no-untyped-call]
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
    own_documents = [  # with their gradient; the same memory for views that share them
        (contiguous(x), gradient.numpy() if want else None)
        for x, gradient, want in zip(documents, of_documents, grad_documents, strict=True)
    ]
    one_scale = bool((scales == scales[0]).all())
    _native.divergence(
        name,
        [
            (
                contiguous(queries[v]),
                own_documents[v % len(documents)][0],
                of_queries[v].numpy() if grad_queries[v] else None,
                own_documents[v % len(documents)][1],
                checked_factor(scales[v], queries[v].dtype, name, "" if one_scale else sides[v]),
                sides[v],
            )
            for v in range(len(queries))
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
        weights=None if weights is None else in_numpy(weights.contiguous()),
    )
    return results


def _divergence_shapes(
    name: str, sides: list[str], queries: list[Tensor], documents: list[Tensor], *rest: Any
) -> _Divergences:
    return _divergence_results(queries, documents, *rest[-2:])


library.impl("divergence", _divergence, "CPU")  # type: ignore[no-untyped-call]
torch.library.register_fake("tilefold::divergence", _divergence_shapes, lib=library)
