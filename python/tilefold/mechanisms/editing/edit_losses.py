"""Losses of edits: of stating an object, or of predicting as if the subject were unknown."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models import MaskedLM
from .cloze_batch import ClozeBatch, EditableLM


def edit_losses(batch: ClozeBatch, edited: Tensor, unspecific: Tensor, removed: Tensor) -> Tensor:
    """Computes the loss of each prompt, ``[n]``.

    Where a fact is added, the negative log-likelihood of its object; where it is removed, the KL
    divergence from what the model predicts without knowing the subject.

    Args:
        batch: the prompts.
        edited: ``[n, k, words]`` log-probabilities of the edited model.
        unspecific: the same of the model before, with subjects hidden.
        removed: ``[edits]`` whether the fact is removed.
    """
    removing = batch.mean_over_tokens(divergence(unspecific, edited))
    return torch.where(removed[batch.edits], removing, -batch.log_likelihood(edited))


def divergence(before: Tensor, after: Tensor) -> Tensor:
    """Computes the KL divergence of distributions given by their logarithms, ``[..., words]``."""
    return (before.exp() * (before - after)).sum(-1)


def hidden_subjects(model: EditableLM, batch: ClozeBatch) -> ClozeBatch:
    """Returns the prompts with their subjects masked, or in a causal model not attended to."""
    return batch.without_subjects(_mask_token(model))


def _mask_token(model: EditableLM) -> int | None:
    token: int | None = model.tokenizer.mask_token_id if isinstance(model, MaskedLM) else None
    return token
