"""The study of neurons: which ones texts activate, and what is lost without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .neuron_result import NeuronResult
from .neuron_settings import NeuronSettings
from .neuron_study import run_neurons

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["NEURONS", "NeuronResult", "NeuronSettings", "run_neurons"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: NeuronResult) -> list[SummaryTable]:
    from .neuron_summary import summarise_neurons

    return summarise_neurons(result)


def _sections(result: NeuronResult) -> list[Section]:
    from .neuron_report import neuron_sections

    return neuron_sections(result)


NEURONS: Study[NeuronSettings, NeuronResult] = Study(
    "neurons",
    "attribute texts to neurons, and knock neurons out",
    NeuronSettings,
    NeuronResult,
    run_neurons,
    _summary,
    _sections,
)
