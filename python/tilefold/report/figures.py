"""Figures of values at places: lines and points with intervals, and heat maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from .canvas import (
    COLOURS,
    DASHES,
    LEGEND_ROW,
    MARKERS,
    STYLE,
    WIDTH,
    Limits,
    add_legend,
    make_canvas,
    set_labels,
    to_svg,
)

_LONG_NAME = 16  # characters: two columns of them are wider than a figure
_LABEL_LINE = 34  # characters of labels that fit below a figure side by side
_APART = 0.3  # between the outer points of a place, of the distance of two places
_LABELS = 9  # places of an axis that are labelled, at most


class Line(NamedTuple):
    """Values along the x axis, with or without intervals; None and NaN are gaps."""

    values: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None


def lines(
    name: str,
    places: Sequence[Any],
    series: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    level: tuple[float, str] | None = None,
    limits: Limits = (None, None),
) -> str:
    """Draws lines with shaded intervals, as SVG.

    Args:
        name: of the figure, unique in the page.
        places: labels along the x axis.
        series: lines by their names.
        x_label, y_label: of the axes.
        level: height and name of a horizontal line, such as chance.
        limits: of the y axis; counts should begin at zero, and panels have the same limits.

    Returns:
        An svg element, for `Figure`.

    Example:
        >>> lines("a", [0, 1], {"base": Line([0.5, 0.7])}, x_label="layer", y_label="accuracy")[:4]
        '<svg'
    """

    def draw(axes: Any, at: NDArray[np.int64]) -> None:
        if level is not None:
            axes.axhline(level[0], color="#8c959f", linewidth=1, label=level[1])
        for number, (label, line) in enumerate(series.items()):
            colour = COLOURS[number % len(COLOURS)]
            if line.low is not None and line.high is not None:
                low, high = (np.array(ends, np.float64) for ends in (line.low, line.high))
                axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                at,
                np.array(line.values, np.float64),
                color=colour,
                marker=MARKERS[number % len(MARKERS)],
                linestyle=DASHES[number % len(DASHES)],
                markersize=5,
                linewidth=1.6,
                label=label,
            )

    return _series(name, places, series, draw, x_label=x_label, y_label=y_label, limits=limits)


def points(
    name: str,
    places: Sequence[Any],
    series: Mapping[str, Line],
    *,
    x_label: str,
    y_label: str,
    limits: Limits = (None, None),
) -> str:
    """Draws points with bars for intervals, as SVG: for places without an order, such as models.

    Args:
        name: of the figure, unique in the page.
        places: labels along the x axis.
        series: values by their names, side by side.
        x_label, y_label: of the axes.
        limits: of the y axis.

    Returns:
        An svg element, for `Figure`.

    Example:
        >>> points("a", ["x", "y"], {"test": Line([0.5, 0.7])}, x_label="model", y_label="EM")[:4]
        '<svg'
    """

    def draw(axes: Any, at: NDArray[np.int64]) -> None:
        apart = _APART / max(1, len(series) - 1)
        for number, (label, line) in enumerate(series.items()):
            values = np.array(line.values, np.float64)
            bars = None
            if line.low is not None and line.high is not None:
                low, high = (np.array(ends, np.float64) for ends in (line.low, line.high))
                bars = np.maximum([values - low, high - values], 0)
            axes.errorbar(
                at + apart * (number - (len(series) - 1) / 2),
                values,
                bars,
                color=COLOURS[number % len(COLOURS)],
                fmt=MARKERS[number % len(MARKERS)],
                markersize=5,
                elinewidth=1.6,
                label=label,
            )
        axes.set_xlim(at[0] - 0.5, at[-1] + 0.5)

    return _series(
        name, places, series, draw, x_label=x_label, y_label=y_label, limits=limits, labels=None
    )


def _series(
    name: str,
    places: Sequence[Any],
    series: Mapping[str, Line],
    draw: Callable[[Any, NDArray[np.int64]], None],
    *,
    x_label: str,
    y_label: str,
    limits: Limits,
    labels: int | None = _LABELS,
) -> str:
    """Makes the axes of `lines` and `points`, calls draw, and adds some labels and a legend."""
    columns = 1 if max(map(len, series)) > _LONG_NAME else 2
    shown = [str(place) for place in places]
    turned = sum(map(len, shown)) > _LABEL_LINE
    below = LEGEND_ROW * -(-len(series) // columns) + (0.05 * max(map(len, shown)) if turned else 0)
    canvas, axes = make_canvas(WIDTH, 2.5 + below)
    at = np.arange(len(places))
    draw(axes, at)
    step = 1 if labels is None else max(1, -(-len(places) // labels))
    axes.set_xticks(at[::step], shown[::step])
    if turned:
        axes.tick_params("x", rotation=35)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    set_labels(axes, x_label, y_label)
    axes.set_ylim(*limits)
    add_legend(canvas, columns)
    return to_svg(canvas, name)


def heat_maps(
    name: str,
    rows: Sequence[str],
    maps: Mapping[str, NDArray[Any]],
    *,
    x_label: str,
    bar_label: str,
    columns: Sequence[str] = (),
) -> str:
    """Draws heat maps of the same rows below each other, with one colour bar, as SVG.

    Args:
        name: of the figure, unique in the page.
        rows: labels from top to bottom.
        maps: ``[rows, columns]`` values by the name of the map.
        x_label: of the columns.
        bar_label: of the colours.
        columns: labels of the columns; by default they have none.

    Returns:
        An svg element, for `Figure`.

    Example:
        >>> maps = {"base": np.eye(2), "retriever": np.ones((2, 2))}
        >>> heat_maps("h", ["0", "1"], maps, x_label="neurons", bar_label="share of texts")[:4]
        '<svg'
    """
    low = min(float(np.min(values)) for values in maps.values())
    high = max(float(np.max(values)) for values in maps.values())
    map_height = 0.55 + 0.17 * len(rows)  # inches: a title, and 17 pixels for each row
    names_height = 0.07 * max(map(len, columns), default=0)
    height = map_height * len(maps) + names_height + 0.75
    canvas = Canvas(figsize=(WIDTH, height), dpi=100, layout="constrained")
    with matplotlib.rc_context(STYLE):
        grid = canvas.subplots(len(maps), 1, sharex=True, squeeze=False)[:, 0]
        image: Any = None
        for axes, (label, values) in zip(grid, maps.items(), strict=True):
            image = axes.imshow(
                values,
                aspect="auto",
                interpolation="nearest",
                cmap="cividis",
                vmin=low,
                vmax=high if high > low else low + 1,
            )
            axes.set_title(label, fontsize=11, loc="left")
            axes.set_yticks(range(len(rows)), rows, fontsize=9)
            axes.set_xticks(range(len(columns)), columns, fontsize=9, rotation=90)
        grid[-1].set_xlabel(x_label, fontsize=10)
        bar = canvas.colorbar(image, ax=list(grid), location="bottom", shrink=0.9, aspect=28)
        bar.set_label(bar_label, fontsize=10)
    return to_svg(canvas, name)
