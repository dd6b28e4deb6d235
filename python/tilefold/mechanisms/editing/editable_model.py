"""Finds the layers of a model that edits change, and identifies its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ...models.fingerprint import digest_of_weights
from ..neurons.feedforward import NAMES, FeedForward, own_feed_forwards


def editable_digest(model: nn.Module, names: Sequence[tuple[str, str]] = NAMES) -> str:
    """Returns a digest of the weights of a model's blocks and embeddings.

    A language model and an encoder over the same blocks have the same one, whatever their heads.

    Args:
        model: of transformers, or a module that has one.
        names: see `feed_forwards`.
    """
    blocks = own_feed_forwards("editable_digest", model, names)[0].blocks
    weights = [
        (f"{number}.{name}", weight)
        for number, block in enumerate(blocks)
        for name, weight in block.state_dict().items()
    ]
    inner: Any = getattr(model, "model", model)
    embeddings = inner.get_input_embeddings() if hasattr(inner, "get_input_embeddings") else None
    if embeddings is not None:
        weights += [(f"embeddings.{name}", x) for name, x in embeddings.state_dict().items()]
    return digest_of_weights(weights)


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
