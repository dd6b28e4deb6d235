"""Builds the loss of a training of stage 1 from the parts that its variant has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .coarse_candidates import CoarseCandidates
from .invar_settings import InvarSettings
from .stage_1 import Stage1

if TYPE_CHECKING:
    from ...models import BiEncoder
    from ...train.objectives import BiEncoderObjective


def stage_objective(
    model: BiEncoder,
    settings: InvarSettings,
    coarse: CoarseCandidates,
    stage: Stage1,
    steps: int,
) -> BiEncoderObjective:
    """Builds the weighted sum of the losses of a variant.

    Args:
        model: the retriever in training.
        settings: of the study.
        coarse: the dimension of its embeddings, to project them.
        stage: which training.
        steps: of the training, over which the weight of the invariance loss rises.
    """
    from ...losses import AlignmentLoss, ContrastiveLoss, InvarianceLoss
    from ...train import (
        ContrastiveObjective,
        DistillationObjective,
        InvarianceObjective,
        RepresentationMask,
        RepresentationObjective,
        Schedule,
        WeightedObjective,
    )

    parts: dict[str, Any] = {
        "contrastive": ContrastiveObjective(model, ContrastiveLoss(settings.temperature))
    }
    weights: dict[str, Any] = {}
    if stage.has_alignment:
        weights["alignment"] = stage.alignment_weight
        if settings.alignment == "representation":
            parts["alignment"] = RepresentationObjective(
                model,
                coarse.queries.shape[1],
                form=settings.divergence,
                temperature=settings.representation_temperature,
                seed=stage.seed,
            )
        else:
            loss = AlignmentLoss(
                settings.temperature,
                divergence=settings.divergence,
                teacher_temperature=settings.coarse_temperature,
            )
            parts["alignment"] = DistillationObjective(model, loss)
    if stage.has_invariance:
        # The last step has the loss, however short a training is.
        delay = min(round(settings.warmup_share * steps), max(0, steps - 2))
        ramp = round(settings.ramp_share * steps)
        weight = Schedule(stage.invariance_weight)
        if delay + ramp > 0 and steps > 1:
            weight = replace(weight, steps=max(1, ramp), shape="linear", delay=delay)
        weights["invariance"] = weight
        mask: Any = None
        if settings.invariance_mask != "none":
            mask = RepresentationMask(model.dim, swap=settings.invariance_mask, seed=stage.seed)
        parts["invariance"] = InvarianceObjective(
            model,
            InvarianceLoss(
                settings.invariance,
                temperature=settings.invariance_temperature or settings.temperature,
            ),
            mask=mask,
            **_patterns(settings),
        )
    return WeightedObjective(parts, weights)


def _patterns(settings: InvarSettings) -> dict[str, Any]:
    if settings.top_patterns == 0:
        return {}
    return {"top_patterns": settings.top_patterns, "beta": settings.beta}
