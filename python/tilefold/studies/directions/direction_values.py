"""What a direction measured in one seed: values of facts by method and measure, costs, notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..study import StepStore

Floats = NDArray[np.float64]
Key = tuple[str, str]  # method and measure
_VALUES, _COSTS, _NOTES = "values", "costs", "notes"


@dataclass
class DirectionValues:
    """Values and costs of the methods of a direction.

    Args:
        values: ``[facts]`` by method and measure; NaN where a fact has none.
        costs: by method and what is counted.
        notes: why a method was left out.
    """

    values: dict[Key, Floats] = field(default_factory=dict)
    costs: dict[Key, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, method: str, measures: Mapping[str, Any], **costs: float) -> None:
        """Adds the measures of a method, and its costs."""
        for name, values in measures.items():
            self.values[method, name] = np.asarray(values, np.float64)
        for name, value in costs.items():
            self.costs[method, name.replace("_", " ")] = float(value)

    def update(self, other: DirectionValues) -> None:
        """Adds all values, costs and notes of another one."""
        self.values |= other.values
        self.costs |= other.costs
        self.notes |= other.notes


def kept_values(
    steps: StepStore, name: str, depends: Any, make: Callable[[], DirectionValues]
) -> DirectionValues:
    """Returns what `make` returns, or what an earlier run kept.

    Args:
        steps: keeps it.
        name: of the step.
        depends: everything that it depends on.
        make: measures.
    """

    def arrays() -> dict[str, NDArray[Any]]:
        made = make()
        notes = {(key, ""): np.frombuffer(x.encode(), np.uint8) for key, x in made.notes.items()}
        tables = ((_VALUES, made.values), (_COSTS, made.costs), (_NOTES, notes))
        rows = [(kind, *key, value) for kind, table in tables for key, value in table.items()]
        # Numbered, as a file has its arrays in another order.
        return {
            "\t".join((f"{place:04}", kind, method, name)): np.asarray(value)
            for place, (kind, method, name, value) in enumerate(rows)
        }

    found = DirectionValues()
    for key, array in sorted(steps.once(name, depends, arrays).items()):
        _, kind, method, measure = key.split("\t")
        if kind == _VALUES:
            found.values[method, measure] = array
        elif kind == _COSTS:
            found.costs[method, measure] = float(array)
        else:
            found.notes[method] = array.tobytes().decode()
    return found
