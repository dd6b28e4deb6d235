"""CSV files within a page: links that hold the data, so that nothing is fetched."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from ..files.printable import escaped
from ..files.secrets import redacted

# What ends or changes a URI; other characters, also those beyond ASCII, may stand in one.
_ENCODED = {ord(character): f"%{ord(character):02X}" for character in " \"#%&'<>`\t\r\n"}
# A spreadsheet takes a cell that begins with one of these for a formula, which may run commands.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Cell = str | float | int | None


@dataclass(frozen=True)
class CsvFile:
    """A table as a CSV file, whose link holds its content.

    Args:
        name: of the file that is saved.
        header: of the columns.
        rows: numbers in full precision, texts, and None or NaN for an empty cell. A text that a
            spreadsheet would take for a formula gets an apostrophe before it.

    Example:
        >>> CsvFile("a.csv", ["k", "R@k"], [[1, 0.5], [2, None]]).text
        'k,R@k\\n1,0.5\\n2,\\n'
    """

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def text(self) -> str:
        """The content of the file."""
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerows([_cell(cell) for cell in row] for row in (self.header, *self.rows))
        return written.getvalue()

    @property
    def uri(self) -> str:
        """A link to the content; secrets are hidden here, as the page sees it encoded."""
        text = redacted(escaped(self.text, lines=True))
        return f"data:text/csv;charset=utf-8,{text.translate(_ENCODED)}"


def _cell(cell: Cell) -> str:
    if cell is None or cell != cell:
        return ""
    if not isinstance(cell, str):
        return repr(cell)
    return f"'{cell}" if cell.startswith(_FORMULA) and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
