"""Losses over all pairs of a batch that never hold the matrix of pairs."""

from .alignment import AlignmentLoss, alignment_loss
from .contrastive import ContrastiveLoss, contrastive_loss
from .invariance import Invariance, InvarianceLoss, invariance_loss
from .negatives import count_negatives

__all__ = [
    "AlignmentLoss",
    "ContrastiveLoss",
    "Invariance",
    "InvarianceLoss",
    "alignment_loss",
    "contrastive_loss",
    "count_negatives",
    "invariance_loss",
]
