"""Result of the study of edits."""

from __future__ import annotations

from dataclasses import dataclass

from ...evaluate import Interval
from ...version import __version__
from .edit_settings import EditSettings

MODES = ("add", "remove")
RELIABILITY, GENERALIZATION, PORTABILITY, LOCALITY = (
    "reliability",
    "generalization",
    "portability",
    "locality",
)
BEFORE, AFTER = "probability before", "probability after"


@dataclass(frozen=True)
class EditMeasure:
    """One measure of one editor.

    Args:
        editor: its name.
        mode: add or remove.
        measure: what is measured.
        value: mean and 95% interval over facts of all seeds.
        seeds: mean of each seed; NaN for a seed without such facts.
        n: facts of all seeds: those edited, with an alias for portability, or not edited for
            locality.
    """

    editor: str
    mode: str
    measure: str
    value: Interval
    seeds: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class EditCost:
    """What an editor costs, means over seeds.

    Args:
        editor: its name.
        mode: add or remove.
        seconds: to compute the edits of all facts together, without second moments of texts.
        weights: numbers in the file of the edits.
        training_seconds: of its networks, once for both modes.
    """

    editor: str
    mode: str
    seconds: float
    weights: int
    training_seconds: float


@dataclass(frozen=True)
class EditResult:
    """Result of `run_edits`.

    Args:
        settings: of the run.
        title: names the model.
        measures: of every editor and mode.
        costs: of every editor and mode.
        constants: parameters that are no settings.
        version: of tilefold.
    """

    settings: EditSettings
    title: str
    measures: tuple[EditMeasure, ...]
    costs: tuple[EditCost, ...]
    constants: dict[str, float]
    version: str = __version__
