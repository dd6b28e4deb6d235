"""The study of probes: which layers distinguish a relevant passage from hard negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .probe_result import LayerAccuracy, ProbeResult, SampleCounts
from .probe_settings import ProbeSettings
from .probe_study import run_probe

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["PROBE", "LayerAccuracy", "ProbeResult", "ProbeSettings", "SampleCounts", "run_probe"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: ProbeResult) -> list[SummaryTable]:
    from .probe_summary import summarise_probe

    return summarise_probe(result)


def _sections(result: ProbeResult) -> list[Section]:
    from .probe_report import probe_sections

    return probe_sections(result)


PROBE: Study[ProbeSettings, ProbeResult] = Study(
    "probe",
    "fit probes to layers: which ones distinguish a relevant passage",
    ProbeSettings,
    ProbeResult,
    run_probe,
    _summary,
    _sections,
)
