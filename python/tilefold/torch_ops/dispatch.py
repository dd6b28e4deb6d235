"""Registers ops per device, and converts tensors to the form that `_native` takes.

A schema, its fake kernel and its autograd are written once for all devices. An implementation for
another device is one more entry of the dictionary that `register` takes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _native
from ..devices import IMPLEMENTATIONS, check_device
from ..placement import torch_queue

library = torch.library.Library("tilefold", "DEF")  # type: ignore[no-untyped-call]

# Device types of torch and their dispatch keys. A type without an implementation gets a function
# that refuses it, instead of torch's message on dispatch keys.
_KEYS = {
    "cpu": "CPU",
    "cuda": "CUDA",
    "xpu": "XPU",
    "mps": "MPS",
    "hpu": "HPU",
    "xla": "XLA",
    "privateuseone": "PrivateUse1",
}


def register(
    op: str,
    schema: str,
    *,
    fake: Callable[..., Any],
    implementations: Mapping[str, Callable[..., Any]],
) -> None:
    """Registers ``tilefold::<op>`` with torch, for every device that it is implemented for.

    Args:
        op: the name, a key of `devices.IMPLEMENTATIONS` from then on.
        schema: arguments and results, such as ``"(Tensor x) -> Tensor"``.
        fake: takes the same arguments and returns empty results, for `torch.compile`.
        implementations: of device types such as "cpu"; "meta" is `fake`.
    """
    IMPLEMENTATIONS[op] = dict(implementations)
    library.define(op + schema)  # type: ignore[no-untyped-call]
    for device, key in _KEYS.items():
        implementation = implementations.get(device, _refusal(op))
        library.impl(op, implementation, key)  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"tilefold::{op}", fake, lib=library)


def native_array(x: Tensor) -> Any:
    """Shares the memory of a tensor with `_native`: as NumPy on the CPU, elsewhere by DLPack.

    NumPy exports an array four times as fast as torch does. It has no bfloat16, so bfloat16 tensors
    are passed as their bits (uint16).
    """
    x = x.detach() if x.requires_grad else x
    if not x.is_cpu:
        return x
    return x.view(torch.uint16).numpy() if x.dtype == torch.bfloat16 else x.numpy()


def native_rows(x: Tensor) -> Any:
    """Converts a matrix ``[rows, dim]`` for `_native`, copying it where rows are not contiguous."""
    return native_array(x if x.stride(1) == 1 else x.contiguous())


def beside(x: Tensor, array: NDArray[Any] | None) -> Any:
    """Returns an array of the host on the device of a tensor, as `_native` takes it."""
    if array is None or x.is_cpu:
        return array
    return torch.from_numpy(array).to(x.device)


def queue_of(x: Tensor) -> dict[str, Any]:
    """Returns the stream and the memory of a call with tensors of x's device, for `_native`."""
    return torch_queue(x.device) if x.is_cuda else {}


def devices(implementation: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Returns the implementations of an op whose kernels this build has for every device."""

    @functools.wraps(implementation)
    def on_gpu(*arguments: Any) -> Any:
        # Tensors are exported while their device is current.
        with torch.cuda.device(_device_among(arguments)):
            return implementation(*arguments)

    on_cuda = {"cuda": on_gpu} if _native.CUDA == "compiled" else {}
    return {"cpu": implementation} | on_cuda


def _device_among(arguments: Sequence[Any]) -> torch.device:
    """Returns the device of the first tensor on a GPU."""
    for value in arguments:
        for x in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(x, Tensor) and x.is_cuda:
                return x.device
    raise RuntimeError("no tensor is on a GPU")


def host_array(x: Tensor) -> NDArray[Any]:
    """Converts a tensor on any device to NumPy, for values that Python reads (offsets, ids).

    A CPU tensor shares its memory with the result, so writing to the result changes the tensor.
    """
    x = x.detach() if x.requires_grad else x
    values: NDArray[Any] = (x if x.is_cpu else x.cpu()).numpy()
    return values


def _refusal(op: str) -> Callable[..., Any]:
    def refuse(*arguments: Any) -> Any:
        schema = getattr(torch.ops.tilefold, op).default._schema
        for parameter, value in zip(schema.arguments, arguments, strict=True):
            for x in value if isinstance(value, (list, tuple)) else (value,):
                # A scale or offsets may be on the CPU beside embeddings that are not.
                if isinstance(x, Tensor):
                    check_device(f"tilefold::{op}", parameter.name, x.device, op)
        raise RuntimeError(f"tilefold::{op}: dispatched to a device that no argument is on")

    return refuse
