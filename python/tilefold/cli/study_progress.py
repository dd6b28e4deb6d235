"""Shows the progress and the summary of a study on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..progress import track
from ..studies.study import Item, Reporter, SummaryTable
from .terminal import fact, heading, note, table, title


class TerminalReporter(Reporter):
    """Writes what a study reports, and progress on stderr."""

    bars = True

    def started(self, title_of_study: str) -> None:
        """Writes the title."""
        title(title_of_study)

    def fact(self, name: str, text: str) -> None:
        """Writes a line."""
        fact(name, text)

    def warn(self, text: str) -> None:
        """Writes a paragraph."""
        note(text)

    def track(self, items: Sequence[Item], label: str) -> Iterable[Item]:
        """Shows the progress of a loop on stderr."""
        return track(items, label)


def show_summary(tables: Sequence[SummaryTable]) -> None:
    """Writes tables under their headings, and their notes."""
    for one in tables:
        if one.heading:
            heading(one.heading)
        if one.columns:
            table(one.labels, one.columns)
        for text in one.notes:
            note(text)
