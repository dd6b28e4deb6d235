"""The editors that the study compares, with settings for a subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..study import Reporter, StepStore
from .edit_settings import EditorName, EditSettings
from .edit_subject import EditSubject

if TYPE_CHECKING:
    from ...mechanisms import SecondMoments, ShiftSearch
    from ...mechanisms.editing.editor import Editor

LARGEST_SHIFT = 4.0  # of the norm of a layer's output; also for MEMIT, where small models need it
PATCH_STEPS = 100
NETWORK_RATES = {"mend": 1e-3, "malmen": 1e-2}
NETWORK_RANK = 256


@dataclass(frozen=True)
class StudyEditors:
    """Makes editors; second moments and networks are computed once.

    Args:
        subject: model and facts.
        settings: of the study.
        seed: of the networks.
        steps: keeps moments and networks.
        progress: receives reports.
    """

    subject: EditSubject
    settings: EditSettings
    seed: int
    steps: StepStore
    progress: Reporter
    _moments: list[SecondMoments] = field(default_factory=list, init=False)

    def editor(self, name: EditorName) -> Editor:
        """Returns an editor."""
        made: dict[str, Callable[[], Any]] = {
            "surgery": self._surgery,
            "rome": self._rome,
            "memit": self._memit,
            "patches": self._patches,
            "mend": lambda: self._network("mend"),
            "malmen": lambda: self._network("malmen"),
        }
        editor: Editor = made[name]()
        return editor

    def prepare(self, name: EditorName) -> None:
        """Computes what several editors share, which is no cost of any one."""
        if name in ("rome", "memit"):
            self._second_moments()

    def _surgery(self) -> Any:
        from ...mechanisms import NeuronSurgery

        return NeuronSurgery(leave_out=True)

    def _rome(self) -> Any:
        from ...mechanisms import Rome

        return Rome(self._second_moments(), search=_search())

    def _memit(self) -> Any:
        from ...mechanisms import Memit

        layers = self.settings.memit_layers or None
        weight = self.settings.memit_weight
        return Memit(self._second_moments(), layers, weight=weight, search=_search())

    def _patches(self) -> Any:
        from ...mechanisms import TPatcher

        mask = self.subject.model.tokenizer.mask_token
        prompts = [
            prompt.replace("[MASK]", mask)
            for fact in self.subject.protected
            for prompt in fact.prompts
        ]
        return TPatcher(prompts, steps=PATCH_STEPS, required_probability=None, seed=self.seed)

    def _network(self, name: str) -> Any:
        import torch

        from ...mechanisms import Malmen, Mend

        settings, subject = self.settings, self.subject
        training = [
            [one.subject, list(one.prompts), one.object, one.remove] for one in subject.training
        ]
        near = [[one.subject, list(one.prompts), one.object] for one in subject.neighbours]
        numbers = [settings.network_steps, settings.network_edits, settings.n_prompts]
        depends = [subject.model.fingerprint(), training, near, numbers, self.seed]
        path: Path = self.steps.folder(f"network of {name}", depends) / "network.safetensors"
        kind: Any = {"mend": Mend, "malmen": Malmen}[name]
        if path.is_file():
            return kind.load(path, subject.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            editor = kind(subject.model, rank=NETWORK_RANK, rate=NETWORK_RATES[name])
        editor.fit(
            subject.model,
            subject.training,
            subject.protected,
            shown=settings.n_prompts,
            n_edits=settings.network_edits,
            steps=settings.network_steps,
            seed=self.seed,
            progress=f"train {name}" if self.progress.bars else False,
        )
        editor.save(path)
        return editor

    def _second_moments(self) -> SecondMoments:
        from ...mechanisms import second_moments

        if not self._moments:
            found = second_moments(
                self.subject.model,
                self.subject.texts,
                folder=self.steps.folder("second moments", []),
                batch_size=self.settings.batch_size,
                progress="second moments" if self.progress.bars else False,
            )
            self._moments.append(found)
        return self._moments[0]


def _search() -> ShiftSearch:
    from ...mechanisms import ShiftSearch

    return ShiftSearch(essence="{} is a [MASK] .", largest=LARGEST_SHIFT, required_probability=None)
