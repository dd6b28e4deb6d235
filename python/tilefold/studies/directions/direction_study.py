"""Runs the study of directions: plain DPR beside four ways to use more knowledge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate import bootstrap, mean
from ..neurons.gap_reports import reported_gaps
from ..paired_comparison import compare_pairs
from ..study import NoStepStore, Reporter, StepStore
from . import exposure_direction, injection_direction, map_direction, uncertainty_direction
from .direction_result import (
    ConfidenceMeasure,
    DirectionMeasure,
    DirectionResult,
    LeftOut,
    MethodCost,
)
from .direction_settings import DirectionName, DirectionSettings
from .direction_subject import collection_retrieval, world_retrieval, world_subject
from .direction_values import DirectionValues, Floats, Key
from .estimator_statistics import EstimatorStatistics, estimator_statistics
from .uncertainty_direction import (
    CALIBRATED,
    CORRECT,
    FACT,
    FIT_SECONDS,
    OF_QUESTIONS,
    RAW,
    SECONDS,
)

_MODULES: dict[str, Any] = {
    "exposure": exposure_direction,
    "injection": injection_direction,
    "uncertainty": uncertainty_direction,
    "maps": map_direction,
}


def run_directions(
    settings: DirectionSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> DirectionResult:
    """Compares plain DPR with prototypes of the four directions that Reichman and Heck name.

    Training with more knowledge, injecting facts as decentralised representations, modelling
    uncertainty, and mapping internal states to a knowledge base.

    Args:
        settings: world or collection, and directions.
        steps: keeps retrievers and measures, so that a run that was stopped continues.
        progress: receives reports.

    Raises:
        OSError: no such file or model.
        ValueError: data that cannot be read; fewer unknown facts than are to be injected.

    Example:
        >>> settings = DirectionSettings(world="tiny", n_facts=10)
        >>> result = run_directions(settings)  # doctest: +SKIP
        >>> result.measures[1].comparison.difference  # doctest: +SKIP
        Interval(mean=0.12, low=0.08, high=0.16)
    """
    steps, progress = steps or NoStepStore(), progress or Reporter()
    title = f"a {settings.world} world" if settings.world else f"{settings.model}, {settings.data}"
    progress.started(title)
    found: dict[DirectionName, list[DirectionValues]] = {}
    for seed in settings.seeds:
        with reported_gaps(progress):
            own = _seed_values(settings, seed, steps, progress)
        for name, values in own.items():
            found.setdefault(name, []).append(values)
            progress.fact(name, _shown(values))
    measures = [row for name, seeds in found.items() for row in _measures(settings, name, seeds)]
    costs = [row for name, seeds in found.items() for row in _costs(name, seeds)]
    notes = [row for name, seeds in found.items() for row in _notes(name, seeds)]
    return DirectionResult(
        settings,
        title,
        tuple(measures),
        tuple(_confidence(settings, found.get("uncertainty", []))),
        tuple(costs),
        tuple(notes),
        {
            "round_trip": float(exposure_direction.ROUND_TRIP),
            "left_out": exposure_direction.LEFT_OUT,
            "blocks": float(injection_direction.N_BLOCKS),
            "memit_weight": injection_direction.MEMIT_WEIGHT,
            "patch_steps": float(injection_direction.PATCH_STEPS),
            "patch_dropout": injection_direction.PATCH_DROPOUT,
        },
    )


def _seed_values(
    settings: DirectionSettings, seed: int, steps: StepStore, progress: Reporter
) -> dict[DirectionName, DirectionValues]:
    found: dict[DirectionName, DirectionValues] = {}
    chosen = settings.chosen
    world = world_subject(settings, seed) if settings.world else None
    if world is not None:
        counts = f"{len(world.bound.train)} in training, {len(world.held_out)} held out"
        progress.fact("facts", f"{counts}, seed {seed}")
        if "exposure" in chosen:
            found["exposure"] = exposure_direction.exposure_values(settings, world, steps)
        if "injection" in chosen:
            found["injection"] = injection_direction.injection_values(settings, world, steps)
    if {"uncertainty", "maps"} & set(chosen):
        retrieval = (
            collection_retrieval(settings, seed)
            if world is None
            else world_retrieval(settings, world)
        )
        if "uncertainty" in chosen:
            found["uncertainty"] = uncertainty_direction.uncertainty_values(
                settings, retrieval, seed, steps, world
            )
        if "maps" in chosen:
            found["maps"] = map_direction.map_values(settings, retrieval, seed, steps)
    return found


def _shown(values: DirectionValues) -> str:
    """Returns the first measure of each method."""
    first: dict[str, str] = {}
    for (method, measure), own in values.values.items():
        if measure not in OF_QUESTIONS:
            first.setdefault(method, f"{method} {mean(own):.3f}")
    return "; ".join(first.values())


def _joined(settings: DirectionSettings, seeds: Sequence[DirectionValues], key: Key) -> Floats:
    """Returns values of all facts; of a collection, means over seeds, as queries are the same."""
    values = [own.values[key] for own in seeds]
    if settings.world is not None:
        return np.concatenate(values)
    averaged: Floats = np.mean(values, 0)
    return averaged


def _measures(
    settings: DirectionSettings, name: DirectionName, seeds: Sequence[DirectionValues]
) -> list[DirectionMeasure]:
    keys = [
        key
        for key in seeds[0].values
        if key[1] not in OF_QUESTIONS and all(key in own.values for own in seeds)
    ]
    joined = {key: _joined(settings, seeds, key) for key in keys}
    keys = [key for key in keys if np.isfinite(joined[key]).any()]
    references = _MODULES[name].references(keys)
    pairs = {
        "\t".join(key): (joined[key], joined[other, key[1]])
        for key, other in references.items()
        if (other, key[1]) in keys
    }
    compared = dict(zip(pairs, compare_pairs(pairs), strict=True))
    rows = []
    for method, measure in keys:
        values = joined[method, measure]
        comparison = compared.get(f"{method}\t{measure}")
        rows.append(
            DirectionMeasure(
                name,
                method,
                measure,
                bootstrap(values),
                tuple(mean(own.values[method, measure]) for own in seeds),
                int(np.isfinite(values).sum()),
                references[method, measure] if comparison else "",
                comparison,
            )
        )
    return rows


def _costs(name: DirectionName, seeds: Sequence[DirectionValues]) -> list[MethodCost]:
    found = []
    for key in seeds[0].costs:
        if (key[0], RAW) not in seeds[0].values:
            values = [own.costs[key] for own in seeds if key in own.costs]
            found.append(MethodCost(name, *key, float(np.mean(values))))
    return found


def _notes(name: DirectionName, seeds: Sequence[DirectionValues]) -> list[LeftOut]:
    reasons = {method: reason for own in seeds for method, reason in own.notes.items()}
    return [LeftOut(name, method, reason) for method, reason in reasons.items()]


def _confidence(
    settings: DirectionSettings, seeds: Sequence[DirectionValues]
) -> list[ConfidenceMeasure]:
    """Computes statistics of every estimator, with intervals over facts of all seeds."""
    methods = [
        method
        for method, measure in (seeds[0].values if seeds else ())
        if measure == RAW and all((method, RAW) in own.values for own in seeds)
    ]
    found: list[ConfidenceMeasure] = []
    first: EstimatorStatistics | None = None
    for method in methods:
        columns = {
            name: np.concatenate([own.values[method, name] for own in seeds])
            for name in (RAW, CALIBRATED, CORRECT)
        }
        facts = _all_facts(settings, [own.values[method, FACT] for own in seeds])
        own = estimator_statistics(columns[RAW], columns[CALIBRATED], columns[CORRECT], facts)
        if own is None:
            continue
        fit, score = (
            float(np.mean([seed.costs[method, name] for seed in seeds]))
            for name in (FIT_SECONDS, SECONDS)
        )
        gain = None if first is None else own.gain(first)
        first = own if first is None else first
        found.append(ConfidenceMeasure(method, *own.intervals(), gain, fit, score))
    return found


def _all_facts(settings: DirectionSettings, seeds: Sequence[Floats]) -> NDArray[np.int64]:
    """Numbers the facts of all seeds one after another; queries of a collection are the same."""
    numbers = [own.astype(np.int64) for own in seeds]
    if settings.world is not None:
        starts = np.cumsum([0, *[int(own.max()) + 1 for own in numbers]])
        numbers = [own + begin for own, begin in zip(numbers, starts[:-1], strict=True)]
    joined: NDArray[np.int64] = np.concatenate(numbers)
    return joined
