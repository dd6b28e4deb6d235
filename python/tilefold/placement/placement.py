"""Placement: a device beside the host, and the way of arrays to it and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from numpy.typing import NDArray

from ..arrays import Array


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
    def record_event(self) -> Any:
        """Returns an event that comes when everything that is queued now is done."""

    @abstractmethod
    def synchronize(self, event: Any) -> None:
        """Waits on the host for an event."""

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


def misplaced(op: str, name: str, expected: str, got: Any) -> ValueError:
    """Returns the error for an array that is not on the device."""
    return ValueError(
        f"{op}: {name} must be a tensor on {expected}, got one on {got}; move it with "
        f'.to("{expected}"), which NumPy arrays need torch.from_numpy for'
    )
