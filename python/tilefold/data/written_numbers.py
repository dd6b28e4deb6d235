"""Parses numbers as files of text write them: decimal, with a sign, without underscores."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)


def parsed_number(text: str) -> float | None:
    """Returns the number that a text is; None where it is none.

    `float` alone would also read "1_000", which no format here writes.

    >>> parsed_number("+1"), parsed_number("1e-3"), parsed_number("nan"), parsed_number("1_000")
    (1.0, 0.001, nan, None)
    """
    text = text.strip(" \t")
    return float(text) if text.isascii() and _NUMBER.fullmatch(text) else None
