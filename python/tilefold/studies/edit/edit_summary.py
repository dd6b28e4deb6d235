"""Summary of the study of edits, for a terminal."""

from __future__ import annotations

from ...report.number_format import interval
from ..study import SummaryTable
from .edit_result import MODES, EditMeasure, EditResult

HEADINGS = {
    "add": "Facts that the model does not know, added",
    "remove": "Facts that the model knows, removed",
}


def summarise_edits(result: EditResult) -> list[SummaryTable]:
    """Returns a table for each mode."""
    return [
        SummaryTable(HEADINGS[mode], *columns_of(result, mode))
        for mode in MODES
        if any(row.mode == mode for row in result.measures)
    ]


def columns_of(result: EditResult, mode: str) -> tuple[list[str], dict[str, list[str]]]:
    """Returns editors, and their measures by name.

    Args:
        result: of the study.
        mode: add or remove.
    """
    own = [row for row in result.measures if row.mode == mode]
    editors = list(dict.fromkeys(row.editor for row in own))
    by_name: dict[str, dict[str, EditMeasure]] = {}
    for row in own:
        by_name.setdefault(row.measure, {})[row.editor] = row
    columns = {
        name: [interval(rows[editor].value) if editor in rows else "" for editor in editors]
        for name, rows in by_name.items()
    }
    return editors, columns
