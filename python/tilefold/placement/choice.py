"""Chooses the placement of a device by its name, or of an array."""

from __future__ import annotations

import re
import sys
from typing import Any

from .. import _native
from .emulated_placement import EmulatedArray, EmulatedPlacement
from .placement import Placement
from .torch_placement import placement_of_gpu


def placement_on(device: Any, op: str) -> Placement | None:
    """Returns the placement of a device; None for the host.

    Args:
        device: "cpu", "cuda", "cuda:1", or a `torch.device`.
        op: the public function, for messages.

    Raises:
        ValueError: no such device, or this build or this machine does not have it; the message
            says what is missing.
    """
    name = str(device)
    if name == "cpu":
        return None
    if not re.fullmatch(r"cuda(:\d+)?", name):
        raise ValueError(f'{op}: device must be "cpu", "cuda" or "cuda:N", got {name!r}')
    if _native.CUDA == "emulated":
        if name not in ("cuda", "cuda:0"):
            raise ValueError(f"{op}: device must be cuda:0 in an emulated build, got {name!r}")
        return EmulatedPlacement()
    if _native.CUDA == "none":
        raise ValueError(
            f"{op}: device {name!r} needs CUDA kernels, which this build lacks: pip install "
            '"tilefold[cuda]", or ./cuda/wheel of a checkout where nvcc is'
        )
    try:
        import torch
    except ImportError:
        raise ValueError(f"{op}: device {name!r} needs torch: pip install torch") from None
    if not torch.cuda.is_available():
        raise ValueError(f"{op}: device {name!r} needs a GPU that torch can use, and it finds none")
    named = re.search(r"\d+", name)
    number = torch.cuda.current_device() if named is None else int(named.group())
    if number >= torch.cuda.device_count():
        raise ValueError(
            f"{op}: device must be cuda:0 to cuda:{torch.cuda.device_count() - 1}, got {name!r}"
        )
    return placement_of_gpu(torch.device("cuda", number))


def placement_of(array: Any) -> Placement | None:
    """Returns the placement of an array on a device that this build has kernels for.

    None for arrays on the host, and for what the checks of the host's arrays refuse.
    """
    if _native.CUDA == "emulated":
        return EmulatedPlacement() if isinstance(array, EmulatedArray) else None
    torch: Any = sys.modules.get("torch")
    if _native.CUDA == "none" or torch is None or not isinstance(array, torch.Tensor):
        return None
    return placement_of_gpu(array.device) if array.is_cuda else None
