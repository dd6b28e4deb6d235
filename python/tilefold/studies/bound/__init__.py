"""The study of the knowledge bound: edit facts, train retrievers, look at what they retrieve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .bound_result import BoundResult
from .bound_settings import BoundSettings
from .bound_study import run_bound

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["BOUND", "BoundResult", "BoundSettings", "run_bound"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: BoundResult) -> list[SummaryTable]:
    from .bound_summary import summarise_bound

    return summarise_bound(result)


def _sections(result: BoundResult) -> list[Section]:
    from .bound_report import bound_sections

    return bound_sections(result)


BOUND: Study[BoundSettings, BoundResult] = Study(
    "bound",
    "edit facts of the base, and compare what retrievers trained from it find",
    BoundSettings,
    BoundResult,
    run_bound,
    _summary,
    _sections,
)
