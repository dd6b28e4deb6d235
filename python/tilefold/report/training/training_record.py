"""What is known of a training, finished or not."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RATES = "steps_per_second"
LINES = 1000  # of the log that are drawn and kept in CSV files, at most
# Of lines of transformers, which have no place in a curve.
_NOT_VALUES = {"epoch", "step", "total_flos"}


@dataclass(frozen=True)
class TrainingRecord:
    """A training up to a step.

    Args:
        title: of the report.
        status: a sentence: whether it is finished, and at which step.
        history: lines of the log, as `TrainerState.log_history` of transformers has them: each
            with its step; those of a loss have "loss", those of an evaluation names that begin
            with "eval_".
        before, after: measures of the validation before the first step and after the last one, by
            names without "eval_"; empty where they are not known.
        settings: values by name, by the name of their group.
        versions: of software, by name.
    """

    title: str
    status: str
    history: Sequence[Mapping[str, Any]]
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def losses(self) -> list[tuple[int, dict[str, float]]]:
        """Returns step and values of each line that has a loss, in the order of steps."""
        return _numbers(line for line in self.history if "loss" in line)

    def evaluations(self) -> list[tuple[int, dict[str, float]]]:
        """Returns step and measures of each evaluation, the one before the first step included."""
        lines = [line for line in self.history if any(name.startswith("eval_") for name in line)]
        found = dict(_numbers(lines, "eval_"))
        if self.before:
            found = {0: dict(self.before), **{step: own for step, own in found.items() if step}}
        return sorted(found.items())


def thinned(
    lines: Sequence[tuple[int, dict[str, float]]],
) -> list[tuple[int, dict[str, float]]]:
    """Returns all lines, or every n-th and the last one where they are more than `LINES`."""
    every = -(-len(lines) // LINES) if lines else 1
    kept = list(lines[::every])
    if lines and kept[-1][0] != lines[-1][0]:
        kept[-1:] = [lines[-1]] if len(kept) == LINES else [kept[-1], lines[-1]]
    return kept


def _numbers(
    lines: Iterable[Mapping[str, Any]], prefix: str = ""
) -> list[tuple[int, dict[str, float]]]:
    """Returns numbers by step; of two lines of one step, the last one counts."""
    found = {}
    for line in lines:
        found[int(line["step"])] = {
            name.removeprefix(prefix): float(value)
            for name, value in line.items()
            if name.startswith(prefix) and name not in _NOT_VALUES and _is_number(value)
        }
    return sorted(found.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_gap(value: float | None) -> bool:
    """Returns whether a value cannot be drawn."""
    return value is None or not math.isfinite(value)
