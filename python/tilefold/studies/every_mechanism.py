"""Settings of all studies of mechanisms on one world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .bound import BOUND
from .directions import DIRECTIONS
from .edit import EDIT
from .features import FEATURES
from .layers import LAYERS
from .neurons import NEURONS
from .patching import PATCHING
from .probe import PROBE
from .settings import StudySettings
from .study import Study
from .subject_settings import WorldSize

STUDIES: tuple[Study[Any, Any], ...] = (
    PROBE,
    NEURONS,
    PATCHING,
    FEATURES,
    EDIT,
    BOUND,
    LAYERS,
    DIRECTIONS,
)  # in the order of a report's sections
# A tiny world has few facts to edit.
_TINY: dict[str, dict[str, int]] = {
    EDIT.name: {"n_facts": 10, "n_neighbours": 30, "network_edits": 5},
    BOUND.name: {"n_facts": 10},
    DIRECTIONS.name: {"n_facts": 10},
}


@dataclass(frozen=True, kw_only=True)
class EverySettings(StudySettings):
    """Settings of a run of all studies of mechanisms.

    Args:
        world: size of the synthetic world, in which all models are trained; of a tiny one fewer
            facts are edited.
        seeds: each has a world, a base and retrievers of its own; studies of one pair of models are
            of the first seed.
        retriever_epochs: epochs of the training of each retriever.
        batch_size: texts in a forward pass.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take.
    """

    world: WorldSize = "small"
    seeds: tuple[int, ...] = (0,)
    retriever_epochs: int = 4
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_different("seeds")
        for name, lowest in (("seeds", 0), ("retriever_epochs", 1), ("batch_size", 1)):
            self._check_min(name, lowest)

    def of_study(self, study: Study[Any, Any]) -> StudySettings:
        """Returns the settings of one study.

        Args:
            study: of `STUDIES`.
        """
        names = study.settings.__dataclass_fields__
        values: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("world", "seeds", "retriever_epochs", "batch_size")
            if name in names
        }
        if "seed" in names:
            values["seed"] = self.seeds[0]
        if self.world == "tiny":
            values |= _TINY.get(study.name, {})
        settings: StudySettings = study.settings(**values)
        return settings
