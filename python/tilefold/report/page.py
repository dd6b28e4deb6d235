"""A report as sections of paragraphs, figures and tables, written as one HTML file, or Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from ..data.lines import replacing
from ..version import __version__


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

    @classmethod
    def from_columns(
        cls, name: str, labels: Sequence[str], columns: Mapping[str, Sequence[str]], caption: str
    ) -> Table:
        """Makes a table of columns by their header.

        Args:
            name: header of the labels.
            labels: first cell of each row.
            columns: cells by their header.
            caption: of the table.

        Example:
            >>> Table.from_columns("model", ["base"], {"nDCG@10": ["0.645"]}, "Quality.").rows
            [['base', '0.645']]
        """
        cells = zip(labels, *columns.values(), strict=True)
        return cls([name, *columns], [list(row) for row in cells], caption)


@dataclass(frozen=True)
class Listing:
    """Texts under headings, folded away until somebody opens them."""

    items: Sequence[tuple[str, Sequence[str]]]
    kind: str = "listing"


Block = Paragraph | Figures | Table | Listing


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    heading: str
    blocks: Sequence[Block]


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
        return self._rendered("page.html.jinja", autoescape=True)

    def markdown(self) -> str:
        """Tables and texts alone, with the words for each picture in its place."""
        return self._rendered("page.md.jinja", autoescape=False)

    def write(self, path: str | Path) -> None:
        """Writes it, at once or not at all: as Markdown where the name ends in ".md", or as HTML.

        Raises:
            OSError: it cannot be written.
        """
        text = self.markdown() if Path(path).suffix == ".md" else self.html()
        with replacing(path) as file:
            file.write(text)

    def _rendered(self, template: str, *, autoescape: bool) -> str:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            undefined=jinja2.StrictUndefined,
            autoescape=autoescape,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= {"plain": _plain, "block": _block}
        found: str = environment.get_template(template).render(report=self, version=__version__)
        return found


# What Markdown takes for a mark within a line ("_" at the edge of a word, "(" after a link's "]",
# "&" of an entity), and where a line begins.
_MARKS = re.compile(r"[\\`*|<~]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(|&(?=#?\w+;)")
_BEGINS = re.compile(r"^(\d*)([.)](?=\s|$)|[#>+=-]|\[(?=[^]]*]:))")


def _plain(text: str) -> str:
    """One line that Markdown shows as it is.

    >>> _plain("a | *b*")
    'a \\\\| \\\\*b\\\\*'
    """
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))


def _block(text: str) -> str:
    """The same where a line begins: of a paragraph, or of an item.

    >>> _block("1. May")
    '1\\\\. May'
    """
    return _BEGINS.sub(r"\1\\\2", _plain(text))
