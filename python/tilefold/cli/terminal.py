"""Writes lines, facts, tables and paragraphs within the width of the terminal.

Every line is flushed, so that a pipe sees progress and a closed pipe ends the work. Colour (bold
headings, no more) only where stdout is a terminal and NO_COLOR is not set. Texts and ids come from
files of others: what would command the terminal is escaped, what looks like a token is redacted.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

from ..files.printable import escaped
from ..files.secrets import redacted

_NARROWEST = 40
_WIDEST_PARAGRAPH = 80


def say(line: str = "") -> None:
    """Writes a line to stdout, escaped, and flushes it."""
    _write_line(shown(line))


def title(text: str) -> None:
    """Writes a title, bold on a terminal."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    _write_line(f"\033[1m{shown(text)}\033[0m" if colour else shown(text))


def heading(text: str) -> None:
    """Writes an empty line and a heading."""
    say()
    title(text)


def fact(name: str, text: str) -> None:
    """Writes a named fact, aligned with the others."""
    say(f"  {name + ' ':<11}{text}")


def note(text: str) -> None:
    """Writes an empty line and a paragraph."""
    say()
    for line in textwrap.wrap(text, min(width(), _WIDEST_PARAGRAPH) - 2, break_on_hyphens=False):
        say(f"  {line}")


def count(n: int, noun: str) -> str:
    """Returns the number and the noun: "1 query", "1,200 queries"."""
    if n == 1:
        return f"1 {noun}"
    return f"{n:,} {noun[:-1]}ies" if noun.endswith("y") else f"{n:,} {noun}s"


def width() -> int:
    """Returns the columns of the terminal, or 80."""
    return max(_NARROWEST, shutil.get_terminal_size((80, 24)).columns)


def shown(text: str) -> str:
    """Returns a text as it is printed: control characters escaped, tokens redacted."""
    return redacted(escaped(text))


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def clip(text: str, room: int) -> str:
    """Returns the text on one line, escaped, with an ellipsis where it does not fit."""
    line = shown(" ".join(text.split()))
    return line if len(line) <= room else f"{line[: max(room - 3, 0)]}..."


def table(labels: Sequence[str], columns: Mapping[str, Sequence[str]]) -> None:
    """Writes columns under their names, labels at the left; what does not fit continues below."""
    labels = [shown(label) for label in labels]
    columns = {shown(name): [shown(cell) for cell in columns[name]] for name in columns}
    widths = {
        name: max(len(name), *(len(cell) for cell in cells)) for name, cells in columns.items()
    }
    room = width() - max(map(len, labels)) - 2
    part: list[str] = []
    for name in columns:
        if part and sum(widths[other] + 2 for other in [*part, name]) > room:
            _write(labels, columns, part, widths)
            say()
            part = []
        part.append(name)
    _write(labels, columns, part, widths)


def _write(
    labels: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    names: Sequence[str],
    widths: Mapping[str, int],
) -> None:
    indent = max(map(len, labels))
    rows = [("", {name: name for name in names})]
    rows += [
        (label, {name: columns[name][row] for name in names}) for row, label in enumerate(labels)
    ]
    for label, cells in rows:
        line = "".join(f"  {cells[name]:>{widths[name]}}" for name in names)
        say(f"  {label:<{indent}}{line}".rstrip())
