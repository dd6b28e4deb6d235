"""Describes the CUDA kernels of this build, and the GPUs that torch finds for them."""

from __future__ import annotations

import sys
from typing import Any

from ... import _native
from .diagnosis import Cuda


def cuda_state() -> Cuda:
    """Returns what is compiled and what is found.

    GPUs are known where torch is loaded, which `tilefold doctor --torch` does.
    """
    torch: Any = sys.modules.get("torch")
    gpus = None if torch is None else [_described(torch, i) for i in range(_count(torch))]
    return Cuda(_native.CUDA, _native.CUDA_ARCHITECTURES, gpus)


def _count(torch: Any) -> int:
    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def _described(torch: Any, number: int) -> str:
    found = torch.cuda.get_device_properties(number)
    memory = found.total_memory / 2**30
    return f"cuda:{number} {found.name}, sm_{found.major}{found.minor}, {memory:.0f} GiB"
