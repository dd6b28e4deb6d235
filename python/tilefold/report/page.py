"""Reports of paragraphs, figures and tables, written as one HTML file or as Markdown."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from ..files.atomic import replacing_text
from ..files.printable import escaped
from ..files.secrets import redacted
from ..version import __version__
from .csv_files import CsvFile

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Paragraph:
    """Text; it is escaped."""

    text: str
    kind: str = "paragraph"


@dataclass(frozen=True)
class Figure:
    """A figure.

    Args:
        svg: of `lines` or `heat_maps`.
        alt: its content in words, for readers who do not see it.
        caption: text below it.
        data: its numbers, which the page offers as a CSV file.
        wide: whether it is as wide as one and a half figures.
    """

    svg: str
    alt: str
    caption: str
    data: CsvFile | None = None
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    """Figures side by side, or below each other on a narrow screen."""

    figures: Sequence[Figure]
    kind: str = "figures"


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its label.

    Args:
        header: of the columns.
        rows: cells as they are shown.
        caption: text above it.
        data: its rows, which the page offers as a CSV file.
        sortable: whether a long table scrolls by itself, and readers with JavaScript can sort it
            by any column and filter its rows.
        texts: whether cells are texts, which wrap, and labels are names, which do not.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    kind: str = "table"
    data: CsvFile | None = None
    sortable: bool = False
    texts: bool = False

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
    """Texts under headings, folded until they are opened."""

    items: Sequence[tuple[str, Sequence[str]]]
    kind: str = "listing"


@dataclass(frozen=True)
class SideBySide:
    """Lists of texts in columns, under headings that are folded until they are opened.

    Args:
        items: a heading, and texts by the name of their column; below each other on a narrow
            screen.
    """

    items: Sequence[tuple[str, Mapping[str, Sequence[str]]]]
    kind: str = "side by side"


Block = Paragraph | Figures | Table | Listing | SideBySide


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A page.

    Args:
        title: its first line.
        summary: a sentence or two below it.
        sections: from top to bottom.

    Example:
        >>> block = Table(["model", "nDCG@10"], [["base", "0.645"]], "Quality.")
        >>> page = Report("A retriever", "Measured.", [Section("Quality", [block])]).html()
        >>> "<td>0.645</td>" in page
        True
    """

    title: str
    summary: str
    sections: Sequence[Section] = field(default_factory=list)

    def html(self) -> str:
        """Returns the page as HTML."""
        return self._rendered("page.html.jinja", autoescape=True)

    def markdown(self) -> str:
        """Returns the page as Markdown, with captions and descriptions in place of figures."""
        return self._rendered("page.md.jinja", autoescape=False)

    def write(self, path: str | Path) -> None:
        """Writes the page; a file that is there is replaced at once, or not at all.

        Args:
            path: of the file: Markdown where it ends in ".md", HTML otherwise.

        Raises:
            OSError: it cannot be written.
        """
        text = self.markdown() if Path(path).suffix == ".md" else self.html()
        with replacing_text(path) as file:
            file.write(text)

    @property
    def script(self) -> str:
        """JavaScript of the page; "" where no table needs any."""
        blocks = [block for section in self.sections for block in section.blocks]
        needed = any(isinstance(block, Table) and block.sortable for block in blocks)
        return (_FOLDER / "sortable_tables.js").read_text("utf-8") if needed else ""

    @property
    def policy(self) -> str:
        """Content security policy of the page: nothing is fetched, and no other script runs.

        A text that were not escaped could thus do nothing.
        """
        digest = base64.b64encode(hashlib.sha256(self.script.encode()).digest()).decode()
        scripts = f"'sha256-{digest}'" if self.script else "'none'"
        return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}"

    def _rendered(self, template: str, *, autoescape: bool) -> str:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            undefined=jinja2.StrictUndefined,
            autoescape=autoescape,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= {"plain": _plain, "block": _block}
        found: str = environment.get_template(template).render(report=self, version=__version__)
        return redacted(escaped(found, lines=True))


# Characters with a meaning within a line of Markdown ("_" at the edge of a word, "(" after a
# link's "]", "&" of an entity), and at the beginning of a line.
_MARKS = re.compile(r"[\\`*|<~]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(|&(?=#?\w+;)")
_BEGINS = re.compile(r"^(\d*)([.)](?=\s|$)|[#>+=-]|\[(?=[^]]*]:))")


def _plain(text: str) -> str:
    """Returns one line that Markdown shows as it is.

    >>> _plain("a | *b*")
    'a \\\\| \\\\*b\\\\*'
    """
    return _MARKS.sub(r"\\\g<0>", " ".join(text.split()))


def _block(text: str) -> str:
    """Escapes the beginning of a paragraph or of an item, too.

    >>> _block("1. May")
    '1\\\\. May'
    """
    return _BEGINS.sub(r"\1\\\2", _plain(text))
