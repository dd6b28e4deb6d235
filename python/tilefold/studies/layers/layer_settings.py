"""Settings of the study of layers."""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import StudySettings
from ..subject_settings import WorldSize


@dataclass(frozen=True, kw_only=True)
class LayerSettings(StudySettings):
    """Settings of `run_layers`.

    Args:
        world: size of the synthetic world.
        seeds: each has a world, a base and retrievers of its own.
        all_but_one: also train all layers but one.
        retriever_epochs: epochs of the training of each retriever.
        batch_size: texts in a forward pass.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take.
    """

    world: WorldSize = "small"
    seeds: tuple[int, ...] = (0, 1, 2)
    all_but_one: bool = False
    retriever_epochs: int = 4
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_different("seeds")
        for name, lowest in (("retriever_epochs", 1), ("batch_size", 1), ("seeds", 0)):
            self._check_min(name, lowest)
