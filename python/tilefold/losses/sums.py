"""Sums in an order that depends on sizes only; torch's order depends on the number of threads."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 1024  # rows per partial sum; torch splits reductions from 32,768 numbers on among threads


def total(x: Tensor) -> Tensor:
    """Sums ``[n]`` numbers."""
    if len(x) <= _ROWS:
        return x.sum()
    return torch.stack([part.sum() for part in torch.split(x, _ROWS)]).sum()


def inner_product(a: Tensor, b: Tensor) -> Tensor:
    """Computes ``(a * b).sum()`` of ``[n, dim]`` or ``[n]`` in float64."""
    if len(a) <= _ROWS:
        products = a.double() * b
        return products.sum() if a.ndim == 1 else products.sum(0).sum()
    parts = zip(torch.split(a, _ROWS), torch.split(b, _ROWS), strict=True)
    return torch.stack([(x.double() * y).sum(0) for x, y in parts]).sum(0).sum()


def scaled(x: Tensor, scale: Tensor) -> Tensor:
    """Multiplies ``x [n]`` by a scalar, whose gradient is summed in that order, too."""
    if len(x) <= _ROWS:
        return x * scale
    return torch.cat([part * scale for part in torch.split(x, _ROWS)])
