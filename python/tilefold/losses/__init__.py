"""Losses over all pairs of a batch that never hold the matrix of pairs."""

try:
    import torch as torch
except ImportError as error:
    raise ImportError(
        f'tilefold.losses needs torch ({error}): pip install "tilefold[torch]"'
    ) from error

from .alignment_loss import alignment_loss
from .contrastive_loss import contrastive_loss
from .gradcache import cached_backward, cached_embeddings
from .invariance_loss import Invariance, invariance_loss
from .invariant_candidates import invariant_candidates
from .marginal_likelihood_loss import marginal_likelihood_loss
from .modules import AlignmentLoss, ContrastiveLoss, InvarianceLoss
from .negatives import count_negatives

__all__ = [
    "AlignmentLoss",
    "ContrastiveLoss",
    "Invariance",
    "InvarianceLoss",
    "alignment_loss",
    "cached_backward",
    "cached_embeddings",
    "contrastive_loss",
    "count_negatives",
    "invariance_loss",
    "invariant_candidates",
    "marginal_likelihood_loss",
]
