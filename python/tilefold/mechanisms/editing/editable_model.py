"""Finds the layers of a model that edits change, and identifies its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ...models.fingerprint import digest_of_weights
from ..neurons.feedforward import NAMES, FeedForward, own_feed_forwards


def editable_digest(model: nn.Module, names: Sequence[tuple[str, str]] = NAMES) -> str:
    """Returns a digest of the weights of a model below its head, poolers left out.

    A language model and an encoder over the same weights have the same one, whatever their heads.

    Args:
        model: of transformers, or a module that has one.
        names: see `feed_forwards`.

    Raises:
        ValueError: blocks share feed-forward layers, or have none.
    """
    own_feed_forwards("editable_digest", model, names)
    whole: Any = getattr(model, "model", model)
    below: nn.Module = getattr(whole, "base_model", whole)
    return digest_of_weights(
        (name, weight)
        for name, weight in below.state_dict().items()
        if "pooler" not in name.split(".")
    )


def layer_of(
    op: str, model: nn.Module, layer: int | None, names: Sequence[tuple[str, str]]
) -> FeedForward:
    """Returns the feed-forward sub-layers of a block, by default of the middle one.

    Args:
        op: the public function, for messages.
        model: of transformers, or a module that has one.
        layer: number of the block.
        names: see `feed_forwards`.

    Raises:
        ValueError: the model has no such layer.
    """
    parts = own_feed_forwards(op, model, names)
    number = (len(parts) - 1) // 2 if layer is None else layer
    if not 0 <= number < len(parts):
        raise ValueError(f"{op}: layer must be 0 to {len(parts) - 1}, got {number}")
    return parts[number]
