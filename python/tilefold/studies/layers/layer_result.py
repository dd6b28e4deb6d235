"""Result of the study of layers."""

from __future__ import annotations

from dataclasses import dataclass

from ...evaluate import Interval
from ...version import __version__
from ..paired_comparison import PairedComparison
from .layer_settings import LayerSettings

ALL, NONE = "all", "none"


@dataclass(frozen=True)
class TrainedLayers:
    """A retriever of which some layers were trained.

    Args:
        name: of the layers, such as "layers 1 and 2".
        layers: their numbers; empty for none, and for everything.
        value: mean measure and 95% interval over facts of all seeds.
        seeds: mean of each seed.
        comparison: with the retriever of which everything was trained, paired over facts, p
            corrected over all retrievers (Holm); None for that retriever itself.
    """

    name: str
    layers: tuple[int, ...]
    value: Interval
    seeds: tuple[float, ...]
    comparison: PairedComparison | None


@dataclass(frozen=True)
class LayerResult:
    """Result of `run_layers`.

    Args:
        settings: of the run.
        title: names the world.
        measure: its name.
        facts: of the test, of all seeds.
        retrievers: by the layers that were trained.
        between: middle layers minus the first and the last one, each trained alone, and the same of
            two neighbours, paired over facts, p corrected over these comparisons (Holm).
        constants: parameters that are no settings.
        version: of tilefold.
    """

    settings: LayerSettings
    title: str
    measure: str
    facts: int
    retrievers: tuple[TrainedLayers, ...]
    between: tuple[PairedComparison, ...]
    constants: dict[str, float]
    version: str = __version__
