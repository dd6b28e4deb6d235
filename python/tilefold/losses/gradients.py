"""What backward does with gradients that forward has formed."""

from __future__ import annotations

import torch
from torch import Tensor


def inner_product(a: Tensor, b: Tensor) -> Tensor:
    """The sum of a * b ``[n, dim]`` in float64, a few rows at a time."""
    rows = 1024
    parts = [
        (x.double() * y).sum()
        for x, y in zip(torch.split(a, rows), torch.split(b, rows), strict=True)
    ]
    return torch.stack(parts).sum()
