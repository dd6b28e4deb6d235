"""Retrievers from edited and unedited bases, and what they retrieve for each fact."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..fact_rankings import fact_measures
from ..study import StepStore
from .bound_result import (
    ADDED,
    AFTER_ADDED,
    AFTER_REMOVED,
    FROM_ADDED,
    FROM_BASE,
    RANDOM_ADDED,
    RANDOM_REMOVED,
    REMOVED,
)
from .bound_settings import BoundSettings
from .bound_subject import BoundSubject
from .edited_bases import random_delta, saved_base

if TYPE_CHECKING:
    from ...mechanisms import WeightDelta
    from ...models import BiEncoder


def retriever_values(
    settings: BoundSettings,
    subject: BoundSubject,
    deltas: Mapping[str, WeightDelta],
    name: str,
    seed: int,
    steps: StepStore,
) -> NDArray[np.float64]:
    """Returns the measure of a retriever on every fact of the world, unless an earlier run did.

    Args:
        settings: of the training.
        subject: world, base and facts.
        deltas: of `knowledge_deltas`.
        name: of the retriever.
        seed: of the training.
        steps: keeps trainings and measures.

    Returns:
        float64 ``[facts]``, means over the wordings of their questions.
    """
    from ...models import BiEncoder
    from ...world.world_retrievers import fine_tuned

    after = {AFTER_ADDED: ADDED, AFTER_REMOVED: REMOVED}.get(name)
    base = subject.base if after else _base(subject, deltas, name, seed, steps)
    edited = base != subject.base or settings.train_edited
    folder = fine_tuned(
        subject.world,
        base,
        subject.train,
        epochs=settings.retriever_epochs,
        seed=seed,
        # Other studies have the same plain retriever.
        folder=steps.folder("retrievers", []) if edited else None,
    )
    model = BiEncoder.from_pretrained(folder)
    delta = deltas[after] if after else None
    depends = [folder.name, list(map(str, _parts(delta))), settings.batch_size]

    def make() -> dict[str, Any]:
        return {"values": _values(settings, subject, model, delta)}

    return steps.once(f"retrieval {name} {seed}", depends, make)["values"]


def _base(
    subject: BoundSubject,
    deltas: Mapping[str, WeightDelta],
    name: str,
    seed: int,
    steps: StepStore,
) -> Path:
    if name == FROM_BASE:
        return subject.base
    group = ADDED if name in (FROM_ADDED, RANDOM_ADDED) else REMOVED
    delta = deltas[group]
    if name in (RANDOM_ADDED, RANDOM_REMOVED):
        delta = random_delta(delta, [seed, group == ADDED])
    depends = [delta.model, list(map(str, _parts(delta)))]
    return saved_base(subject, delta, steps.folder(f"{name} {seed}", depends) / "model")


def _parts(delta: WeightDelta | None) -> list[Any]:
    """Returns digests of the tensors of a delta."""
    from ...models.fingerprint import digest_of_weights

    if delta is None:
        return []
    every: dict[Any, Any] = {**delta.factors, **delta.neurons}
    return [
        [key, digest_of_weights((str(i), x) for i, x in enumerate(part))]
        for key, part in every.items()
    ]


def _values(
    settings: BoundSettings,
    subject: BoundSubject,
    model: BiEncoder,
    delta: WeightDelta | None,
) -> NDArray[np.float64]:
    with contextlib.ExitStack() as stack:
        if delta is not None:
            from ...mechanisms import edit

            encoders = [model.query_encoder, model.document_encoder]
            tied = encoders[0].model is encoders[1].model
            for encoder in encoders[:1] if tied else encoders:
                stack.enter_context(edit(encoder, delta, strict=False))
        return fact_measures(subject.world, model, batch_size=settings.batch_size)
