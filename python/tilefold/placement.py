"""Placement: the device beside the host on which an index keeps its arrays, and the way there."""

from __future__ import annotations

import functools
import re
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from .arrays import (
    BFLOAT16,
    BFLOAT16_BITS,
    Array,
    PrecisionWarning,
    as_vectors,
    frames_of_this_package,
)

_PART_BYTES = 32 << 20  # of pinned memory at a time
_SMALL_BYTES = 1 << 20  # arrays of which no check says whether they fit
_HEADROOM_BYTES = 1 << 30
_CUDA = 2  # of DLPack's DLDeviceType


class Placement(ABC):
    """A device, and the way of arrays to it and back.

    Attributes:
        device: its name, such as "cuda:0".
        out_of_memory: what `send` raises where an array does not fit.
        max_k: the largest number of answers of a search.
    """

    device: str
    out_of_memory: type[Exception]
    max_k = 4096

    @abstractmethod
    def queue(self) -> dict[str, Any]:
        """Returns the stream and the memory of one call of a kernel, as its keyword arguments."""

    @abstractmethod
    def current(self) -> AbstractContextManager[Any]:
        """Makes the device current, as exporting its arrays requires."""

    @abstractmethod
    def send(self, array: NDArray[Any]) -> Any:
        """Begins to copy an array to the device; `use` waits for it."""

    @abstractmethod
    def sent(self) -> Any:
        """Returns the time at which everything is there that has been sent."""

    @abstractmethod
    def use(self, sent: Any, arrays: Sequence[Any]) -> None:
        """Makes work that is queued next wait for that time, and arrays outlive that work."""

    def place(self, array: NDArray[Any]) -> Any:
        """Copies an array to the device, for work that is queued next."""
        placed = self.send(array)
        self.use(self.sent(), [placed])
        return placed

    @abstractmethod
    def fetch(self, array: Any) -> NDArray[Any]:
        """Copies an array from the device, once what is queued there is done."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Returns uninitialised memory for work that is queued next."""

    @abstractmethod
    def full(self, shape: tuple[int, ...], value: float, dtype: str) -> Any:
        """Returns memory filled with a value, for work that is queued next."""

    @abstractmethod
    def mark(self) -> Any:
        """Returns the time at which everything that is queued now is done, for `wait`."""

    @abstractmethod
    def wait(self, mark: Any) -> None:
        """Waits on the host until that time."""

    @abstractmethod
    def holds(self, array: Any) -> bool:
        """Returns whether an array is on this device."""

    @abstractmethod
    def vectors(self, array: Array, op: str, name: str) -> Any:
        """Checks vectors ``[rows, dim]`` on this device, and returns them in a dtype of vectors.

        Raises:
            TypeError: another dtype.
            ValueError: another device, or a wrong number of dimensions.
        """

    def queries(self, queries: Array, op: str) -> tuple[Any, bool]:
        """Checks queries ``[n, dim]`` or ``[dim]`` on this device.

        Returns:
            ``[n, dim]`` of a dtype of vectors, and whether one came as ``[dim]``.

        Raises:
            TypeError, ValueError: as `vectors`.
        """
        single = self.holds(queries) and len(queries.shape) == 1
        return self.vectors(queries[None] if single else queries, op, "queries"), single

    @abstractmethod
    def result(self, array: Any) -> Any:
        """Returns an array of the device as the caller of a search gets it."""


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

    def mark(self) -> Any:
        """Returns an event of the current stream."""
        return self._torch.cuda.current_stream(self._device).record_event()

    def wait(self, mark: Any) -> None:
        """Waits for the event."""
        mark.synchronize()

    def holds(self, array: Any) -> bool:
        """Returns whether a tensor is on this GPU."""
        return isinstance(array, self._torch.Tensor) and array.device == self._device

    def vectors(self, array: Array, op: str, name: str) -> Any:
        """Checks a tensor."""
        torch = self._torch
        if not self.holds(array):
            got = array.device if isinstance(array, torch.Tensor) else "the host"
            raise _misplaced(op, name, self.device, got)
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


