"""The study of patching: which heads and blocks carry what axioms of retrieval ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .patching_result import PatchingResult
from .patching_settings import PatchingSettings
from .patching_study import run_patching

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["PATCHING", "PatchingResult", "PatchingSettings", "run_patching"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: PatchingResult) -> list[SummaryTable]:
    from .patching_summary import summarise_patching

    return summarise_patching(result)


def _sections(result: PatchingResult) -> list[Section]:
    from .patching_report import patching_sections

    return patching_sections(result)


PATCHING: Study[PatchingSettings, PatchingResult] = Study(
    "patching",
    "patch heads and feed-forward blocks in pairs of passages that differ by an axiom",
    PatchingSettings,
    PatchingResult,
    run_patching,
    _summary,
    _sections,
)
