"""Determines the dtypes of results, and checks the factor of scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def result_dtype(queries: Tensor) -> torch.dtype:
    """Returns the dtype of losses, and of gradients before they are cast to that of the inputs."""
    return torch.float64 if queries.dtype == torch.float64 else torch.float32


def checked_factor(scale: Tensor, dtype: torch.dtype, op: str, side: str = "") -> float:
    """Returns the factor of scores as a number.

    Args:
        scale: a tensor with one element.
        dtype: the dtype of the embeddings.
        op: the public function, for messages.
        side: the name of the side whose scale it is, for messages; "" where there is one.

    Raises:
        ValueError: it is not positive, not finite, or in fp32 so large or small that scores would
            overflow to inf or underflow to 0, and the gradient be ``0 * inf``.
    """
    factor = float(scale.detach())
    if not (0 < factor < math.inf and (dtype == torch.float64 or 1e-30 < factor < 1e30)):
        raise ValueError(
            f"{op}: temperature{side} must be positive and log_scale finite, but scores would be "
            f"multiplied by {factor}"
        )
    return factor
