"""Reports: one HTML file with text, tables and figures, which is read without a network."""

from __future__ import annotations

try:
    import jinja2 as jinja2
    import matplotlib as matplotlib
except ImportError as error:
    raise ImportError(
        f'tilefold.report needs jinja2 and matplotlib ({error}): pip install "tilefold[analysis]"'
    ) from error

from .csv_files import CsvFile
from .figures import heat_maps, lines, points
from .page import Figure, Figures, Listing, Paragraph, Report, Section, SideBySide, Table

__all__ = [
    "CsvFile",
    "Figure",
    "Figures",
    "Listing",
    "Paragraph",
    "Report",
    "Section",
    "SideBySide",
    "Table",
    "heat_maps",
    "lines",
    "points",
]
