"""Runs the study of edits: every editor adds facts and removes facts, all of them at once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of_columns
from ..study import NoStepStore, Reporter, StepStore
from .edit_result import (
    AFTER,
    BEFORE,
    GENERALIZATION,
    LOCALITY,
    MODES,
    PORTABILITY,
    RELIABILITY,
    EditCost,
    EditMeasure,
    EditResult,
)
from .edit_settings import EditorName, EditSettings
from .edit_subject import EditedFact, EditSubject, edit_subject
from .study_editors import LARGEST_SHIFT, NETWORK_RANK, NETWORK_RATES, PATCH_STEPS, StudyEditors

_TRAINING = "training of the networks"
Arrays = dict[str, NDArray[np.float64]]


def run_edits(
    settings: EditSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> EditResult:
    """Compares editors of facts: what they change, how far, and what else.

    Args:
        settings: model, facts and editors.
        steps: keeps what was measured, so that a run that was stopped continues.
        progress: receives reports.

    Raises:
        OSError: no such file or model.
        ValueError: data that cannot be read; too few facts.

    Example:
        >>> result = run_edits(EditSettings(world="tiny", n_facts=5))  # doctest: +SKIP
        >>> result.measures[0].value  # doctest: +SKIP
        Interval(mean=0.93, low=0.86, high=1.0)
    """
    steps, progress = steps or NoStepStore(), progress or Reporter()
    found: dict[tuple[str, str], list[Arrays]] = {}
    for seed in settings.seeds:
        subject = edit_subject(settings, seed, progress)
        if seed == settings.seeds[0]:
            progress.started(f"Edits of {subject.title}")
        editors = StudyEditors(subject, settings, seed, steps, progress)
        for name in settings.editors:
            for mode in MODES:
                values = _measured(settings, subject, editors, name, mode, seed, steps)
                found.setdefault((name, mode), []).append(values)
                shown = (RELIABILITY, GENERALIZATION, LOCALITY)
                text = ", ".join(f"{key} {values[key].mean():.2f}" for key in shown)
                progress.fact(f"{name}, {mode}", text)
    constants = {
        "largest_shift": LARGEST_SHIFT,
        "patch_steps": float(PATCH_STEPS),
        "network_rank": float(NETWORK_RANK),
        **{f"rate_of_{name}": rate for name, rate in NETWORK_RATES.items()},
    }
    return EditResult(
        settings,
        subject.title,
        tuple(_measures(found)),
        tuple(_costs(found)),
        constants,
    )


def _measured(
    settings: EditSettings,
    subject: EditSubject,
    editors: StudyEditors,
    name: EditorName,
    mode: str,
    seed: int,
    steps: StepStore,
) -> Arrays:
    """Measures an editor, unless an earlier run did."""
    facts = subject.unknown if mode == "add" else subject.known

    network = [settings.network_steps, settings.network_edits] if name in NETWORK_RATES else []
    patches = [PATCH_STEPS] if name == "patches" else []
    memit = [*settings.memit_layers, settings.memit_weight] if name == "memit" else []
    depends = [
        subject.model.fingerprint(),
        [dataclasses.astuple(fact) for fact in facts],
        [dataclasses.astuple(fact) for fact in subject.neighbours],
        digest_of_columns(subject.texts),
        [dataclasses.astuple(fact) for fact in (*subject.protected, *subject.training)],
        network,
        memit,
        patches,
        seed,
    ]

    def make() -> Arrays:
        return _effects(subject, editors, name, facts)

    return steps.once(f"edits by {name} {mode}", depends, make)


def _effects(
    subject: EditSubject, editors: StudyEditors, name: EditorName, facts: Sequence[EditedFact]
) -> Arrays:
    from ...mechanisms import edit_effects

    editors.prepare(name)
    begin = time.perf_counter()
    editor = editors.editor(name)
    ready = time.perf_counter()
    delta = editor.delta(subject.model, [fact.shown for fact in facts])
    end = time.perf_counter()
    own = edit_effects(subject.model, delta, [fact.shown for fact in facts])
    others = edit_effects(subject.model, delta, [fact.paraphrases for fact in facts])
    near = edit_effects(subject.model, delta, subject.neighbours)
    found = {
        RELIABILITY: own.success,
        GENERALIZATION: others.success,
        LOCALITY: near.unchanged,
        BEFORE: others.before,
        AFTER: others.after,
        "seconds": np.array([end - begin if name not in NETWORK_RATES else end - ready]),
        _TRAINING: np.array([ready - begin if name in NETWORK_RATES else 0.0]),
        "weights": np.array([float(delta.n_weights)]),
    }
    aliases = [fact.alias for fact in facts if fact.alias is not None]
    none = np.zeros(0)
    found[PORTABILITY] = edit_effects(subject.model, delta, aliases).success if aliases else none
    return found


def _measures(found: dict[tuple[str, str], list[Arrays]]) -> list[EditMeasure]:
    from ...evaluate import bootstrap

    names = (RELIABILITY, GENERALIZATION, PORTABILITY, LOCALITY, BEFORE, AFTER)
    rows = []
    for (editor, mode), seeds in found.items():
        for name in names:
            joined = np.concatenate([own[name] for own in seeds])
            if len(joined):
                means = tuple(float(own[name].mean()) if len(own[name]) else nan for own in seeds)
                value = bootstrap(joined)
                rows.append(EditMeasure(editor, mode, name, value, means, len(joined)))
    return rows


def _costs(found: dict[tuple[str, str], list[Arrays]]) -> list[EditCost]:
    costs = []
    for (editor, mode), seeds in found.items():
        # The networks are trained once, by the first mode.
        training = max(
            float(np.mean([own[_TRAINING][0] for own in found[editor, other]])) for other in MODES
        )
        seconds, weights = (
            float(np.mean([own[name][0] for own in seeds])) for name in ("seconds", "weights")
        )
        costs.append(EditCost(editor, mode, seconds, round(weights), training))
    return costs
