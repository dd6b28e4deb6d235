"""A training of stage 1: its variant, its seed, and everything that it depends on."""

from __future__ import annotations

import dataclasses
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
        alignment_weight: of the alignment loss.
        invariance_weight: of the invariance loss, after its ramp.
        n_views: rewrites of a query in a step.
    """

    variant: Variant
    seed: int
    alignment_weight: float
    invariance_weight: float
    n_views: int

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter is trained, and not all weights."""
        return self.variant != "no lora"

    @property
    def has_alignment(self) -> bool:
        """Whether the alignment loss is part of the training."""
        return self.variant != "no alignment" and self.alignment_weight > 0

    @property
    def has_invariance(self) -> bool:
        """Whether the invariance loss is part of the training."""
        without = "no invariance", "augmentation"
        return self.variant not in without and self.invariance_weight > 0


def training_key(
    subject: InvarSubject, settings: InvarSettings, stage: Stage1, digests: Sequence[Any]
) -> list[Any]:
    """Returns everything that a training depends on.

    Args:
        subject: models and data.
        settings: of the study.
        stage: which training.
        digests: of models and data.
    """
    names = (
        "alignment",
        "divergence",
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
    own = dataclasses.astuple(stage)
    return [*digests, *subject.prefixes, subject.pooling, chosen, *own]
