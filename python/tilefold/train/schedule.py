"""Computes a number that changes with the optimizer step, such as the weight of a loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

from ..integers import as_integer

SHAPES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Schedule:
    """A weight, 0 or more, as a function of the optimizer step alone.

    A schedule keeps no state: a resumed training continues it from the step that it resumes at.
    With progress ``p = min(max(step - delay, 0) / steps, 1)``:

    - "constant": ``end`` at every step.
    - "linear": ``start + (end - start) p``.
    - "cosine": ``start + (end - start) (1 - cos(pi p)) / 2``, flat at both ends.

    Args:
        end: the value from step `delay + steps` on.
        start: the value at step 0.
        steps: the optimizer steps from start to end, 1 or more; 0 for "constant".
        shape: "constant", "linear" or "cosine".
        delay: optimizer steps with the value `start` before; 0 for "constant".

    Raises:
        TypeError: a value that is no number, steps that are no integer.
        ValueError: an unknown shape, a value that is negative or not finite, steps or a delay that
            do not fit the shape.

    Example:
        >>> ramp = Schedule(1.0, start=0.0, steps=10, shape="linear")
        >>> [ramp(0), ramp(5), ramp(10), ramp(1000)]
        [0.0, 0.5, 1.0, 1.0]
    """

    end: float
    start: float = 0.0
    steps: int = 0
    shape: str = "constant"
    delay: int = 0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"Schedule: shape must be one of {SHAPES}, got {self.shape!r}")
        for name in ("start", "end"):
            _check_value(name, getattr(self, name))
        as_integer(self.steps, "Schedule", "steps")
        if self.shape == "constant" and self.steps != 0:
            raise ValueError(f"Schedule: steps must be 0 for a constant, got {self.steps}")
        if self.shape != "constant" and self.steps < 1:
            raise ValueError(f"Schedule: steps must be 1 or more, got {self.steps}")
        as_integer(self.delay, "Schedule", "delay", at_least=0)
        if self.shape == "constant" and self.delay != 0:
            raise ValueError(f"Schedule: delay must be 0 for a constant, got {self.delay}")

    def __call__(self, step: int) -> float:
        """Returns the value at an optimizer step (0 for the first)."""
        if self.shape == "constant":
            return self.end
        progress = min(max(step - self.delay, 0) / self.steps, 1.0)
        if self.shape == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * progress

    @property
    def is_zero(self) -> bool:
        """True if the value is 0 at every step."""
        return self.end == 0 and (self.shape == "constant" or self.start == 0)

    @classmethod
    def parse(cls, text: str | float) -> Self:
        """Reads a number, or ``SHAPE:START:END:STEPS[:DELAY]`` as arguments of commands have it.

        Args:
            text: such as "0.5", "linear:0:1:1000", "cosine:1:0:500" or "linear:0:1:1000:200".

        Raises:
            ValueError: text of another form.

        Example:
            >>> Schedule.parse("linear:0:0.5:1000")(500)
            0.25
        """
        shape, *numbers = str(text).split(":")
        try:
            if not numbers:
                return cls(float(shape))
            start, end, steps, *delay = numbers
            return cls(float(end), float(start), int(steps), shape, *map(int, delay))
        except (TypeError, ValueError) as error:
            raise ValueError(
                "Schedule: expected a number or SHAPE:START:END:STEPS such as linear:0:1:1000, "
                f"got {text!r} ({error})"
            ) from error


def _check_value(name: str, value: Any) -> None:
    """Raises TypeError or ValueError unless it is a weight: finite, and 0 or more."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Schedule: {name} must be a number, got {value!r}")
    if not 0 <= float(value) < math.inf:
        raise ValueError(f"Schedule: {name} must be finite and 0 or more, got {value}")
