"""The study of Invar-RAG: an invariant, LLM-aligned retriever, and answers from its passages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .invar_result import InvarResult
from .invar_settings import InvarSettings
from .invar_study import run_invar

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["INVAR", "InvarResult", "InvarSettings", "run_invar"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: InvarResult) -> list[SummaryTable]:
    from .invar_summary import summarise_invar

    return summarise_invar(result)


def _sections(result: InvarResult) -> list[Section]:
    from .invar_report import invar_sections

    return invar_sections(result)


INVAR: Study[InvarSettings, InvarResult] = Study(
    "invar",
    "train a language model as an invariant retriever, then to answer from what it retrieves",
    InvarSettings,
    InvarResult,
    run_invar,
    _summary,
    _sections,
)
