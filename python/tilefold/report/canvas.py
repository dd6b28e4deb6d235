"""The canvas of all figures: SVG that is legible from 360 pixels on, without red against green.

Text stays text. Black and white become the colours of the page, in the light and in the dark.
"""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

# Okabe and Ito's colours, which people of any colour vision distinguish; shapes differ as well.
COLOURS = ("#0072B2", "#D55E00", "#595959", "#009E73", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.", "-", "--")
WIDTH = 3.4  # inches of 100 pixels: three fit on a page, one on a telephone
GRID = "#d0d7de"
LEGEND_ROW = 0.22  # inches
# Colours of matplotlib that the page replaces, so that figures can be read in the dark, too.
_OF_THE_PAGE = {
    "#000000": "ink",
    "#ffffff": "paper",
    GRID: "line",
    "#595959": "grey",
    "#0072b2": "blue",
}
Limits = tuple[float | None, float | None]

STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 10,
    "text.parse_math": False,  # a dollar in a label is a dollar
}


def make_canvas(width: float, height: float) -> tuple[Canvas, Any]:
    """Returns a canvas of a size in inches, and its axes."""
    canvas = Canvas(figsize=(width, height), dpi=100, layout="constrained")
    with matplotlib.rc_context(STYLE):
        axes = canvas.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return canvas, axes


def to_svg(canvas: Canvas, name: str) -> str:
    """Returns SVG without a prologue, in pixels; ids begin with the name.

    The bytes are the same every time: no date, and a fixed salt for ids.
    """
    for text in canvas.findobj(Text):  # those that were made outside of the style
        text.set_parse_math(False)
    written = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        canvas.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, count=1, flags=re.DOTALL)
    # With a digest, since names may differ in punctuation alone.
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    own = f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{digest}"
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{own}-", svg)
    for colour, variable in _OF_THE_PAGE.items():
        svg = re.sub(rf"((?:fill|stroke): ){colour}", rf"\g<1>var(--{variable}, {colour})", svg)
    inches = canvas.get_size_inches() * 100
    svg = re.sub(r'width="[\d.]+pt"', f'width="{inches[0]:.0f}"', svg, count=1)
    return re.sub(r'height="[\d.]+pt"', f'height="{inches[1]:.0f}"', svg, count=1)


def add_legend(canvas: Canvas, columns: int = 2) -> None:
    """Adds a legend below the axes."""
    canvas.legend(loc="outside lower left", ncols=columns, frameon=False)


def set_labels(axes: Any, x_label: str, y_label: str) -> None:
    """Labels the axes, and draws horizontal lines behind the values."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
