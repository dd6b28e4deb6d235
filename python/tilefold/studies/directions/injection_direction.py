"""Direction 2: facts injected as decentralised representations, against edits of one place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bound.bound_result import ADDED
from ..bound.bound_subject import N_PROMPTS, fact_edits
from ..bound.edited_bases import LARGEST_SHIFT, known_neighbours, ordinary_texts, saved_base
from ..fact_rankings import MEASURE, fact_measures
from ..study import StepStore
from .direction_settings import DirectionSettings
from .direction_subject import WorldSubject
from .direction_values import DirectionValues, Floats, Key, kept_values

if TYPE_CHECKING:
    from ...mechanisms import FactEdit, WeightDelta
    from ...mechanisms.neurons.knowledge_neurons import Neurons

PLAIN = "plain DPR"
MEMIT_ONE, MEMIT = "MEMIT, one block", "MEMIT, three blocks"
PATCHES, SPREAD = "patches, last block", "patches, three blocks"
DROPOUT = "patches, three blocks, dropout"
METHODS = (MEMIT_ONE, MEMIT, PATCHES, SPREAD, DROPOUT)
RETRAINED = (MEMIT_ONE, MEMIT, DROPOUT)  # of whose bases retrievers are trained
REFERENCES = {MEMIT: MEMIT_ONE, SPREAD: PATCHES, DROPOUT: PATCHES}
STATED, LOCALITY = "stated", "other facts unchanged"
RETRIEVED = f"{MEASURE} of injected facts"
RANDOM = ", random neurons"  # behind a method's name
N_BLOCKS = 3
MEMIT_WEIGHT, PATCH_STEPS, PATCH_DROPOUT = 100.0, 150, 0.3
_IG_STEPS = 10  # of integrated gradients


def survival(n: int) -> str:
    """Returns the name of the share of stated prompts that are stated without n neurons."""
    return f"survives the loss of {n} neuron{'s' * (n > 1)}"


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
    for place, method in enumerate(METHODS):
        path = _path(subject, method, facts, steps)

        def make(method: str = method, path: Path = path) -> DirectionValues:
            begin = time.perf_counter()
            delta = injected(subject, method, facts)
            seconds = time.perf_counter() - begin
            delta.save(path)
            own = _effects(settings, subject, method, delta, facts)
            own.add(method, {}, seconds=seconds, weights=delta.n_weights)
            return own

        depends = [path.parent.name, list(settings.knock_out), _IG_STEPS]
        found.update(kept_values(steps, f"injected facts {place} {subject.seed}", depends, make))
    found.update(_retrieval(settings, subject, facts, steps))
    return found


def _path(subject: WorldSubject, method: str, facts: Sequence[int], steps: StepStore) -> Path:
    """Returns the file of a method's change of weights."""
    numbers = [MEMIT_WEIGHT, PATCH_STEPS, PATCH_DROPOUT, LARGEST_SHIFT, N_BLOCKS, N_PROMPTS]
    depends = [method, subject.bound.model.fingerprint(), list(facts), numbers, subject.seed]
    name = f"injection {METHODS.index(method)} {subject.seed}"
    return steps.folder(name, depends) / "delta.safetensors"


def injected(subject: WorldSubject, method: str, facts: Sequence[int]) -> WeightDelta:
    """Computes the change of weights that adds facts to the base.

    Patches have as many neurons of a fact in one block as in several.

    Args:
        subject: the base.
        method: of `METHODS`.
        facts: their numbers.
    """
    from ...mechanisms import Memit, ShiftSearch, TPatcher, feed_forwards, second_moments

    bound = subject.bound
    edits = fact_edits(bound.world, facts)
    last = len(feed_forwards(bound.model)) - 1
    editor: Any
    if method in (MEMIT_ONE, MEMIT):
        moments = second_moments(bound.model, ordinary_texts(bound))
        middle = last // 2
        layers = range(middle - 1, middle - 1 + N_BLOCKS) if method == MEMIT else [middle]
        search = ShiftSearch(
            essence="{} is a [MASK] .", largest=LARGEST_SHIFT, required_probability=None
        )
        editor = Memit(moments, layers, weight=MEMIT_WEIGHT, search=search)
    else:
        shown, _ = known_neighbours(bound)
        prompts = [text for one in fact_edits(bound.world, shown) for text in one.prompts]
        options: dict[str, Any] = {"required_probability": None, "seed": subject.seed}
        if method == PATCHES:
            options["neurons"] = N_BLOCKS
        else:
            options["layers"] = range(last + 1 - N_BLOCKS, last + 1)
        if method == DROPOUT:
            options["dropout"] = PATCH_DROPOUT
        editor = TPatcher(prompts, steps=PATCH_STEPS, **options)
    delta: WeightDelta = editor.delta(bound.model, edits)
    return delta


