"""Runs the study of directions: plain DPR beside four ways to use more knowledge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate import (
    Interval,
    bootstrap,
    expected_calibration_error,
    risk_coverage,
)
from ..paired_comparison import compare_pairs
from ..study import NoStepStore, Reporter, StepStore
from . import exposure_direction, injection_direction, map_direction, uncertainty_direction
from .direction_result import ConfidenceMeasure, DirectionMeasure, DirectionResult, MethodCost
from .direction_settings import DirectionName, DirectionSettings
from .direction_subject import collection_retrieval, world_retrieval, world_subject
from .direction_values import DirectionValues, Floats
from .uncertainty_direction import CALIBRATED, CORRECT, FACT, OF_QUESTIONS, RAW

_DRAWS = 300  # of facts, for intervals of statistics that are no means
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
        for name, values in _seed_values(settings, seed, steps, progress).items():
            found.setdefault(name, []).append(values)
            progress.fact(name, _shown(values))
    measures = [row for name, seeds in found.items() for row in _measures(name, seeds)]
    costs = [row for name, seeds in found.items() for row in _costs(name, seeds)]
    return DirectionResult(
        settings,
        title,
        tuple(measures),
        tuple(_confidence(found.get("uncertainty", []))),
        tuple(costs),
        {
            "round_trip": float(exposure_direction.ROUND_TRIP),
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
    world = world_subject(settings, seed, steps) if settings.world else None
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
            else world_retrieval(settings, world, steps)
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
            first.setdefault(method, f"{method} {own.mean():.3f}")
    return "; ".join(first.values())


def _measures(name: DirectionName, seeds: Sequence[DirectionValues]) -> list[DirectionMeasure]:
    keys = [key for key in seeds[0].values if key[1] not in OF_QUESTIONS]
    joined = {key: np.concatenate([own.values[key] for own in seeds]) for key in keys}
    references = _MODULES[name].references([measure for _, measure in keys])
    pairs = {
        "\t".join(key): (joined[key], joined[references[key[1]], key[1]])
        for key in keys
        if (references[key[1]], key[1]) in joined and references[key[1]] != key[0]
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
                tuple(float(own.values[method, measure].mean()) for own in seeds),
                len(values),
                references[measure] if comparison else "",
                comparison,
            )
        )
    return rows


def _costs(name: DirectionName, seeds: Sequence[DirectionValues]) -> list[MethodCost]:
    return [
        MethodCost(name, method, cost, float(np.mean([own.costs[method, cost] for own in seeds])))
        for method, cost in seeds[0].costs
        if (method, RAW) not in seeds[0].values
    ]


def _confidence(seeds: Sequence[DirectionValues]) -> list[ConfidenceMeasure]:
    """Computes statistics of every estimator, with intervals over facts of all seeds."""
    if not seeds:
        return []
    found = []
    for method in [method for method, measure in seeds[0].values if measure == RAW]:
        columns = {
            name: np.concatenate([own.values[method, name] for own in seeds])
            for name in (RAW, CALIBRATED, CORRECT)
        }
        facts = _all_facts([own.values[method, FACT] for own in seeds])
        seconds = float(np.mean([own.costs[method, "seconds"] for own in seeds]))
        auroc, error, area = _statistics(columns, facts)
        found.append(ConfidenceMeasure(method, auroc, error, area, seconds))
    return found


def _all_facts(seeds: Sequence[Floats]) -> NDArray[np.int64]:
    """Numbers the facts of all seeds one after another."""
    starts = np.cumsum([0, *[int(own.max()) + 1 for own in seeds]])
    parts = [own.astype(np.int64) + begin for own, begin in zip(seeds, starts[:-1], strict=True)]
    joined: NDArray[np.int64] = np.concatenate(parts)
    return joined


def _statistics(columns: dict[str, Floats], facts: NDArray[np.int64]) -> list[Interval]:
    """Returns AUROC, calibration error and risk area, with intervals from draws of facts."""
    from sklearn.metrics import roc_auc_score

    def all_of(rows: Any) -> list[float]:
        raw, calibrated, correct = (columns[name][rows] for name in (RAW, CALIBRATED, CORRECT))
        both = 0 < correct.mean() < 1
        return [
            float(roc_auc_score(correct, raw)) if both else float("nan"),
            expected_calibration_error(calibrated, correct),
            risk_coverage(raw, correct).area,
        ]

    order = np.argsort(facts, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(facts))])
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        chosen = rng.integers(0, len(starts) - 1, len(starts) - 1)
        rows = np.concatenate([order[starts[i] : starts[i + 1]] for i in chosen])
        drawn.append(all_of(rows))
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    whole = all_of(slice(None))
    return [Interval(*map(float, ends)) for ends in zip(whole, low, high, strict=True)]
