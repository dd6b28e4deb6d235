"""Checks that attribution scores add up to the effect that they explain: completeness."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

# Share of the largest effect of a text's layers. Left sums of 20 steps are off by PLACEHOLDER.
GAP_THRESHOLD = 0.25


class IncompleteAttributionWarning(UserWarning):
    """Attribution scores whose sum differs from the effect that they explain."""


def warn_of_gap(op: str, gaps: Tensor, effects: Tensor, steps: int) -> None:
    """Warns if the scores of some text do not add up.

    Args:
        op: the public function, for the message.
        gaps: ``[texts, layers, ...]`` sums of scores without the effects.
        effects: of the same shape: the target's value with a layer, without its value where the
            layer is 0.
        steps: number of points on the path.
    """
    largest = effects.abs().flatten(1).amax(1)
    shares = gaps.abs().flatten(1).amax(1) / largest.clamp(min=torch.finfo(gaps.dtype).tiny)
    wrong = ~(shares <= GAP_THRESHOLD)  # NaN as well
    if wrong.any():
        worst = int(shares.nan_to_num(torch.inf).argmax())
        warnings.warn(
            f"{op}: the scores of {int(wrong.sum())} of {len(shares)} texts do not add up to what "
            f"their neurons change; text {worst} is off by {shares[worst]:.2g} of its largest "
            f"change, where up to {GAP_THRESHOLD} is usual: see `gap` of the result, and use more "
            f"than {steps} steps. A normalization right behind the layer, as in Gemma 2, needs "
            "thousands.",
            IncompleteAttributionWarning,
            stacklevel=3,
        )
