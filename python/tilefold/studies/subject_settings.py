"""Settings that name the models and the data of a study of a retriever beside its base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .presets import PRESETS, Preset
from .settings import StudySettings

WorldSize = Literal["tiny", "small", "medium"]
PresetName = Literal["dpr", "contriever", "repllama"]


@dataclass(frozen=True, kw_only=True)
class SubjectSettings(StudySettings):
    """Models and data: of a synthetic world, of a preset, or a retriever, its base and a file.

    Args:
        world: size of a synthetic world, in which the models are trained.
        preset: pair of published checkpoints.
        model: trained retriever, a folder or Hugging Face name; needs base and data.
        document_model: encoder of passages, if the retriever has a second one.
        base: model that the retriever was trained from.
        data: training data with hard negatives, a file or the folder of a collection.
        split: split of a collection given as data (default: train).
        retriever_epochs: epochs of the training of a world's retriever (default: 8).
        seed: seed of all random draws.
        batch_size: texts in a forward pass.

    Raises:
        ValueError: settings that do not go together.
    """

    world: WorldSize | None = None
    preset: PresetName | None = None
    model: str | None = None
    document_model: str | None = None
    base: str | None = None
    data: str | None = None
    split: str | None = None
    retriever_epochs: int | None = None
    seed: int = 0
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_min("batch_size", 1)
        self._check_min("seed", 0)
        self._check_min("retriever_epochs", 1)
        if self.retriever_epochs is not None and self.world is None:
            raise ValueError(
                f"{self._named('retriever_epochs')}: expected None without world, got "
                f"{self.retriever_epochs}"
            )
        if self.preset is not None:
            self._check_preset()
            return
        given = [name for name in ("model", "base", "data") if getattr(self, name) is not None]
        if (self.world is None) == (not given) or (self.world is None and len(given) < 3):
            names = f" and {', '.join(given)}" if given else ""
            raise ValueError(
                f"{type(self).__name__}: expected world; or preset and data; or model, base and "
                f"data; got {f'world{names}' if self.world else names[5:] or 'none of them'}"
            )
        if self.world is not None:
            self._check_unset("world", "split", "document_model")

    @property
    def published(self) -> Preset | None:
        """The published models of `preset`."""
        return None if self.preset is None else PRESETS[self.preset]

    def _check_preset(self) -> None:
        self._check_unset("preset", "world", "model", "base", "document_model")
        if self.data is None:
            raise ValueError(f"{self._named('data')}: expected a path with preset, got None")

    def _check_unset(self, reason: str, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                got = getattr(self, name)
                raise ValueError(f"{self._named(name)}: expected None with {reason}, got {got!r}")
