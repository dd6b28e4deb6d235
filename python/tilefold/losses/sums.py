"""Sums in an order that depends on sizes only; those of torch depend on the number of threads."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS = 1024  # at a time; torch splits reductions of 32,768 numbers or more among threads


def total(x: Tensor) -> Tensor:
    """The sum of ``[n]`` numbers."""
    if len(x) <= _ROWS:
        return x.sum()
    return torch.stack([part.sum() for part in torch.split(x, _ROWS)]).sum()


def inner_product(a: Tensor, b: Tensor) -> Tensor:
    """The sum of a * b, ``[n, dim]`` or ``[n]``, in float64."""
    if a.ndim == 1 and len(a) <= _ROWS:
        return (a.double() * b).sum()
    parts = zip(torch.split(a, _ROWS), torch.split(b, _ROWS), strict=True)
    return torch.stack([(x.double() * y).sum(0) for x, y in parts]).sum(0).sum()


def scaled(x: Tensor, scale: Tensor) -> Tensor:
    """``x [n] * scale``, whose gradient is such a sum."""
    return torch.cat([part * scale for part in torch.split(x, _ROWS)])
