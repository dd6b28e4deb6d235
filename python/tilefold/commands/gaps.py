"""Knowledge neurons of a world's facts, and the words that fill their gaps without them."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from ..terminal import count, heading, note, table
from .steps import Steps
from .subject import BASE, Subject


def of_facts(args: argparse.Namespace, subject: Subject, steps: Steps) -> dict[str, Any]:
    """Knowledge neurons of facts that the base was told, and their words without them.

    The base alone has a head that fills gaps; the retriever lost it in training.
    """
    from ..mechanisms import refined_neurons, relation_neurons

    world = subject.world
    assert world is not None
    rng = np.random.default_rng([args.seed, 10])
    known = [n for n, f in enumerate(world.facts) if f.exposed]
    facts = sorted(known[i] for i in rng.permutation(len(known))[: args.facts])
    depends = [subject.weights(BASE), world.size, world.seed, facts, args.steps]
    found = steps.once("facts", depends, lambda: _gaps(args, subject, facts))
    refined = refined_neurons(_coarse(found, len(facts)))
    effects = steps.once(
        "facts without",
        depends,
        lambda: _effects(subject, facts, refined.neurons, args.seed),
    )
    relations = {
        name: len(
            relation_neurons(
                [
                    neurons
                    for n, neurons in zip(facts, refined.neurons, strict=True)
                    if world.facts[n].relation == name
                ],
                share=0.3,
            )
        )
        for name in dict.fromkeys(world.facts[n].relation for n in facts)
    }
    result = {
        "facts": len(facts),
        "neurons": [len(neurons) for neurons in refined.neurons],
        "share": refined.share,
        "by_layer": _by_layer(refined.neurons, int(found["layers"])),
        "shared_by_relation": _shared(facts, refined.neurons, world),
        "relation_neurons": relations,
        "effects": _summaries(effects, refined.neurons),
    }
    _show_facts(result)
    return result


def _gaps(args: argparse.Namespace, subject: Subject, facts: list[int]) -> dict[str, Any]:
    """Of every prompt of every fact, what its word is owed to."""
    import torch
    from tqdm.auto import tqdm

    from ..mechanisms import activation_attribution, masked_word

    model, tokenizer = _filler(subject)
    found = []
    for n in tqdm(facts, desc="facts", disable=None, leave=False):
        tokens, answers = _prompts(subject, tokenizer, n)
        right = masked_word(model, answers, tokenizer.mask_token_id)
        positions = (tokens["input_ids"] == tokenizer.mask_token_id).to(torch.int64)
        of = activation_attribution(model, tokens, right, positions, steps=args.steps)
        found.append(of)
    return {"attribution": np.stack(found), "layers": np.array(found[0].shape[1])}


def _coarse(found: dict[str, Any], facts: int) -> list[Any]:
    from ..mechanisms import coarse_neurons

    return [coarse_neurons(found["attribution"][place]) for place in range(facts)]


def _effects(subject: Subject, facts: list[int], neurons: Any, seed: int) -> dict[str, Any]:
    """Probabilities of the right words, by prompt: as they are, scaled, and of another fact."""
    from ..mechanisms.interventions import cloze_effect

    model, tokenizer = _filler(subject)
    rows: dict[str, list[Any]] = {}
    rng = np.random.default_rng([seed, 11])
    for place, n in enumerate(facts):
        if not neurons[place]:
            continue
        other = facts[int(rng.choice(np.setdiff1d(np.arange(len(facts)), [place])))]
        for factor, verb in ((0.0, "knocked out"), (2.0, "amplified")):
            for kind, number in (("own", n), ("other fact", other)):
                tokens, answers = _prompts(subject, tokenizer, number)
                effect = cloze_effect(
                    model,
                    tokens,
                    answers,
                    neurons[place],
                    factor,
                    mask_token=tokenizer.mask_token_id,
                    seed=seed,
                )
                rows.setdefault(f"{kind} {verb} before", []).append(effect.before.mean())
                rows.setdefault(f"{kind} {verb} after", []).append(effect.after.mean())
                rows.setdefault(f"{kind} {verb} random", []).append(effect.random.mean())
    return {key: np.array(values) for key, values in rows.items()}


def _filler(subject: Subject) -> tuple[Any, Any]:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    assert subject.told is not None
    model: Any = AutoModelForMaskedLM.from_pretrained(subject.told)
    tokenizer: Any = AutoTokenizer.from_pretrained(subject.told)
    return model.eval(), tokenizer


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


def _summaries(effects: dict[str, Any], neurons: Any) -> list[dict[str, Any]]:
    from ..evaluate import bootstrap

    rows = []
    for kind in ("own", "other fact"):
        for verb in ("knocked out", "amplified"):
            key = f"{kind} {verb}"
            if f"{key} before" not in effects:
                continue
            before = effects[f"{key} before"]
            rows.append(
                {
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
    told = count(found["facts"], "fact")
    heading(f"The word in the gap, of {told} that the base was told")
    rows = found["effects"]
    if not rows:
        note("No fact has neurons that most of its prompts share.")
        return
    columns = {
        "before": [f"{row['before'][0]:.3f}" for row in rows],
        "change": ["{:+.3f} [{:+.3f}, {:+.3f}]".format(*row["change"]) for row in rows],
        "as many others": ["{:+.3f} [{:+.3f}, {:+.3f}]".format(*row["random"]) for row in rows],
    }
    table([f"{row['prompts']}, {row['intervention']}" for row in rows], columns)
