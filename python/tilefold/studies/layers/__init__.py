"""The study of layers: which ones have to be trained for a retriever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .layer_result import LayerResult
from .layer_settings import LayerSettings
from .layer_study import run_layers

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["LAYERS", "LayerResult", "LayerSettings", "run_layers"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: LayerResult) -> list[SummaryTable]:
    from .layer_summary import summarise_layers

    return summarise_layers(result)


def _sections(result: LayerResult) -> list[Section]:
    from .layer_summary import layer_sections

    return layer_sections(result)


LAYERS: Study[LayerSettings, LayerResult] = Study(
    "layers",
    "train retrievers with all layers but some frozen",
    LayerSettings,
    LayerResult,
    run_layers,
    _summary,
    _sections,
)
