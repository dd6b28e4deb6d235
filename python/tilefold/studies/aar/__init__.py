"""The study of AAR: a retriever adapted to a source LM's preferences, and LMs that it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .aar_result import AARResult
from .aar_settings import AARSettings
from .aar_study import run_aar

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["AAR", "AARResult", "AARSettings", "run_aar"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: AARResult) -> list[SummaryTable]:
    from .aar_summary import summarise_aar

    return summarise_aar(result)


def _sections(result: AARResult) -> list[Section]:
    from .aar_report import aar_sections

    return aar_sections(result)


AAR: Study[AARSettings, AARResult] = Study(
    "aar",
    "adapt a retriever to the preferences of a source LM, and measure the LMs that it serves",
    AARSettings,
    AARResult,
    run_aar,
    _summary,
    _sections,
)
