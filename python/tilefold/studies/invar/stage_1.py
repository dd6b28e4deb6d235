"""A training of stage 1: its variant, its seed, and everything that it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .retriever_settings import Variant


@dataclass(frozen=True)
class Stage1:
    """A training of stage 1.

    Args:
        variant: which parts it has.
        seed: of weights, batches and views.
        weight: of the invariance loss.
        n_views: rewrites of a query in a step.
    """

    variant: Variant
    seed: int
    weight: float
    n_views: int

    def has(self, part: str) -> bool:
        """Returns whether a part of the loss is in the training."""
        if part == "invariance":
            return self.variant not in ("no invariance", "augmentation") and self.weight > 0
        return self.variant != f"no {part}"


def training_key(
    subject: InvarSubject, settings: InvarSettings, stage: Stage1, texts: Sequence[Any]
) -> list[Any]:
    """Returns everything that a training depends on.

    Args:
        subject: models and data.
        settings: of the study.
        stage: which training.
        texts: digests of models and data.
    """
    names = (
        "alignment",
        "divergence",
        "alignment_weight",
        "invariance",
        "warmup_share",
        "ramp_share",
        "training_windows",
        "top_patterns",
        "beta",
        "invariance_mask",
        "lora_rank",
        "lora_alpha",
        "lora_dropout",
        "lora_targets",
        "depth",
        "group_negatives",
        "refresh_steps",
        "epochs",
        "train_batch_size",
        "learning_rate",
        "temperature",
        "coarse_temperature",
        "invariance_temperature",
        "representation_temperature",
        "query_max_length",
        "document_max_length",
    )
    chosen = {name: getattr(settings, name) for name in names}
    own = [stage.variant, stage.seed, stage.weight, stage.n_views]
    return [*texts, *subject.prefixes, subject.pooling, chosen, *own]
