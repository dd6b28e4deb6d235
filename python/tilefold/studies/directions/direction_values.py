"""What a direction measured in one seed: values of facts by method and measure, and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..study import StepStore

Floats = NDArray[np.float64]
_VALUES, _COSTS = "values", "costs"


@dataclass
class DirectionValues:
    """Values and costs of the methods of a direction.

    Args:
        values: ``[facts]`` by method and measure.
        costs: by method and what is counted.
    """

    values: dict[tuple[str, str], Floats] = field(default_factory=dict)
    costs: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, method: str, measures: Mapping[str, Any], **costs: float) -> None:
        """Adds the measures of a method, and its costs."""
        for name, values in measures.items():
            self.values[method, name] = np.asarray(values, np.float64)
        for name, value in costs.items():
            self.costs[method, name.replace("_", " ")] = float(value)

    def update(self, other: DirectionValues) -> None:
        """Adds all values and costs of another one."""
        self.values |= other.values
        self.costs |= other.costs


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
        found = make()
        tables = ((_VALUES, found.values), (_COSTS, found.costs))
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
        else:
            found.costs[method, measure] = float(array)
    return found
