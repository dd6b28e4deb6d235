"""Curves: values over a number, such as a step or a rank, at their true distances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .canvas import (
    COLOURS,
    DASHES,
    LEGEND_ROW,
    MARKERS,
    WIDTH,
    Limits,
    add_legend,
    make_canvas,
    set_labels,
    to_svg,
)

_MARKED = 30  # points of a curve; with more, markers hide the line
_ALL_STEPS = 200  # last value up to which 1, 2, 5, 10, 20, ... have room
_LONG_NAME = 16  # characters: two columns of them are wider than a figure


class Curve(NamedTuple):
    """Values at numbers, with or without intervals; None and NaN are gaps."""

    at: Sequence[float]
    values: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None


def curves(
    name: str,
    series: Mapping[str, Curve],
    *,
    x_label: str,
    y_label: str,
    log: bool = False,
    limits: Limits = (None, None),
) -> str:
    """Draws curves with shaded intervals, as SVG.

    Args:
        name: of the figure, unique in the page.
        series: curves by their names; a single one has its name from the y axis.
        x_label, y_label: of the axes.
        log: whether the x axis is logarithmic, for ranks.
        limits: of the y axis.

    Returns:
        An svg element, for `Figure`.

    Example:
        >>> curves("c", {"loss": Curve([10, 40], [2.0, 1.5])}, x_label="step", y_label="loss")[:4]
        '<svg'
    """
    columns = 1 if max(map(len, series)) > _LONG_NAME else 2
    rows = -(-len(series) // columns) if len(series) > 1 else 0  # one curve needs no legend
    canvas, axes = make_canvas(WIDTH, 2.5 + LEGEND_ROW * rows)
    for number, (label, curve) in enumerate(series.items()):
        _draw(axes, number, label, curve)
    if log:
        _log_axis(axes, series)
    set_labels(axes, x_label, y_label)
    axes.set_ylim(*limits)
    if rows:
        add_legend(canvas, columns)
    return to_svg(canvas, name)


def _draw(axes: Any, number: int, label: str, curve: Curve) -> None:
    colour = COLOURS[number % len(COLOURS)]
    if curve.low is not None and curve.high is not None:
        low, high = (np.array(ends, np.float64) for ends in (curve.low, curve.high))
        axes.fill_between(curve.at, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(
        curve.at,
        np.array(curve.values, np.float64),
        color=colour,
        marker=MARKERS[number % len(MARKERS)] if len(curve.at) <= _MARKED else "",
        linestyle=DASHES[number % len(DASHES)],
        markersize=4,
        linewidth=1.6,
        label=label,
    )


def _log_axis(axes: Any, series: Mapping[str, Curve]) -> None:
    """Makes the x axis logarithmic, with the last value and round ones below it as labels."""
    last = max(max(curve.at) for curve in series.values())
    steps = (1, 2, 5) if last <= _ALL_STEPS else (1,)
    powers = range(int(math.log10(last)) + 1)
    # A value close to the last one has no label, as the two would touch.
    ticks = [step * 10**power for power in powers for step in steps]
    ticks = [tick for tick in ticks if 1.5 * tick <= last] + [int(last)]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    if last == 1:
        axes.set_xlim(0.5, 2)
