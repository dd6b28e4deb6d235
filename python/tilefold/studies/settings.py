"""Settings of a study: a frozen dataclass whose fields are checked and documented once."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from dataclasses import dataclass
from typing import Any, get_type_hints

from .typed_values import to_type

_ARGUMENT = re.compile(  # "lora_rank, lora_alpha: of both adapters" describes two
    r"^    (\w+(?:, \w+)*): (.+?)(?=^    \w+(?:, \w+)*: |\Z)", re.MULTILINE | re.DOTALL
)
_LARGEST_SEED = 2**32 - 1  # transformers seeds numpy.random with it, too


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Settings that are frozen and refuse values of other types.

    A study's settings extend this class and document their fields under ``Args:`` of the class;
    the command line makes its options and their help from both. A subclass that checks more does
    so in ``__post_init__``, after that of this class.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = to_type(getattr(self, field.name), hints[field.name], self._named(field.name))
            self._replace(field.name, value)
            if field.name in ("seed", "seeds"):
                self._check_seeds(field.name)

    def _check_seeds(self, name: str) -> None:
        value = getattr(self, name)
        for seed in value if isinstance(value, tuple) else (value,):
            if seed > _LARGEST_SEED:
                raise ValueError(
                    f"{self._named(name)}: expected at most {_LARGEST_SEED}, got {seed}"
                )

    def _named(self, name: str) -> str:
        """How errors name a field."""
        return f"{type(self).__name__}: {name}"

    def _replace(self, name: str, value: Any) -> None:
        """Sets a field while the settings are being made."""
        object.__setattr__(self, name, value)

    def _check_min(self, name: str, lowest: int) -> None:
        """Checks the lowest value of a field, or of each item of a sequence; None is allowed."""
        value = getattr(self, name)
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None and item < lowest:
                raise ValueError(f"{self._named(name)}: expected {lowest} or more, got {item}")

    def _check_different(self, *names: str) -> None:
        """Checks that sequences have a value or more, and none twice."""
        for name in names:
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"{self._named(name)}: expected one or more different values, got {values}"
                )

    def _check_default(self, reason: str, *names: str) -> None:
        """Checks that fields which would have no effect have their defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{self._named(name)}: {reason}")

    def _check_range(
        self, name: str, low: float, high: float = math.inf, *, above: bool = False
    ) -> None:
        """Checks that a number is finite and between two others, or above the lower one."""
        value = getattr(self, name)
        if not low <= value <= high or math.isinf(value) or (above and value == low):
            wanted = "above" if above else "at least"
            limit = "" if math.isinf(high) else f" and at most {high:g}"
            raise ValueError(
                f"{self._named(name)}: expected a number {wanted} {low:g}{limit}, got {value}"
            )


def field_descriptions(kind: type[StudySettings]) -> dict[str, str]:
    """Returns the description of each field, from the docstrings of the class and its parents.

    Args:
        kind: a class of settings.

    Returns:
        One line for each field that a docstring describes under ``Args:``.
    """
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        section = inspect.cleandoc(parent.__dict__.get("__doc__") or "").partition("Args:\n")[2]
        section = re.split(r"\n\n(?=\S)", section)[0]
        for names, text in _ARGUMENT.findall(section):
            for name in names.split(", "):
                found[name] = " ".join(text.split()).rstrip(".")
    return found
