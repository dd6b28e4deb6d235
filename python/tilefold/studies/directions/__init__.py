"""The study of four directions beyond plain DPR: exposure, injection, uncertainty, maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .direction_result import DirectionResult
from .direction_settings import DirectionSettings
from .direction_study import run_directions

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["DIRECTIONS", "DirectionResult", "DirectionSettings", "run_directions"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: DirectionResult) -> list[SummaryTable]:
    from .direction_summary import summarise_directions

    return summarise_directions(result)


def _sections(result: DirectionResult) -> list[Section]:
    from .direction_report import direction_sections

    return direction_sections(result)


DIRECTIONS: Study[DirectionSettings, DirectionResult] = Study(
    "directions",
    "compare plain DPR with four ways to use more knowledge",
    DirectionSettings,
    DirectionResult,
    run_directions,
    _summary,
    _sections,
)
