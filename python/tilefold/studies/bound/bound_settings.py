"""Settings of the study of the knowledge bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..settings import StudySettings
from ..subject_settings import WorldSize

BoundEditor = Literal["memit", "rome", "patches"]


@dataclass(frozen=True, kw_only=True)
class BoundSettings(StudySettings):
    """Settings of `run_bound`.

    Args:
        world: size of the synthetic world.
        seeds: each has a world, a base and retrievers of its own.
        editor: which adds facts to the base and removes them.
        n_facts: number of facts that are added, and of those that are removed.
        train_edited: questions about the edited facts are in the training of retrievers, too;
            by default these are held out.
        retriever_epochs: epochs of the training of each retriever.
        memit_weight: weight of the keys that MEMIT is to keep.
        batch_size: texts in a forward pass.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.
    """

    world: WorldSize = "small"
    seeds: tuple[int, ...] = (0, 1, 2)
    editor: BoundEditor = "memit"
    n_facts: int = 60
    train_edited: bool = False
    retriever_epochs: int = 4
    memit_weight: float = 100.0
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_different("seeds")
        for name in ("retriever_epochs", "batch_size"):
            self._check_min(name, 1)
        self._check_min("n_facts", 2)
        self._check_min("seeds", 0)
        self._check_range("memit_weight", 0, above=True)
        if self.editor != "memit":
            self._check_default("has no effect without memit", "memit_weight")
