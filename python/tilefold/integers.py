"""Checks arguments that are integers, of Python, NumPy or another library."""

from __future__ import annotations

import operator
from typing import Any


def as_integer(value: Any, op: str, name: str, *, at_least: int | None = None) -> int:
    """Converts an integer of any library; a bool is refused.

    Args:
        value: the argument.
        op, name: of the function and the argument, for messages.
        at_least: smallest value that is accepted.

    Raises:
        TypeError: no integer.
        ValueError: it is below `at_least`.

    Example:
        >>> as_integer(0, "search", "k", at_least=1)
        Traceback (most recent call last):
        ValueError: search: k must be at least 1, got 0
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{op}: {name} must be an integer, got {kind}") from None
    if at_least is not None and number < at_least:
        raise ValueError(f"{op}: {name} must be at least {at_least}, got {number}")
    return number
