"""Losses over all pairs of a batch that never hold the matrix of pairs."""

from .alignment import alignment_loss
from .contrastive import contrastive_loss
from .invariance import Invariance, invariance_loss
from .modules import AlignmentLoss, ContrastiveLoss, InvarianceLoss
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
