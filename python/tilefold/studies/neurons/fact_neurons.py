"""Knowledge neurons of a world's facts, and the words in the gaps of prompts without them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...files.steps import digest_of
from ..study import Reporter, StepStore
from ..subject import BASE, Subject
from .neuron_result import FactEffect, FactNeurons, KnowledgeNeurons
from .neuron_settings import NeuronSettings

# Shares of a prompt's largest value above which a neuron is chosen: those of Dai et al.
COARSE_SHARES = {"attribution": 0.2, "activation": 0.5}
RELATION_SHARE = 0.1  # of a relation's facts, as Dai et al. have it; here two facts or more
_INTERVENTIONS = {"knocked out": 0.0, "amplified": 2.0}


def study_facts(
    settings: NeuronSettings, subject: Subject, steps: StepStore, progress: Reporter
) -> FactNeurons:
    """Finds knowledge neurons of facts that the base was trained on, and scales them.

    Only the base has a masked language model's head: the retriever lost it in training. As a
    baseline, the neurons of the largest activation at the gap are chosen as well (Dai et al.,
    2022, section 4.2).

    Args:
        settings: number of facts, steps of integrated gradients, seed.
        subject: of a world.
        steps: keeps attributions and effects.
        progress: receives reports.
    """
    from ...mechanisms import coarse_neurons, refined_neurons

    world = subject.world
    assert world is not None
    rng = np.random.default_rng([settings.seed, 10])
    known = [n for n, f in enumerate(world.facts) if f.exposed]
    facts = sorted(known[i] for i in rng.permutation(len(known))[: settings.n_facts])
    depends = dependencies(settings, subject, facts)
    make_scores = partial(_attribute, settings.steps, subject, facts, progress)
    scores = steps.once("facts read", depends, make_scores)
    chosen = {
        by: refined_neurons([coarse_neurons(prompts, threshold=share) for prompts in scores[by]])
        for by, share in COARSE_SHARES.items()
    }
    effects: list[FactEffect] = []
    for by, refined in chosen.items():
        follows = [*depends, [sorted(own) for own in refined.neurons], settings.seed]
        make = partial(_effects, subject, facts, refined.neurons, settings.seed, progress)
        effects += _summaries(by, steps.once(f"facts without {by}", follows, make))
    described = (
        _describe(by, refined.share, refined.neurons, facts, world, scores[by].shape[2])
        for by, refined in chosen.items()
    )
    return FactNeurons(len(facts), tuple(described), tuple(effects))


def dependencies(settings: NeuronSettings, subject: Subject, facts: Sequence[int]) -> list[Any]:
    """Returns everything that attributions of facts depend on, as JSON can hold it.

    Args:
        settings: number of steps of integrated gradients.
        subject: of a world; the name of its masked language model has a digest of the training.
        facts: numbers of the facts.
    """
    assert subject.world is not None
    assert subject.masked_lm is not None
    world = subject.world
    prompts = [[*world.clozes(n), world.facts[n].object] for n in facts]
    model = [subject.masked_lm.name, *subject.fingerprints(BASE)]
    return [model, digest_of(prompts), settings.steps]


def _describe(
    by: str,
    share: float,
    neurons: Sequence[Collection[Any]],
    facts: Sequence[int],
    world: Any,
    layers: int,
) -> KnowledgeNeurons:
    same, others = _shared(facts, neurons, world)
    return KnowledgeNeurons(
        by,
        float(share),
        tuple(len(own) for own in neurons),
        _by_layer(neurons, layers),
        same,
        others,
        _relation_neurons(facts, neurons, world),
    )


def _attribute(
    n_steps: int, subject: Subject, facts: Sequence[int], progress: Reporter
) -> dict[str, Any]:
    """Returns attribution scores and activations at the gap, of every prompt of every fact."""
    import torch

    from ...mechanisms import activation_attribution, masked_word, neuron_activations

    model, tokenizer = _load_masked_lm(subject)
    found: dict[str, list[Any]] = {by: [] for by in COARSE_SHARES}
    for n in progress.track(facts, "facts"):
        tokens, answers = _prompts(subject, tokenizer, n)
        target = masked_word(model, answers, tokenizer.mask_token_id)
        gap = (tokens["input_ids"] == tokenizer.mask_token_id).to(torch.int64)
        scores = activation_attribution(model, tokens, target, gap, steps=n_steps).scores
        found["attribution"].append(scores)
        found["activation"].append(neuron_activations(model, tokens, gap))
    return {by: np.stack(arrays) for by, arrays in found.items()}


def _effects(
    subject: Subject, facts: Sequence[int], neurons: Any, seed: int, progress: Reporter
) -> dict[str, Any]:
    """Returns probabilities of the correct words of each fact: own prompts and another fact's."""
    from ...mechanisms import cloze_effect
    from ...mechanisms.neurons.knowledge_neurons import leave_others

    model, tokenizer = _load_masked_lm(subject)
    rows: dict[str, list[Any]] = {}
    width = model.config.intermediate_size
    for place, n in enumerate(progress.track(facts, "knock-outs of facts")):
        if not neurons[place] or not leave_others(neurons[place], width):
            continue  # nothing to scale, or no others to compare with
        others = [number for number in facts if number != n]
        other = others[np.random.default_rng([seed, 11, n]).integers(len(others))]
        for verb, factor in _INTERVENTIONS.items():
            for kind, number in (("own", n), ("other fact", other)):
                tokens, answers = _prompts(subject, tokenizer, number)
                effect = cloze_effect(
                    model,
                    tokens,
                    answers,
                    neurons[place],
                    factor,
                    mask_token=tokenizer.mask_token_id,
                    seed=[seed, 12, n],
                )
                for name, probabilities in effect._asdict().items():
                    rows.setdefault(f"{kind} {verb} {name}", []).append(probabilities.mean())
    return {key: np.array(values) for key, values in rows.items()}


