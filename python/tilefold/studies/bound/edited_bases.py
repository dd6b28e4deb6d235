"""Bases with facts added, with facts removed, and with random changes of the same size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...files.published_folder import written_aside
from ..study import StepStore
from .bound_result import ADDED, REMOVED
from .bound_settings import BoundSettings
from .bound_subject import N_PROMPTS, BoundSubject, fact_edits

if TYPE_CHECKING:
    from ...mechanisms import WeightDelta

LARGEST_SHIFT = 4.0  # of the norm of a layer's output
PATCH_STEPS = 100
_MARKER = "config.json"


def knowledge_deltas(
    settings: BoundSettings, subject: BoundSubject, seed: int, steps: StepStore
) -> dict[str, WeightDelta]:
    """Returns the changes of weights that add facts, and that remove facts.

    Args:
        settings: the editor.
        subject: facts and base.
        seed: of the world.
        steps: keeps them.
    """
    from ...mechanisms import WeightDelta

    found = {}
    for group, remove in ((ADDED, False), (REMOVED, True)):
        facts = list(subject.groups[group])
        editor: list[Any] = [settings.editor, settings.memit_weight, settings.train_edited]
        editor += [LARGEST_SHIFT, PATCH_STEPS, N_PROMPTS]
        depends = [subject.model.fingerprint(), facts, *editor, seed]
        path = steps.folder(f"edit {group} {seed}", depends) / "delta.safetensors"
        if not path.is_file():
            edits = fact_edits(subject.world, facts, remove=remove)
            _editor(settings, subject, seed).delta(subject.model, edits).save(path)
        found[group] = WeightDelta.load(path)
    return found


def random_delta(delta: WeightDelta, seed: Sequence[int]) -> WeightDelta:
    """Returns a random change of the same layers, with the same norm and rank in each.

    Args:
        delta: to replace; with new neurons, keys and values become random of the same norms.
        seed: of the draw.
    """
    import torch

    from ...mechanisms import WeightDelta
    from ...mechanisms.editing.weight_delta import Factors, NewNeurons

    state = np.random.SeedSequence(list(seed)).generate_state(1)
    generator = torch.Generator().manual_seed(int(state[0]))

    def drawn(x: Any) -> Any:
        return torch.randn(x.shape, generator=generator)

    factors = {}
    for place, (left, right) in delta.factors.items():
        one, other = drawn(left), drawn(right)
        norm = torch.linalg.matrix_norm(left.double() @ right.double())
        own = torch.linalg.matrix_norm(one.double() @ other.double())
        factors[place] = Factors(one * float(norm / own), other)
    neurons = {}
    for layer, new in delta.neurons.items():
        keys, values = (
            x * (like.norm(dim=1) / x.norm(dim=1))[:, None]
            for x, like in ((drawn(new.keys), new.keys), (drawn(new.values), new.values))
        )
        neurons[layer] = NewNeurons(keys, new.biases, values)
    return WeightDelta(delta.model, factors, neurons)


def saved_base(subject: BoundSubject, delta: WeightDelta, folder: Path) -> Path:
    """Returns the folder of an edited base, written unless it is there.

    Args:
        subject: the base.
        delta: applied to it.
        folder: to write.
    """
    from ...mechanisms import edit

    if not (folder / _MARKER).is_file():
        with edit(subject.model, delta), written_aside(folder, _MARKER) as partial:
            subject.model.write_weights(partial)
    return folder


def outcomes(subject: BoundSubject, deltas: Mapping[str, WeightDelta]) -> dict[str, dict[str, Any]]:
    """Measures what edits did to the base, on prompts that the editor did not see.

    Args:
        subject: facts and base.
        deltas: of `knowledge_deltas`.

    Returns:
        float64 ``[facts]`` of each measure, by group.
    """
    from ...mechanisms import edit_effects

    _, apart = known_neighbours(subject)
    near = fact_edits(subject.world, apart)
    found = {}
    for group, delta in deltas.items():
        facts = subject.groups[group]
        remove = group == REMOVED
        edits = fact_edits(subject.world, facts, remove=remove, shown=False)
        own = edit_effects(subject.model, delta, edits)
        others = edit_effects(subject.model, delta, near)
        found[group] = {
            "success": own.success,
            "before": own.before,
            "after": own.after,
            "unchanged": others.unchanged,
        }
    return found


def ordinary_texts(subject: BoundSubject) -> list[str]:
    """Returns texts for second moments: all passages, and statements of known facts.

    Args:
        subject: the world.
    """
    from ...world.retrieval_data import documents

    shown, _ = known_neighbours(subject)
    return documents(subject.world) + [text for n in shown for text in subject.world.statements(n)]


def known_neighbours(subject: BoundSubject) -> tuple[list[int], list[int]]:
    """Returns known facts of the training that are not edited: to show editors, and to measure.

    Args:
        subject: the world and its groups of facts.
    """
    facts, removed = subject.world.facts, set(subject.groups[REMOVED])
    known = set(np.flatnonzero(subject.ranks == 1).tolist()) - removed
    found = sorted(n for n in known.intersection(subject.train) if facts[n].exposed)
    return found[::2], found[1::2]


def _editor(settings: BoundSettings, subject: BoundSubject, seed: int) -> Any:
    from ...mechanisms import Memit, Rome, ShiftSearch, TPatcher, second_moments

    world, model = subject.world, subject.model
    search = ShiftSearch(
        essence="{} is a [MASK] .", largest=LARGEST_SHIFT, required_probability=None
    )
    if settings.editor == "patches":
        shown, _ = known_neighbours(subject)
        prompts = [prompt for n in shown for prompt in world.clozes(n)[:N_PROMPTS]]
        return TPatcher(prompts, steps=PATCH_STEPS, required_probability=None, seed=seed)
    moments = second_moments(model, ordinary_texts(subject), batch_size=settings.batch_size)
    if settings.editor == "rome":
        return Rome(moments, search=search)
    return Memit(moments, weight=settings.memit_weight, search=search)
