"""HnswSettings: the parameters of a graph, and the import of hnswlib."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ...integers import as_integer

# Largest value of each parameter; hnswlib counts the bytes of a vector, and candidates, in an int.
_RANGES = {
    "dim": (1, 2**29 - 1),
    "m": (2, 10_000),  # layers are drawn with the factor 1 / log(m)
    "ef_construction": (1, 2**31 - 1),
    "ef_search": (1, 2**31 - 1),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True)
class HnswSettings:
    """Parameters of an `HnswIndex`, checked; their names are those of its arguments."""

    dim: int
    m: int
    ef_construction: int
    ef_search: int
    seed: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _integer(field.name, getattr(self, field.name), *_RANGES[field.name])
            object.__setattr__(self, field.name, value)

    def as_dict(self) -> dict[str, Any]:
        """Returns the parameters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.as_dict().items())


def import_hnswlib() -> Any:
    """Imports hnswlib.

    Raises:
        ImportError: hnswlib is not installed.
    """
    try:
        import hnswlib
    except ModuleNotFoundError:
        raise ImportError('HnswIndex needs hnswlib: pip install "tilefold[hnsw]"') from None
    return hnswlib


def _integer(name: str, value: Any, minimum: int, maximum: int) -> int:
    number = as_integer(value, "HnswIndex", name)
    if not minimum <= number <= maximum:
        raise ValueError(f"HnswIndex: {name} must be {minimum} to {maximum}, got {number}")
    return number