def _load_masked_lm(subject: Subject) -> tuple[Any, Any]:
    from ...models import MaskedLM

    assert subject.masked_lm is not None
    loaded = MaskedLM.from_pretrained(subject.masked_lm)
    return loaded.model, loaded.tokenizer


def _prompts(subject: Subject, tokenizer: Any, fact: int) -> tuple[dict[str, Any], Any]:
    import torch

    assert subject.world is not None
    prompts = subject.world.clozes(fact)
    tokens = dict(tokenizer(prompts, padding=True, return_tensors="pt"))
    word = tokenizer.convert_tokens_to_ids(subject.world.facts[fact].object.lower())
    return tokens, torch.full((len(prompts),), word)


def _by_layer(neurons: Any, layers: int) -> tuple[int, ...]:
    counts = [0] * layers
    for own in neurons:
        for layer, _ in own:
            counts[layer] += 1
    return tuple(counts)


def _shared(facts: Sequence[int], neurons: Any, world: Any) -> tuple[float, float]:
    """Returns how many neurons two facts share on average, of one relation and of two."""
    same: list[int] = []
    others: list[int] = []
    for i in range(len(facts)):
        for j in range(i):
            shared = len(neurons[i] & neurons[j])
            alike = world.facts[facts[i]].relation == world.facts[facts[j]].relation
            (same if alike else others).append(shared)
    same_mean, other_mean = (
        float(np.mean(counts)) if counts else float("nan") for counts in (same, others)
    )
    return same_mean, other_mean


def _relation_neurons(facts: Sequence[int], neurons: Any, world: Any) -> dict[str, int]:
    """Counts neurons that facts of a relation share, for relations with two facts or more."""
    from ...mechanisms import relation_neurons

    own: dict[str, list[Any]] = {}
    for n, fact_neurons in zip(facts, neurons, strict=True):
        own.setdefault(world.facts[n].relation, []).append(fact_neurons)
    return {
        name: len(relation_neurons(sets, share=max(RELATION_SHARE, 2 / len(sets))))
        for name, sets in own.items()
        if len(sets) > 1
    }


def _summaries(by: str, effects: dict[str, Any]) -> list[FactEffect]:
    from ...evaluate import bootstrap

    found = []
    for prompts in ("own", "other fact"):
        for intervention in _INTERVENTIONS:
            key = f"{prompts} {intervention}"
            if f"{key} before" not in effects:
                continue
            before, after, random = (
                effects[f"{key} {name}"] for name in ("before", "after", "random")
            )
            intervals = bootstrap(before), bootstrap(after - before), bootstrap(random - before)
            found.append(FactEffect(by, prompts, intervention, len(before), *intervals))
    return found
