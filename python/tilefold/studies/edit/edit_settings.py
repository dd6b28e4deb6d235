"""Settings of the study of edits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..settings import StudySettings
from ..subject_settings import WorldSize

EditorName = Literal["surgery", "rome", "memit", "patches", "mend", "malmen"]
EDITORS: tuple[EditorName, ...] = ("surgery", "rome", "memit", "patches", "mend", "malmen")


@dataclass(frozen=True, kw_only=True)
class EditSettings(StudySettings):
    """Settings of `run_edits`.

    Args:
        world: size of a synthetic world, whose masked language model is trained, one for each seed.
        model: masked language model to edit, a folder or Hugging Face name; needs facts_from and
            texts.
        facts_from: facts with prompts, a file or folder of `read_facts`.
        texts: ordinary texts, a file or the folder of a collection.
        seeds: of the draws of facts, and of the worlds.
        editors: which ones are compared.
        n_facts: number of facts that are added, and of those that are removed.
        n_prompts: number of prompts of a fact that an editor sees; the others are paraphrases.
        n_neighbours: number of facts that no edit is to change.
        n_texts: maximum number of ordinary texts.
        memit_layers: blocks that MEMIT changes (default: three up to the middle).
        memit_weight: weight of the keys that MEMIT is to keep.
        network_steps: steps of training of the networks of MEND and MALMEN.
        network_edits: number of edits that a step of this training makes together.
        batch_size: texts in a forward pass for second moments.

    Raises:
        TypeError: a field has a value of another type.
        ValueError: a field has a value that it does not take, or fields do not go together.
    """

    world: WorldSize | None = None
    model: str | None = None
    facts_from: str | None = None
    texts: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    editors: tuple[EditorName, ...] = EDITORS
    n_facts: int = 20
    n_prompts: int = 3
    n_neighbours: int = 200
    n_texts: int = 20_000
    memit_layers: tuple[int, ...] = ()
    memit_weight: float = 100.0
    network_steps: int = 300
    network_edits: int = 10
    batch_size: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        own = {"model": self.model, "facts_from": self.facts_from, "texts": self.texts}
        given = [name for name, value in own.items() if value is not None]
        if (self.world is None) == (not given) or (self.world is None and len(given) < 3):
            names = ", ".join([*(["world"] if self.world else []), *given]) or "none of them"
            raise ValueError(
                f"{type(self).__name__}: expected world, or model, facts_from and texts; got "
                f"{names}"
            )
        self._check_different("seeds", "editors")
        lowest = {"n_facts": 2, "n_neighbours": 2}
        for name in ("n_prompts", "n_texts", "network_steps", "network_edits", "batch_size"):
            lowest[name] = 1
        for name, least in lowest.items():
            self._check_min(name, least)
        self._check_min("seeds", 0)
        self._check_min("memit_layers", 0)
        self._check_range("memit_weight", 0, above=True)
        if not {"mend", "malmen"} & {*self.editors}:
            reason = "has no effect without mend and malmen"
            self._check_default(reason, "network_steps", "network_edits")
        if not {"rome", "memit"} & {*self.editors}:
            self._check_default("has no effect without rome and memit", "n_texts", "batch_size")
        if "memit" not in self.editors:
            self._check_default("has no effect without memit", "memit_layers", "memit_weight")
