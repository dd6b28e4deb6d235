"""Checks which tokens a language model attends to, by its outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .length_batches import evaluating


def check_attention(kind: str, model: nn.Module, *, causal: bool) -> None:
    """Checks that the first position of a model sees the second one, or does not.

    A bidirectional model that is used as a causal one would give log-likelihoods that have read the
    answer. Configurations do not tell: `is_decoder` is False for GPT-2 as for BERT. So two
    sequences of two tokens that differ in the last one are compared at the first position, in one
    forward pass.

    Args:
        kind: the class that checks, for messages.
        model: a language model of transformers, perhaps with adapters.
        causal: whether a position must not see later ones.

    Raises:
        ValueError: an encoder-decoder model, a model without a language model head, or the other
            kind of attention.
    """
    config: Any = model.config
    expected = "a causal language model" if causal else "a masked language model"
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{kind}: expected {expected}, got encoder-decoder {type(model).__name__}")
    device = next(model.parameters()).device
    # Tokens 1 to 3 exist in every vocabulary; 0 is often the padding token.
    pairs = torch.tensor([[1, 2], [1, 3]], device=device)
    with evaluating(model), torch.inference_mode():
        output = model(input_ids=pairs, attention_mask=torch.ones_like(pairs))
    logits = getattr(output, "logits", None)
    if logits is None:
        raise ValueError(f"{kind}: expected {expected}, got {type(model).__name__} without a head")
    one, other = logits[:, 0].float()
    # Rows of one batch differ by rounding at most.
    scale = float(one.abs().max()) + 1e-30
    sees_later = float((one - other).abs().max()) > 1e-5 * scale
    if sees_later == causal:
        found = "a bidirectional model" if sees_later else "a causal model"
        raise ValueError(f"{kind}: expected {expected}, got {found}, {type(model).__name__}")
