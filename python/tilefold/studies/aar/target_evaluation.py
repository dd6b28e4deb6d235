"""Measures target LMs on their tasks with each retrieval, and compares the adapted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..paired_comparison import compare_pairs
from ..stage_clock import StageClock
from .aar_analyses import adaptive_values, genread_values
from .aar_result import (
    ADAPTIVE,
    CLOSED_BOOK,
    GENREAD,
    GOLD,
    UNADAPTED,
    TargetAccuracy,
    TargetGain,
)
from .aar_stages import AARStages

Values = Mapping[str, NDArray[np.float64]]  # retrieval -> [seeds, questions]


def evaluate_targets(
    stages: AARStages, name: str, retrievers: Mapping[str, Sequence[Any]], clock: StageClock
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Lets every target LM answer a task with every retrieval.

    Args:
        stages: of the study.
        name: of the task.
        retrievers: adapted ones, of each mode and seed.
        clock: measures the time.

    Returns:
        For each target LM and retrieval whether answers are right: ``[seeds, n]``.
    """
    corpus = stages.subject.tasks[name]
    passages: dict[str, list[list[list[str]] | None]] = {CLOSED_BOOK: [None]}
    with clock.stage("retrieve for tasks"):
        models = {UNADAPTED: [stages.subject.retriever], **retrievers}
        for retrieval, some in models.items():
            passages[retrieval] = [stages.retrieved(corpus, model) for model in some]
    if corpus.gold is not None:
        passages[GOLD] = [corpus.gold]
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for label, target in stages.subject.targets.items():
        with clock.stage(f"answers of {label}"):
            found[label] = {
                retrieval: np.stack([stages.answers(target, corpus, own) for own in lists])
                for retrieval, lists in passages.items()
            }
            if stages.settings.genread:
                found[label][GENREAD] = genread_values(stages, corpus, target)[None]
            adaptive = adaptive_values(stages, corpus, target, found[label])
            if adaptive is not None:
                found[label][ADAPTIVE] = adaptive[None]
        means = ", ".join(f"{key} {value.mean():.3f}" for key, value in found[label].items())
        stages.progress.fact("accuracy", f"{label} on {name}: {means}")
    return found


def target_accuracies(name: str, found: Mapping[str, Values]) -> list[TargetAccuracy]:
    """Returns the accuracy of each target LM with each retrieval.

    Args:
        name: of the task.
        found: of `evaluate_targets`.
    """
    from ...evaluate import bootstrap

    return [
        TargetAccuracy(
            name,
            target,
            retrieval,
            bootstrap(values.mean(0)),
            tuple(values.mean(1).tolist()),
            values.shape[1],
        )
        for target, own in found.items()
        for retrieval, values in own.items()
    ]


def paired_values(name: str, found: Mapping[str, Values]) -> list[tuple[tuple[str, str, str], Any]]:
    """Pairs each adapted retriever with the un-adapted one, averaged over seeds.

    Args:
        name: of the task.
        found: of `evaluate_targets`.

    Returns:
        Task, target LM and retrieval, with the values of both.
    """
    fixed = (CLOSED_BOOK, GENREAD, UNADAPTED, ADAPTIVE, GOLD)
    return [
        ((name, target, retrieval), (values.mean(0), own[UNADAPTED].mean(0)))
        for target, own in found.items()
        for retrieval, values in own.items()
        if retrieval not in fixed
    ]


def target_gains(gains: Sequence[tuple[tuple[str, str, str], Any]]) -> tuple[TargetGain, ...]:
    """Compares all pairs together, as their p values are corrected over all of them.

    Args:
        gains: of `paired_values`, of all tasks.
    """
    compared = compare_pairs({"\t".join(key): pair for key, pair in gains})
    return tuple(TargetGain(*key, one) for (key, _), one in zip(gains, compared, strict=True))
