"""Numbers as a reader sees them, in tables of reports and of the terminal alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def interval(values: Sequence[float | None], digits: int = 3, *, signed: bool = False) -> str:
    """A mean and its interval, or the mean alone; "none" where nothing could be measured.

    >>> interval([0.5, 0.25, 0.75], 2, signed=True)
    '+0.50 [+0.25, +0.75]'
    """
    mean, *bounds = (number(value, digits, signed=signed) for value in values)
    return mean if "none" in (mean, *bounds) else f"{mean} [{', '.join(bounds)}]"


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A value; "none" where nothing could be measured.

    >>> number(0.456), number(None)
    ('0.46', 'none')
    """
    return "none" if _unknown(value) else f"{value:{'+' if signed else ''}.{digits}f}"


def _unknown(value: float | None) -> bool:
    """None, as JSON has it, or NaN."""
    return value is None or value != value


def p_value(p: float | None) -> str:
    """Three digits, and nothing where nothing could be tested.

    >>> p_value(0.0004), p_value(0.25), p_value(None)
    ('< 0.001', '0.250', '')
    """
    if p is None or _unknown(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def comparison(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Columns of a table of `mechanisms.claims`: base, retriever, difference, p after Holm.

    Shares have three digits, counts one.
    """
    columns: dict[str, list[str]] = {"base": [], "retriever": [], "difference": [], "p (Holm)": []}
    for row in rows:
        means = [abs(row[name][0]) for name in ("base", "model") if not _unknown(row[name][0])]
        digits = 3 if max(means, default=0) < 2 else 1
        columns["base"].append(interval(row["base"], digits))
        columns["retriever"].append(interval(row["model"], digits))
        columns["difference"].append(interval(row["difference"], digits, signed=True))
        columns["p (Holm)"].append(p_value(row["p"]))
    return columns
