"""Training objectives: how a batch becomes a loss."""

from .contrastive_objective import ContrastiveObjective
from .distillation_objective import DistillationObjective
from .invariance_objective import InvarianceObjective
from .objective import BiEncoderObjective, Objective, ObjectiveLoss
from .preference_objective import PreferenceObjective
from .representation_mask import RepresentationMask
from .representation_objective import RepresentationObjective
from .weighted_objective import WeightedObjective

__all__ = [
    "BiEncoderObjective",
    "ContrastiveObjective",
    "DistillationObjective",
    "InvarianceObjective",
    "Objective",
    "ObjectiveLoss",
    "PreferenceObjective",
    "RepresentationMask",
    "RepresentationObjective",
    "WeightedObjective",
]
