"""Knowledge neurons of a world's facts, and the words that fill their gaps without them."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np

from ...cli.terminal import count, heading, note, table
from ...files.steps import Steps
from ..subject import BASE, Subject

_CHOSEN_BY = {"attribution": 0.2, "activation": 0.5}  # share of a prompt's largest: Dai et al.'s
_INTERVENTIONS = {"knocked out": 0.0, "amplified": 2.0}
_FACTS = 60
_RELATION_SHARE = 0.1  # of its facts, Dai et al.'s; here of two at least


def of_facts(args: argparse.Namespace, subject: Subject, steps: Steps) -> dict[str, Any]:
    """Knowledge neurons of facts that the base was told, and their words without them.

    The base alone has a head that fills gaps; the retriever lost it in training. As a baseline, the
    neurons that are most active at the gap are taken, too (Dai et al., 2022, section 4.2).
    """
    from ...mechanisms import coarse_neurons, refined_neurons

    world = subject.world
    assert world is not None
    rng = np.random.default_rng([args.seed, 10])
    known = [n for n, f in enumerate(world.facts) if f.exposed]
    facts = sorted(known[i] for i in rng.permutation(len(known))[: settings(args)["facts"]])
    depends = [subject.weights(BASE), world.size, world.seed, facts, args.steps]
    read = steps.once("facts read", depends, lambda: _read(args, subject, facts))
    chosen = {
        by: refined_neurons([coarse_neurons(prompts, threshold=share) for prompts in read[by]])
        for by, share in _CHOSEN_BY.items()
    }
    effects = {}
    for by, refined in chosen.items():
        asked = [*depends, [sorted(own) for own in refined.neurons], args.seed]
        make = partial(_effects, subject, facts, refined.neurons, args.seed)
        effects[by] = steps.once(f"facts without {by}", asked, make)
    result = {
        "facts": len(facts),
        "chosen": [
            {
                "by": by,
                "share": refined.share,
                "neurons": [len(neurons) for neurons in refined.neurons],
                "by_layer": _by_layer(refined.neurons, read[by].shape[2]),
                "shared": _shared(facts, refined.neurons, world),
                "of_relations": _of_relations(facts, refined.neurons, world),
            }
            for by, refined in chosen.items()
        ],
        "effects": [row for by, found in effects.items() for row in _summaries(by, found)],
    }
    _show_facts(result)
    return result


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, or is taken."""
    shares = {f"coarse_by_{by}": share for by, share in _CHOSEN_BY.items()}
    return {"facts": args.facts or _FACTS, **shares, "of_relation": _RELATION_SHARE}


def _read(args: argparse.Namespace, subject: Subject, facts: list[int]) -> dict[str, Any]:
    """Of every prompt of every fact, what its word is owed to, and what is active at the gap."""
    import torch
    from tqdm.auto import tqdm

    from ...mechanisms import activation_attribution, masked_word, neuron_activations

    model, tokenizer = _filler(subject)
    found: dict[str, list[Any]] = {by: [] for by in _CHOSEN_BY}
    for n in tqdm(facts, desc="facts", disable=None, leave=False):
        tokens, answers = _prompts(subject, tokenizer, n)
        right = masked_word(model, answers, tokenizer.mask_token_id)
        gap = (tokens["input_ids"] == tokenizer.mask_token_id).to(torch.int64)
        owed = activation_attribution(model, tokens, right, gap, steps=args.steps)
        found["attribution"].append(owed)
        found["activation"].append(neuron_activations(model, tokens, gap))
    return {by: np.stack(arrays) for by, arrays in found.items()}


def _effects(subject: Subject, facts: list[int], neurons: Any, seed: int) -> dict[str, Any]:
    """Probabilities of the right words, by prompt: as they are, scaled, and of another fact."""
    from ...mechanisms import cloze_effect
    from ...mechanisms.neurons.knowledge_neurons import leave_others

    model, tokenizer = _filler(subject)
    rows: dict[str, list[Any]] = {}
    wide = model.config.intermediate_size
    for place, n in enumerate(facts):
        if not neurons[place] or not leave_others(neurons[place], wide):
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


def _filler(subject: Subject) -> tuple[Any, Any]:
    from ...models import MaskedLM

    assert subject.told is not None
    loaded = MaskedLM.from_pretrained(subject.told)
    return loaded.model, loaded.tokenizer


def _prompts(subject: Subject, tokenizer: Any, fact: int) -> tuple[dict[str, Any], Any]:
    import torch

    assert subject.world is not None
    prompts = subject.world.clozes(fact)
    tokens = dict(tokenizer(prompts, padding=True, return_tensors="pt"))
    word = tokenizer.convert_tokens_to_ids(subject.world.facts[fact].object.lower())
    return tokens, torch.full((len(prompts),), word)


def _by_layer(neurons: Any, layers: int) -> list[int]:
    counts = [0] * layers
    for own in neurons:
        for layer, _ in own:
            counts[layer] += 1
    return counts


def _shared(facts: list[int], neurons: Any, world: Any) -> dict[str, float]:
    """How many neurons two facts share on average, of one relation and of two."""
    same: list[int] = []
    others: list[int] = []
    for i in range(len(facts)):
        for j in range(i):
            shared = len(neurons[i] & neurons[j])
            alike = world.facts[facts[i]].relation == world.facts[facts[j]].relation
            (same if alike else others).append(shared)
    return {
        "same relation": float(np.mean(same)) if same else float("nan"),
        "other relation": float(np.mean(others)) if others else float("nan"),
    }


def _of_relations(facts: list[int], neurons: Any, world: Any) -> dict[str, int]:
    """How many neurons facts of a relation have in common, of relations with two facts or more."""
    from ...mechanisms import relation_neurons

    own: dict[str, list[Any]] = {}
    for n, of_fact in zip(facts, neurons, strict=True):
        own.setdefault(world.facts[n].relation, []).append(of_fact)
    return {
        name: len(relation_neurons(sets, share=max(_RELATION_SHARE, 2 / len(sets))))
        for name, sets in own.items()
        if len(sets) > 1
    }


def _summaries(by: str, effects: dict[str, Any]) -> list[dict[str, Any]]:
    from ...evaluate import bootstrap

    rows = []
    for kind in ("own", "other fact"):
        for verb in _INTERVENTIONS:
            key = f"{kind} {verb}"
            if f"{key} before" not in effects:
                continue
            before = effects[f"{key} before"]
            rows.append(
                {
                    "by": by,
                    "prompts": kind,
                    "intervention": verb,
                    "facts": len(before),
                    "before": list(bootstrap(before)),
                    "change": list(bootstrap(effects[f"{key} after"] - before)),
                    "random": list(bootstrap(effects[f"{key} random"] - before)),
                }
            )
    return rows


def _show_facts(found: dict[str, Any]) -> None:
    from ...report.number_format import interval

    told = count(found["facts"], "fact")
    for chosen in found["chosen"]:
        by = chosen["by"]
        heading(f"The word in the gap, of {told} that the base was told; neurons by {by}")
        rows = [row for row in found["effects"] if row["by"] == by]
        if not rows:
            note("No fact has neurons that most of its prompts share.")
            continue
        columns = {
            "before": [f"{row['before'][0]:.3f}" for row in rows],
            "change": [interval(row["change"], signed=True) for row in rows],
            "as many others": [interval(row["random"], signed=True) for row in rows],
        }
        table([f"{row['prompts']}, {row['intervention']}" for row in rows], columns)
