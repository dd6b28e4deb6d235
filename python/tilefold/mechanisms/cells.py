"""Numbers as a reader sees them, in tables of reports and of the terminal alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def interval(values: Sequence[float | None], digits: int = 3, *, signed: bool = False) -> str:
    """A mean and its interval; "none" where nothing could be measured.

    >>> interval([0.5, 0.25, 0.75], 2, signed=True)
    '+0.50 [+0.25, +0.75]'
    """
    if any(value is None or value != value for value in values):
        return "none"
    sign = "+" if signed else ""
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in values)
    return f"{mean} [{low}, {high}]"


def p_value(p: float | None) -> str:
    """Three digits, and nothing where nothing could be tested.

    >>> p_value(0.0004), p_value(0.25), p_value(None)
    ('< 0.001', '0.250', '')
    """
    if p is None or p != p:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def comparison(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Columns of a table of `mechanisms.claims`: base, retriever, difference, p after Holm.

    Shares have three digits, counts one.
    """
    columns: dict[str, list[str]] = {"base": [], "retriever": [], "difference": [], "p (Holm)": []}
    for row in rows:
        digits = 3 if max(abs(row["base"][0]), abs(row["model"][0])) < 2 else 1
        columns["base"].append(interval(row["base"], digits))
        columns["retriever"].append(interval(row["model"], digits))
        columns["difference"].append(interval(row["difference"], digits, signed=True))
        columns["p (Holm)"].append(p_value(row["p"]))
    return columns
