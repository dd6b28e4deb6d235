"""The study of findings: several runs of the other studies, claim by claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .findings_result import Finding, FindingsResult
from .findings_settings import FindingsSettings
from .findings_study import mean_of_runs, run_findings

if TYPE_CHECKING:
    from ...report import Section

__all__ = [
    "FINDINGS",
    "Finding",
    "FindingsResult",
    "FindingsSettings",
    "mean_of_runs",
    "run_findings",
]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: FindingsResult) -> list[SummaryTable]:
    from .findings_summary import summarise_findings

    return summarise_findings(result)


def _sections(result: FindingsResult) -> list[Section]:
    from .findings_summary import findings_sections

    return findings_sections(result)


FINDINGS: Study[FindingsSettings, FindingsResult] = Study(
    "findings",
    "average the results of several seeds, claim by claim",
    FindingsSettings,
    FindingsResult,
    run_findings,
    _summary,
    _sections,
)
