"""Histograms of several groups of values over the same bins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .canvas import COLOURS, DASHES, LEGEND_ROW, WIDTH, add_legend, make_canvas, set_labels, to_svg
from .csv_files import CsvFile


def bin_file(name: str, edges: NDArray[np.float64], counts: Mapping[str, NDArray[Any]]) -> CsvFile:
    """Returns the counts of a histogram as a CSV file.

    Args:
        name: of the file.
        edges, counts: as of `histograms`.
    """
    columns = (edges[:-1], edges[1:], *counts.values())
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return CsvFile(name, ["from", "to", *counts], [list(row) for row in rows])


def histograms(
    name: str,
    edges: NDArray[np.float64],
    counts: Mapping[str, NDArray[Any]],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Draws the share of each group that lies in each bin, as SVG.

    Args:
        name: of the figure, unique in the page.
        edges: ``[bins + 1]``, rising.
        counts: ``[bins]`` of each group by its name; groups need not be of the same size.
        x_label, y_label: of the axes.

    Returns:
        An svg element, for `Figure`.

    Example:
        >>> edges = np.array([0.0, 0.5, 1.0])
        >>> groups = {"relevant": np.array([1, 3])}
        >>> histograms("h", edges, groups, x_label="score", y_label="share")[:4]
        '<svg'
    """
    rows = len(counts) if len(counts) > 1 else 0  # one group needs no legend
    canvas, axes = make_canvas(WIDTH, 2.5 + LEGEND_ROW * rows)
    for number, (label, own) in enumerate(counts.items()):
        shares = own / max(1, own.sum())
        colour = COLOURS[number % len(COLOURS)]
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.15)
        dash = DASHES[number % len(DASHES)]
        axes.stairs(shares, edges, color=colour, linewidth=1.6, linestyle=dash, label=label)
    set_labels(axes, x_label, y_label)
    axes.set_ylim(0, None)
    if rows:
        add_legend(canvas, columns=1)
    return to_svg(canvas, name)
