"""What all ops share: the library they are registered in, dtypes, arrays, the scale of scores."""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

library = torch.library.Library("tilefold", "DEF")  # type: ignore[no-untyped-call]


def result_dtype(queries: Tensor) -> torch.dtype:
    """Of losses, and of gradients before they are rounded to the dtype of the inputs."""
    return torch.float64 if queries.dtype == torch.float64 else torch.float32


def checked_factor(scale: Tensor, dtype: torch.dtype, op: str, side: str = "") -> float:
    """What scores are multiplied by; in fp32, more or less would make 0 * inf of -inf."""
    factor = float(scale.detach())
    if not (0 < factor < math.inf and (dtype == torch.float64 or 1e-30 < factor < 1e30)):
        raise ValueError(
            f"{op}: temperature{side} must be positive and log_scale finite, but scores would be "
            f"multiplied by {factor}"
        )
    return factor


def contiguous(x: Tensor) -> NDArray[Any]:
    """As the kernels take it: dimensions contiguous."""
    return in_numpy(x if x.stride(1) == 1 else x.contiguous())


def in_numpy(x: Tensor) -> NDArray[Any]:
    """The same memory for NumPy, which exports it four times as fast as torch; bfloat16 as bits."""
    x = x.detach()
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()
