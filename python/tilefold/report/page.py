"""A report as sections of paragraphs, figures and tables, written as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from .. import __version__
from ..data.lines import replacing


@dataclass(frozen=True)
class Paragraph:
    """Text; it is escaped."""

    text: str
    kind: str = "paragraph"


@dataclass(frozen=True)
class Figure:
    """A picture.

    Args:
        svg: of `lines` or `heat_maps`.
        alt: what it shows, for those who do not see it.
        caption: below it.
    """

    svg: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Figures:
    """Pictures side by side, or below each other where there is no room."""

    figures: Sequence[Figure]
    kind: str = "figures"


@dataclass(frozen=True)
class Table:
    """Cells in rows; those of the first column name the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    kind: str = "table"


@dataclass(frozen=True)
class Listing:
    """Texts under headings, folded away until somebody opens them."""

    items: Sequence[tuple[str, Sequence[str]]]
    kind: str = "listing"


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    heading: str
    blocks: Sequence[Paragraph | Figures | Table | Listing]


@dataclass(frozen=True)
class Report:
    """One page.

    Args:
        title: its first line.
        summary: a sentence or two below it.
        sections: from top to bottom.

    Example:
        >>> block = Table(["model", "nDCG@10"], [["base", "0.645"]], "What was measured.")
        >>> page = Report("A retriever", "Measured.", [Section("Quality", [block])]).html()
        >>> "<td>0.645</td>" in page
        True
    """

    title: str
    summary: str
    sections: Sequence[Section] = field(default_factory=list)

    def html(self) -> str:
        """The whole file."""
        found: str = _template().render(report=self, version=__version__)
        return found

    def write(self, path: str | Path) -> None:
        """Writes it, at once or not at all.

        Raises:
            OSError: it cannot be written.
        """
        with replacing(path) as file:
            file.write(self.html())


def _template() -> Any:
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    options: Any = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=folder, undefined=jinja2.StrictUndefined, **options)
    return environment.get_template("page.html.jinja")
