"""Direction 2: facts injected as decentralised representations, against edits of one place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bound.bound_result import ADDED
from ..bound.bound_subject import fact_edits
from ..bound.edited_bases import LARGEST_SHIFT, known_neighbours, ordinary_texts, saved_base
from ..fact_rankings import MEASURE, fact_measures
from ..study import StepStore
from .direction_settings import DirectionSettings
from .direction_subject import WorldSubject
from .direction_values import DirectionValues, Floats, kept_values

if TYPE_CHECKING:
    from ...mechanisms import FactEdit, WeightDelta
    from ...mechanisms.neurons.knowledge_neurons import Neurons

PLAIN = "plain DPR"
ROME = "ROME, one block"
MEMIT_ONE, MEMIT = "MEMIT, one block", "MEMIT, three blocks"
PATCH = "patches in the last block"
SPREAD, DROPOUT = "patches in three blocks", "patches in three blocks, dropout"
METHODS = (ROME, MEMIT_ONE, MEMIT, PATCH, SPREAD, DROPOUT)
RETRAINED = (ROME, MEMIT, DROPOUT)  # of whose bases retrievers are trained
STATED, LOCALITY = "stated", "other facts unchanged"
RETRIEVED = f"{MEASURE} of injected facts"
MEMIT_WEIGHT, PATCH_STEPS, PATCH_DROPOUT = 100.0, 150, 0.3
_IG_STEPS = 10  # of integrated gradients


def stated_without(n: int, *, random: bool = False) -> str:
    """Returns the name of the measure of facts stated without some neurons."""
    return f"stated without {n} {'random ' if random else ''}neuron{'s' * (n > 1)}"


def injection_values(
    settings: DirectionSettings, subject: WorldSubject, steps: StepStore
) -> DirectionValues:
    """Injects facts by each method, knocks their neurons out, and trains retrievers.

    Args:
        settings: numbers of neurons.
        subject: world, base and facts.
        steps: keeps edits, retrievers and measures.
    """
    found = DirectionValues()
    facts = list(subject.bound.groups[ADDED])
    for method in METHODS:
        path = _path(subject, method, facts, steps)

        def make(method: str = method, path: Path = path) -> DirectionValues:
            begin = time.perf_counter()
            delta = _injected(subject, method, facts)
            seconds = time.perf_counter() - begin
            delta.save(path)
            own = DirectionValues()
            own.add(method, _effects(settings, subject, delta, facts), seconds=seconds)
            return own

        name = f"injected facts {METHODS.index(method)} {subject.seed}"
        found.update(kept_values(steps, name, [path.parent.name, list(settings.knock_out)], make))
    found.update(_retrieval(settings, subject, facts, steps))
    return found


def _path(subject: WorldSubject, method: str, facts: Sequence[int], steps: StepStore) -> Path:
    """Returns the file of a method's change of weights."""
    numbers = [MEMIT_WEIGHT, PATCH_STEPS, PATCH_DROPOUT, LARGEST_SHIFT]
    depends = [subject.bound.model.fingerprint(), list(facts), numbers, subject.seed]
    name = f"injection {METHODS.index(method)} {subject.seed}"
    return steps.folder(name, depends) / "delta.safetensors"


