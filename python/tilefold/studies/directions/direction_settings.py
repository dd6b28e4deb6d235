"""Settings of the study of directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..settings import StudySettings
from ..subject_settings import WorldSize

DirectionName = Literal["exposure", "injection", "uncertainty", "maps"]
DIRECTION_NAMES: tuple[DirectionName, ...] = ("exposure", "injection", "uncertainty", "maps")
OF_COLLECTIONS: tuple[DirectionName, ...] = ("uncertainty", "maps")


@dataclass(frozen=True, kw_only=True)
class DirectionSettings(StudySettings):
    """Settings of `run_directions`.

    Args:
        world: size of a synthetic world, in which bases and retrievers are trained.
        model: retriever, a folder or Hugging Face name, in place of a world; needs data. The
            directions that train retrievers are left out.
        data: collection with judged queries of two splits, a folder in BEIR's layout.
        train_split: split whose queries maps are fitted to.
        fit_split: split for estimators, calibration and choices, on which the retriever was not
            trained (default: a third of the queries of train_split).
        test_split: split whose queries are evaluated.
        seeds: each has a world, a base and retrievers of its own; of a collection, they are seeds
            of draws, and values of a query are averaged over them.
        directions: which ones (default: all that apply).
        n_facts: number of facts that are injected.
        knock_out: numbers of neurons that are knocked out of injected facts.
        members: retrievers of an ensemble, the plain one included.
        passes: forward passes of Monte Carlo dropout.
        dropout: its rate (default: the model's own rates, and 0.1 in a world, whose models are
            trained without).
        alpha: share of questions whose conformal set may have no relevant passage.
        retriever_epochs: epochs of the training of each retriever.
        batch_size: texts in a forward pass.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.
    """

    world: WorldSize | None = None
    model: str | None = None
    data: str | None = None
    train_split: str = "train"
    fit_split: str | None = None
    test_split: str = "test"
    seeds: tuple[int, ...] = (0, 1, 2)
    directions: tuple[DirectionName, ...] = ()
    n_facts: int = 60
    knock_out: tuple[int, ...] = (1, 4, 16)
    members: int = 3
    passes: int = 8
    dropout: float | None = None
    alpha: float = 0.1
    retriever_epochs: int = 4
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_subject()
        self._check_different("seeds", "knock_out")
        if self.directions:
            self._check_different("directions")
        self._replace("knock_out", tuple(sorted(self.knock_out)))
        self._check_min("seeds", 0)
        for name in ("n_facts", "members", "passes"):
            self._check_min(name, 2)
        for name in ("retriever_epochs", "batch_size", "knock_out"):
            self._check_min(name, 1)
        for name in ("alpha", "dropout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{self._named(name)}: expected above 0 and below 1, got {value}")
        if "injection" not in self.chosen:
            self._check_default("has no effect without injection", "n_facts", "knock_out")
        if "uncertainty" not in self.chosen:
            reason = "has no effect without uncertainty"
            self._check_default(reason, "members", "passes", "dropout", "alpha")

    @property
    def chosen(self) -> tuple[DirectionName, ...]:
        """The directions, or all that apply to a world or to a collection."""
        return self.directions or (DIRECTION_NAMES if self.world else OF_COLLECTIONS)

    def _check_subject(self) -> None:
        given = [name for name in ("model", "data") if getattr(self, name) is not None]
        if (self.world is None) == (not given) or (self.world is None and len(given) < 2):
            names = ", ".join([*(["world"] if self.world else []), *given]) or "none of them"
            raise ValueError(
                f"{type(self).__name__}: expected world, or model and data; got {names}"
            )
        if self.world is not None:
            reason = "has no effect with world"
            self._check_default(reason, "train_split", "fit_split", "test_split")
            return
        trained = [name for name in self.directions if name not in OF_COLLECTIONS]
        if trained:
            raise ValueError(
                f"{self._named('directions')}: {trained[0]} needs a world, whose facts are known"
            )
        self._check_default("has no effect without world", "members", "retriever_epochs")
