"""Losses over all pairs of a batch that never hold the matrix of pairs."""

from .contrastive import ContrastiveLoss, contrastive_loss

__all__ = ["ContrastiveLoss", "contrastive_loss"]