def _effects(
    settings: DirectionSettings,
    subject: WorldSubject,
    method: str,
    delta: WeightDelta,
    facts: Sequence[int],
) -> DirectionValues:
    """Measures facts on prompts that no editor saw, with and without the facts' neurons."""
    from ...mechanisms import edit, edit_effects

    bound, found = subject.bound, DirectionValues()
    _, apart = known_neighbours(bound)
    unchanged = edit_effects(bound.model, delta, fact_edits(bound.world, apart)).unchanged
    shown, others = (fact_edits(bound.world, facts, shown=own) for own in (True, False))
    none: list[Neurons] = [frozenset()] * len(facts)
    with edit(bound.model, delta):
        stated = _stated(bound.model, others, none)
        found.add(method, {STATED: stated.mean(1), LOCALITY: unchanged})
        scores = _attribution(bound.model, shown)
        for n in settings.knock_out:
            for name, neurons in zip(
                (method, f"{method}{RANDOM}"),
                _neurons(bound.model, scores, n, subject.seed),
                strict=True,
            ):
                still = stated & _stated(bound.model, others, neurons)
                counts = stated.sum(1)
                share = np.full(len(facts), np.nan)
                np.divide(still.sum(1), counts, out=share, where=counts > 0)
                found.add(name, {survival(n): share})
    return found


def _stated(model: Any, facts: Sequence[FactEdit], without: Sequence[Neurons]) -> Any:
    """Returns whether each prompt states its fact without some neurons, ``[facts, prompts]``."""
    import torch

    from ...mechanisms.editing.cloze_batch import cloze_batch
    from ...mechanisms.neurons.knowledge_neurons import scaled_neurons
    from ...models.length_batches import evaluating

    found = []
    with evaluating(model), torch.inference_mode():
        for fact, neurons in zip(facts, without, strict=True):
            batch = cloze_batch("stated", model, [fact])
            with scaled_neurons(model, neurons, 0.0):
                found.append(batch.are_predicted(batch.log_probabilities(model)).cpu().numpy())
    return np.stack(found)


def _attribution(model: Any, facts: Sequence[FactEdit]) -> Floats:
    """Returns scores of neurons at all tokens for each fact, means over prompts ``[facts, ...]``.

    MEMIT changes what is computed at the subject, patches at the mask.
    """
    from ...mechanisms import activation_attribution, masked_word
    from ...mechanisms.editing.cloze_batch import cloze_batch

    batch = cloze_batch("attribution", model, facts)
    target = masked_word(model.model, batch.objects[:, 0], model.tokenizer.mask_token_id)
    everywhere = batch.tokens["attention_mask"]
    scores = activation_attribution(
        model.model, batch.tokens, target, everywhere, steps=_IG_STEPS
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
    from ...world.world_retrievers import fine_tuned

    bound, found = subject.bound, DirectionValues()
    for place, method in enumerate((PLAIN, *RETRAINED)):
        folder, name = subject.plain, PLAIN
        if method != PLAIN:
            path = _path(subject, method, facts, steps)
            if not path.is_file():
                injected(subject, method, facts).save(path)
            base = saved_base(bound, WeightDelta.load(path), path.parent / "model")
            training: Any = {"epochs": settings.retriever_epochs, "seed": subject.seed}
            root = steps.folder("retrievers", [])
            folder = fine_tuned(bound.world, base, bound.train, folder=root, **training)
            name = f"DPR from the base with {method}"

        def make(folder: Path = folder, name: str = name) -> DirectionValues:
            model = BiEncoder.from_pretrained(folder)
            values = fact_measures(bound.world, model, batch_size=settings.batch_size)
            own = DirectionValues()
            own.add(name, {RETRIEVED: values[list(facts)]})
            return own

        depends = [folder.name, list(facts), settings.batch_size]
        found.update(
            kept_values(steps, f"injected retrieval {place} {subject.seed}", depends, make)
        )
    return found


def references(keys: Sequence[Key]) -> dict[Key, str]:
    """Returns the method that each method is compared with."""
    found = {}
    for method, measure in keys:
        if measure == RETRIEVED and method != PLAIN:
            found[method, measure] = PLAIN
        elif method.endswith(RANDOM):
            found[method, measure] = method.removesuffix(RANDOM)
        elif method in REFERENCES:
            found[method, measure] = REFERENCES[method]
    return found
