"""TorchPlacement: a GPU whose memory torch manages."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import (
    BFLOAT16,
    BFLOAT16_BITS,
    Array,
    PrecisionWarning,
    frames_of_this_package,
)
from .placement import Placement, misplaced

_PART_BYTES = 32 << 20  # of pinned memory at a time
_SMALL_BYTES = 1 << 20  # arrays of which no check says whether they fit
_HEADROOM_BYTES = 1 << 30


class TorchPlacement(Placement):
    """A GPU whose memory torch manages. Work is queued on torch's current stream."""

    def __init__(self, device: Any) -> None:
        self._torch: Any = sys.modules["torch"]
        self._device = device
        self.device = str(device)
        self.out_of_memory = self._torch.OutOfMemoryError
        self._uploads = self._torch.cuda.Stream(device)

    def queue(self) -> dict[str, Any]:
        """Returns the current stream, and memory of torch's allocator."""
        return torch_queue(self._device)

    def current(self) -> AbstractContextManager[Any]:
        """Makes the GPU current."""
        guard: AbstractContextManager[Any] = self._torch.cuda.device(self._device)
        return guard

    def send(self, array: NDArray[Any]) -> Any:
        """Copies an array on a stream of its own, so that kernels run meanwhile."""
        torch = self._torch
        if array.nbytes > _SMALL_BYTES and not self._fits(array.nbytes):
            raise torch.OutOfMemoryError(f"{array.nbytes} bytes do not fit on {self.device}")
        array = np.ascontiguousarray(array)
        flat = array.reshape(-1).view(np.uint8)
        with torch.cuda.stream(self._uploads):
            memory = torch.empty(len(flat), dtype=torch.uint8, device=self._device)
            for begin in range(0, len(flat), _PART_BYTES):
                part = flat[begin : begin + _PART_BYTES]
                staging = torch.empty(len(part), dtype=torch.uint8, device="cpu", pin_memory=True)
                staging.numpy()[:] = part
                memory[begin : begin + len(part)].copy_(staging, non_blocking=True)
        bits = array.dtype == BFLOAT16
        dtype = torch.bfloat16 if bits else getattr(torch, array.dtype.name)
        return memory.view(dtype).view(array.shape)

    def _fits(self, size: int) -> bool:
        """Whether an array leaves room for what searches need beside the documents."""
        cuda = self._torch.cuda
        free, _ = cuda.mem_get_info(self._device)
        cached = cuda.memory_reserved(self._device) - cuda.memory_allocated(self._device)
        return bool(size + _HEADROOM_BYTES <= free + cached)

    def sent(self) -> Any:
        """Returns an event of the stream of copies."""
        return self._uploads.record_event()

    def use(self, sent: Any, arrays: Sequence[Any]) -> None:
        """Waits for the event on the current stream."""
        stream = self._torch.cuda.current_stream(self._device)
        stream.wait_event(sent)
        for array in arrays:
            array.record_stream(stream)

    def fetch(self, array: Any) -> NDArray[Any]:
        """Copies a tensor to the host, which waits for it."""
        host = array.detach().cpu()
        if host.dtype == self._torch.bfloat16:
            return np.asarray(host.view(self._torch.int16).numpy().view(BFLOAT16_BITS))
        return np.asarray(host.numpy())

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Returns memory of torch's allocator."""
        return self._torch.empty(shape, dtype=getattr(self._torch, dtype), device=self._device)

    def full(self, shape: tuple[int, ...], value: float, dtype: str) -> Any:
        """Returns a tensor."""
        torch = self._torch
        return torch.full(shape, value, dtype=getattr(torch, dtype), device=self._device)

    def record_event(self) -> Any:
        """Returns an event of the current stream."""
        return self._torch.cuda.current_stream(self._device).record_event()

    def synchronize(self, event: Any) -> None:
        """Waits for the event."""
        event.synchronize()

    def holds(self, array: Any) -> bool:
        """Returns whether a tensor is on this GPU."""
        return isinstance(array, self._torch.Tensor) and array.device == self._device

    def vectors(self, array: Array, op: str, name: str) -> Any:
        """Checks a tensor."""
        torch = self._torch
        if not self.holds(array):
            got = array.device if isinstance(array, torch.Tensor) else "the host"
            raise misplaced(op, name, self.device, got)
        rows = array.detach()
        if rows.dtype == torch.float64:
            _warn_of_rounding(op, name)
            rows = rows.float()
        if rows.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.int8):
            raise TypeError(
                f"{op}: {name} must be float32, float16, bfloat16 or int8, got {rows.dtype}"
            )
        _check_matrix(op, name, rows)
        return rows.contiguous()

    def result(self, array: Any) -> Any:
        """Returns the tensor."""
        return array


class _TorchWorkspace:
    """Memory of torch's allocator for one call of a kernel.

    It is free again when this object is, for work that is queued after that of the call.
    """

    def __init__(self, device: Any) -> None:
        self._torch: Any = sys.modules["torch"]
        self._device = device
        self._kept: list[Any] = []

    def __call__(self, size: int) -> int:
        memory = self._torch.empty(size, dtype=self._torch.uint8, device=self._device)
        self._kept.append(memory)
        address: int = memory.data_ptr()
        return address


def torch_queue(device: Any) -> dict[str, Any]:
    """Returns torch's current stream of a GPU, and memory of torch's allocator.

    Args:
        device: a `torch.device`.

    Returns:
        Keyword arguments of one call of `_native`, which must keep them until it returns.
    """
    stream = sys.modules["torch"].cuda.current_stream(device).cuda_stream
    return {"stream": stream, "workspace": _TorchWorkspace(device)}


@functools.cache
def placement_of_gpu(device: Any) -> TorchPlacement:
    """Returns the placement of a GPU, one for all: torch keeps memory for each stream."""
    return TorchPlacement(device)


def _check_matrix(op: str, name: str, rows: Any) -> None:
    if rows.ndim != 2:
        raise ValueError(f"{op}: {name} must have 2 dimensions [rows, dim], got {rows.ndim}")
    if rows.shape[1] < 1:
        raise ValueError(f"{op}: {name} must have dim >= 1, got {rows.shape[1]}")


def _warn_of_rounding(op: str, name: str) -> None:
    warnings.warn(
        f"{op}: {name} are float64 and were rounded to float32; convert them yourself to "
        "silence this",
        PrecisionWarning,
        stacklevel=frames_of_this_package(),
    )
