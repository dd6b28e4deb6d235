"""Formats numbers for tables of reports and of the terminal alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Values = Sequence[float]


class Comparison(Protocol):
    """A quantity of a model and of its base: means with intervals, and a corrected p value."""

    @property
    def base(self) -> Values: ...
    @property
    def model(self) -> Values: ...
    @property
    def difference(self) -> Values: ...
    @property
    def p(self) -> float: ...


def interval(values: Sequence[float | None], digits: int = 3, *, signed: bool = False) -> str:
    """Formats a mean and its interval, the mean alone, or "none" where nothing was measured.

    Args:
        values: a mean, low and high; or a mean.
        digits: after the point.
        signed: whether positive numbers get a sign.

    Example:
        >>> interval([0.5, 0.25, 0.75], 2, signed=True)
        '+0.50 [+0.25, +0.75]'
    """
    mean, *bounds = (number(value, digits, signed=signed) for value in values)
    return mean if "none" in (mean, *bounds) else f"{mean} [{', '.join(bounds)}]"


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """Formats a number, or "none" for None and NaN.

    Args:
        value: a number.
        digits: after the point.
        signed: whether a positive number gets a sign.

    Example:
        >>> number(0.456), number(None)
        ('0.46', 'none')
    """
    return "none" if _missing(value) else f"{value:{'+' if signed else ''}.{digits}f}"


def p_value(p: float | None) -> str:
    """Formats a p value with three digits, or nothing where nothing could be tested.

    Example:
        >>> p_value(0.0004), p_value(0.25), p_value(None)
        ('< 0.001', '0.250', '')
    """
    if p is None or _missing(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def comparison_columns(rows: Sequence[Comparison]) -> dict[str, list[str]]:
    """Formats comparisons as columns: base, retriever, difference, and p corrected by Holm.

    Shares get three digits, counts one.

    Args:
        rows: such as `tilefold.studies.paired_comparison.PairedComparison`.
    """
    columns: dict[str, list[str]] = {"base": [], "retriever": [], "difference": [], "p (Holm)": []}
    for row in rows:
        means = [abs(values[0]) for values in (row.base, row.model) if not _missing(values[0])]
        digits = 3 if max(means, default=0) < 2 else 1
        columns["base"].append(interval(row.base, digits))
        columns["retriever"].append(interval(row.model, digits))
        columns["difference"].append(interval(row.difference, digits, signed=True))
        columns["p (Holm)"].append(p_value(row.p))
    return columns


def _missing(value: float | None) -> bool:
    """Returns whether a number is None or NaN."""
    return value is None or value != value