class _HostWorkspace:
    """Memory of the host for one call of a kernel."""

    def __init__(self) -> None:
        self._kept: list[NDArray[np.uint8]] = []

    def __call__(self, size: int) -> int:
        memory = np.empty(size + 256, np.uint8)
        self._kept.append(memory)
        return -(-memory.ctypes.data // 256) * 256  # as aligned as memory of a GPU


class EmulatedArray:
    """Host memory that says it is on cuda:0, for a build that emulates CUDA's kernels."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice | None) -> EmulatedArray:
        return EmulatedArray(self.array[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, 0

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        """Exports the memory; work is done by the time a kernel returns, on whatever stream."""
        del stream
        return self.array.__dlpack__(**options)


class EmulatedPlacement(Placement):
    """The device of a build that emulates CUDA's kernels on the host.

    Args:
        memory: bytes that one array may take.
    """

    device = "cuda:0"
    out_of_memory = MemoryError

    def __init__(self, memory: int = sys.maxsize) -> None:
        self._memory = memory

    def queue(self) -> dict[str, Any]:
        """Returns memory of the host."""
        return {"workspace": _HostWorkspace()}

    def current(self) -> AbstractContextManager[Any]:
        """Does nothing: there is one device."""
        return nullcontext()

    def sent(self) -> None:
        """Returns nothing: everything is there at once."""

    def use(self, sent: Any, arrays: Sequence[Any]) -> None:
        """Does nothing: everything is there at once."""

    def send(self, array: NDArray[Any]) -> EmulatedArray:
        """Copies an array to memory of its own."""
        if array.nbytes > self._memory:
            raise MemoryError(f"{array.nbytes} bytes do not fit in {self._memory}")
        copied = np.array(array, order="C")
        return EmulatedArray(copied.view(BFLOAT16_BITS) if copied.dtype == BFLOAT16 else copied)

    def fetch(self, array: EmulatedArray | NDArray[Any]) -> NDArray[Any]:
        """Copies an array; results are on the host already."""
        copied = np.array(array.array if isinstance(array, EmulatedArray) else array)
        return copied.view(BFLOAT16_BITS) if copied.dtype == BFLOAT16 else copied

    def empty(self, shape: tuple[int, ...], dtype: str) -> EmulatedArray:
        """Returns memory of the host."""
        return EmulatedArray(np.empty(shape, dtype))

    def full(self, shape: tuple[int, ...], value: float, dtype: str) -> EmulatedArray:
        """Returns memory of the host."""
        return EmulatedArray(np.full(shape, value, dtype))

    def mark(self) -> None:
        """Returns nothing: everything is done at once."""

    def wait(self, mark: Any) -> None:
        """Does nothing: everything is done at once."""

    def holds(self, array: Any) -> bool:
        """Returns whether it is an `EmulatedArray`."""
        return isinstance(array, EmulatedArray)

    def vectors(self, array: Array, op: str, name: str) -> EmulatedArray:
        """Checks an `EmulatedArray`."""
        if not isinstance(array, EmulatedArray):
            raise _misplaced(op, name, self.device, "the host")
        return EmulatedArray(as_vectors(array.array, op, name))

    def result(self, array: EmulatedArray) -> NDArray[Any]:
        """Returns the array on the host."""
        return array.array


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
    return _placement_of_gpu(torch.device("cuda", number))


def placement_of(array: Any) -> Placement | None:
    """Returns the placement of an array on a device that this build has kernels for.

    None for arrays on the host, and for what the checks of the host's arrays refuse.
    """
    if _native.CUDA == "emulated":
        return EmulatedPlacement() if isinstance(array, EmulatedArray) else None
    torch: Any = sys.modules.get("torch")
    if _native.CUDA == "none" or torch is None or not isinstance(array, torch.Tensor):
        return None
    return _placement_of_gpu(array.device) if array.is_cuda else None


@functools.cache
def _placement_of_gpu(device: Any) -> TorchPlacement:
    """Returns the placement of a GPU, one for all: torch keeps memory for each stream."""
    return TorchPlacement(device)


def _misplaced(op: str, name: str, expected: str, got: Any) -> ValueError:
    return ValueError(
        f"{op}: {name} must be a tensor on {expected}, got one on {got}; move it with "
        f'.to("{expected}"), which NumPy arrays need torch.from_numpy for'
    )


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
