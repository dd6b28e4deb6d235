"""EmulatedPlacement: the device of a build that emulates CUDA's kernels, in memory of the host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import BFLOAT16, BFLOAT16_BITS, Array, as_vectors
from .placement import Placement, misplaced

_CUDA = 2  # of DLPack's DLDeviceType


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

    def record_event(self) -> None:
        """Returns nothing: everything is done at once."""

    def synchronize(self, event: Any) -> None:
        """Does nothing: everything is done at once."""

    def holds(self, array: Any) -> bool:
        """Returns whether it is an `EmulatedArray`."""
        return isinstance(array, EmulatedArray)

    def vectors(self, array: Array, op: str, name: str) -> EmulatedArray:
        """Checks an `EmulatedArray`."""
        if not isinstance(array, EmulatedArray):
            raise misplaced(op, name, self.device, "the host")
        return EmulatedArray(as_vectors(array.array, op, name))

    def result(self, array: EmulatedArray) -> NDArray[Any]:
        """Returns the array on the host."""
        return array.array