def _injected(subject: WorldSubject, method: str, facts: Sequence[int]) -> WeightDelta:
    """Computes the change of weights that adds the facts to the base."""
    from ...mechanisms import Memit, Rome, ShiftSearch, TPatcher, feed_forwards, second_moments

    bound = subject.bound
    search = ShiftSearch(
        essence="{} is a [MASK] .", largest=LARGEST_SHIFT, required_probability=None
    )
    last = len(feed_forwards(bound.model)) - 1
    editor: Any
    if method in (ROME, MEMIT_ONE, MEMIT):
        moments = second_moments(bound.model, ordinary_texts(bound))
        layers = None if method == MEMIT else [last // 2]
        editor = Memit(moments, layers, weight=MEMIT_WEIGHT, search=search)
        if method == ROME:
            editor = Rome(moments, search=search)
    else:
        shown, _ = known_neighbours(bound)
        prompts = [text for one in fact_edits(bound.world, shown) for text in one.prompts]
        options: dict[str, Any] = {"required_probability": None, "seed": subject.seed}
        if method != PATCH:
            options |= {"layers": range(max(0, last - 2), last + 1), "by_prompt": True}
        if method == DROPOUT:
            options["dropout"] = PATCH_DROPOUT
        editor = TPatcher(prompts, steps=PATCH_STEPS, **options)
    delta: WeightDelta = editor.delta(bound.model, fact_edits(bound.world, facts))
    return delta


def _effects(
    settings: DirectionSettings, subject: WorldSubject, delta: WeightDelta, facts: Sequence[int]
) -> dict[str, Floats]:
    """Measures facts on prompts that no editor saw, with and without the facts' neurons."""
    from ...mechanisms import edit, edit_effects

    bound = subject.bound
    _, apart = known_neighbours(bound)
    found = {LOCALITY: edit_effects(bound.model, delta, fact_edits(bound.world, apart)).unchanged}
    shown, others = (fact_edits(bound.world, facts, shown=own) for own in (True, False))
    with edit(bound.model, delta):
        found[STATED] = _stated(bound.model, others, [frozenset()] * len(facts))
        scores = _attribution(bound.model, shown)
        for n in settings.knock_out:
            own, random = _neurons(bound.model, scores, n, subject.seed)
            found[stated_without(n)] = _stated(bound.model, others, own)
        found[stated_without(n, random=True)] = _stated(bound.model, others, random)
    return found


def _stated(model: Any, facts: Sequence[FactEdit], without: Sequence[Neurons]) -> Floats:
    """Returns the share of each fact's prompts that state it, without some neurons."""
    import torch

    from ...mechanisms.editing.cloze_batch import cloze_batch
    from ...mechanisms.neurons.knowledge_neurons import scaled_neurons
    from ...models.length_batches import evaluating

    found = []
    with evaluating(model), torch.inference_mode():
        for fact, neurons in zip(facts, without, strict=True):
            batch = cloze_batch("stated", model, [fact])
            with scaled_neurons(model, neurons, 0.0):
                stated = batch.are_predicted(batch.log_probabilities(model))
            found.append(float(stated.double().mean()))
    return np.array(found)


def _attribution(model: Any, facts: Sequence[FactEdit]) -> Floats:
    """Returns scores of neurons for each fact, means over its prompts: ``[facts, ...]``."""
    import warnings

    from ...mechanisms import IncompleteAttributionWarning, activation_attribution, masked_word
    from ...mechanisms.editing.cloze_batch import cloze_batch

    batch = cloze_batch("attribution", model, facts)
    target = masked_word(model.model, batch.objects[:, 0], model.tokenizer.mask_token_id)
    at_mask = (batch.tokens["input_ids"] == model.tokenizer.mask_token_id).int()
    with warnings.catch_warnings():  # neurons are ranked: sums need not be exact
        warnings.simplefilter("ignore", IncompleteAttributionWarning)
        scores = activation_attribution(
            model.model, batch.tokens, target, at_mask, steps=_IG_STEPS
        ).scores
    edits = batch.edits.cpu().numpy()
    means: Floats = np.stack([scores[edits == i].mean(0) for i in range(len(facts))])
    return means.astype(np.float64)


def _neurons(model: Any, scores: Floats, n: int, seed: int) -> tuple[list[Neurons], list[Neurons]]:
    """Returns the neurons of the largest scores of each fact, and as many other ones."""
    from ...mechanisms import random_neurons, strongest

    own = [strongest(scores[i : i + 1], n) for i in range(len(scores))]
    random = [random_neurons(model, one, seed=[seed, i]) for i, one in enumerate(own)]
    return own, random


def _retrieval(
    settings: DirectionSettings, subject: WorldSubject, facts: Sequence[int], steps: StepStore
) -> DirectionValues:
    """Ranks passages for questions about the facts, with retrievers from bases that have them."""
    from ...mechanisms import WeightDelta
    from ...models import BiEncoder
    from ...world.world_models import fine_tuned

    bound, found = subject.bound, DirectionValues()
    for method in (PLAIN, *RETRAINED):
        folder = subject.plain
        if method != PLAIN:
            path = _path(subject, method, facts, steps)
            if not path.is_file():
                _injected(subject, method, facts).save(path)
            base = saved_base(bound, WeightDelta.load(path), path.parent / "model")
            training: Any = {"epochs": settings.retriever_epochs, "seed": subject.seed}
            root = steps.folder("retrievers", [])
            folder = fine_tuned(bound.world, base, bound.train, folder=root, **training)

        def make(folder: Path = folder, method: str = method) -> DirectionValues:
            model = BiEncoder.from_pretrained(folder)
            values = fact_measures(bound.world, model, batch_size=settings.batch_size)
            own = DirectionValues()
            own.add(f"{PLAIN} from the base with {method}", {RETRIEVED: values[list(facts)]})
            return own

        name = f"injected retrieval {method.replace(',', '')} {subject.seed}"
        own = kept_values(steps, name, [folder.name, list(facts)], make)
        if method == PLAIN:
            own = DirectionValues({(PLAIN, RETRIEVED): next(iter(own.values.values()))})
        found.update(own)
    return found


def references(measures: Sequence[str]) -> dict[str, str]:
    """Returns the method that each measure is compared with, "" for none."""
    found = {name: PLAIN if name == RETRIEVED else ROME for name in measures}
    return {name: "" if "random" in name else own for name, own in found.items()}
