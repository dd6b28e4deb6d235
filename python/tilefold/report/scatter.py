"""Scatter plots whose points have texts, shown where the pointer rests on one."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .canvas import COLOURS, MARKERS, add_legend, make_canvas, to_svg

WIDE = 5.2  # inches of 100 pixels: labels are legible where a telephone shows it smaller
_STYLES = (2, 0, 1)  # of colours and markers, the least conspicuous first


class Points(NamedTuple):
    """Points of one kind.

    Args:
        at: ``[n, 2]``, finite.
        titles: n texts.
    """

    at: NDArray[np.float64]
    titles: Sequence[str]


def scatter(name: str, groups: Mapping[str, Points], *, x_label: str, y_label: str) -> str:
    """Draws points, as SVG; later groups lie above earlier ones.

    Args:
        name: of the figure, unique in the page.
        groups: points by the name of their kind, at least one of each.
        x_label, y_label: of the axes.

    Returns:
        An svg element, for `Figure`.

    Example:
        >>> groups = {"queries": Points(np.zeros((1, 2)), ["who < what?"])}
        >>> "<title>who &lt; what?</title>" in scatter("s", groups, x_label="x", y_label="y")
        True
    """
    canvas, axes = make_canvas(WIDE, WIDE)
    for number, (label, points) in enumerate(groups.items()):
        marks = axes.scatter(
            points.at[:, 0],
            points.at[:, 1],
            s=20,
            color=COLOURS[_STYLES[number % len(_STYLES)]],
            marker=MARKERS[_STYLES[number % len(_STYLES)]],
            alpha=0.7,
            linewidths=0,
            label=label,
        )
        marks.set_gid(f"points-{number}")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.margins(0.04)  # matplotlib leaves out marks beyond the axes, and with them their texts
    add_legend(canvas, columns=3)
    return _with_titles(to_svg(canvas, name), groups)


def _with_titles(svg: str, groups: Mapping[str, Points]) -> str:
    """Adds texts to the marks, which matplotlib writes in the order of the points."""
    for number, points in enumerate(groups.values()):
        found = re.search(rf'-points-{number}">.*?<g clip-path[^>]*>(.*?)</g>', svg, re.DOTALL)
        marks = [] if found is None else re.findall(r"<use [^>]*/>", found[1])
        if found is None or len(marks) != len(points.titles):
            raise ValueError(
                f"scatter: expected {len(points.titles)} points to be drawn, got {len(marks)}"
            )
        titled = "".join(map(_titled, marks, points.titles))
        svg = svg[: found.start(1)] + titled + svg[found.end(1) :]
    return svg


def _titled(mark: str, title: str) -> str:
    return f"{mark.removesuffix('/>')}><title>{html.escape(title)}</title></use>"
