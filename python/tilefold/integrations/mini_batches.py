"""Splits the features of a column of texts into mini-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

Features = Mapping[str, Any]

# Features of texts that are concatenated without padding.
_UNPADDED = ("offsets", "cu_seq_lens_q")


def mini_batches(features: Features, size: int, op: str) -> list[Features]:
    """Splits features into mini-batches of texts, each cut to the longest of its texts.

    Args:
        features: tensors and lists with one row per text; other values apply to all mini-batches.
        size: texts per mini-batch.
        op: the public class, for messages.

    Returns:
        The features of each mini-batch.

    Raises:
        ValueError: features without one row per text.
    """
    # "prompt_length" of a column may be one number, as a tensor
    tensors = {
        key: len(x) for key, x in features.items() if isinstance(x, Tensor) and x.numel() > 1
    }
    rows = max(tensors.values(), default=1)
    if any(key in features for key in _UNPADDED) or set(tensors.values()) - {rows}:
        raise ValueError(
            f"{op}: mini-batches need features with a row for each text, got "
            f"{ {key: tuple(features[key].shape) for key in tensors} }; use InBatchContrastiveLoss"
        )
    lists = {key for key, x in features.items() if isinstance(x, list | tuple) and len(x) == rows}
    batched = tensors.keys() | lists
    return [_part(features, batched, slice(i, i + size)) for i in range(0, rows, size)]


def _part(features: Features, batched: set[str], rows: slice) -> Features:
    part = {key: x[rows] if key in batched else x for key, x in features.items()}
    mask = part.get("attention_mask")
    if mask is None or not mask.any():
        return part
    width = int(mask.any(dim=0).nonzero().max()) + 1
    per_token = {
        key
        for key, x in part.items()
        if key in batched and isinstance(x, Tensor) and x.shape[:2] == mask.shape
    }
    return {key: x[:, :width] if key in per_token else x for key, x in part.items()}
