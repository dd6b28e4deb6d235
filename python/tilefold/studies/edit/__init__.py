"""The study of edits: which editor adds and removes facts, and what else it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .edit_result import EditResult
from .edit_settings import EditSettings
from .edit_study import run_edits

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["EDIT", "EditResult", "EditSettings", "run_edits"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: EditResult) -> list[SummaryTable]:
    from .edit_summary import summarise_edits

    return summarise_edits(result)


def _sections(result: EditResult) -> list[Section]:
    from .edit_report import edit_sections

    return edit_sections(result)


EDIT: Study[EditSettings, EditResult] = Study(
    "edit",
    "compare editors that add facts to a language model and remove them",
    EditSettings,
    EditResult,
    run_edits,
    _summary,
    _sections,
)
