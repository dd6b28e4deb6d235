"""Computes the activations of all neurons for texts, pooled over their tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...activations.pooling import cls_pool, max_pool, mean_pool
from ...models import Encoder
from ...models.length_batches import by_length, evaluating
from ..neurons.feedforward import NAMES, FeedForward, own_feed_forwards

Pooling = Literal["max", "mean", "cls"]
_POOLINGS = {"max": max_pool, "mean": mean_pool, "cls": cls_pool}


def neuron_rows(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    pooling: Pooling = "max",
    layers: Sequence[int] | None = None,
    batch_size: int = 32,
    names: Sequence[tuple[str, str]] = NAMES,
    progress: bool | str = False,
) -> NDArray[np.float32]:
    """Computes the activation of every neuron for every text, after the activation function.

    Args:
        encoder: of texts.
        texts: strings.
        pooling: "max" or "mean" over the tokens of a text, or "cls" for the first one.
        layers: whose neurons; by default all.
        batch_size: texts in a forward pass.
        names: see `feed_forwards`.
        progress: whether to show progress on stderr; a string labels it.

    Returns:
        float32 ``[texts, neurons]``, layer by layer; zeros for a text without any token.

    Raises:
        ValueError: another pooling, a layer that the model does not have, or a model without
            feed-forward sub-layers.

    Example:
        >>> from tilefold.models import minilm
        >>> neuron_rows(minilm(), ["a cat", "the invoice"], layers=[5]).shape
        (2, 1536)
    """
    if pooling not in _POOLINGS:
        raise ValueError(f"neuron_rows: pooling must be max, mean or cls, got {pooling!r}")
    every = own_feed_forwards("neuron_rows", encoder, names)
    chosen = range(len(every)) if layers is None else layers
    if not all(0 <= layer < len(every) for layer in chosen) or not len(chosen):
        raise ValueError(
            f"neuron_rows: layers must be 0 to {len(every) - 1}, one or more, got {list(chosen)}"
        )
    parts = [every[layer] for layer in chosen]
    found = np.zeros((len(texts), sum(part.neurons for part in parts)), np.float32)
    batches = by_length(
        texts,
        encoder.tokenize,
        batch_size=batch_size,
        max_length=encoder.max_length,
        progress=progress,
    )
    with evaluating(encoder), torch.inference_mode(), contextlib.closing(batches):
        for rows, tokens in batches:
            batch = encoder.pad(tokens)
            mask = batch["attention_mask"]
            kept: dict[int, Tensor] = {}
            with contextlib.ExitStack() as stack:
                for place, part in enumerate(parts):
                    stack.callback(_hook(part, kept, place).remove)
                encoder.run(batch)
            pooled = [
                _POOLINGS[pooling](kept[i].reshape(*mask.shape, -1).float(), mask)
                for i in range(len(parts))
            ]
            found[rows] = torch.cat(pooled, 1).cpu().numpy()
    return found


def _hook(
    part: FeedForward, kept: dict[int, Tensor], place: int
) -> torch.utils.hooks.RemovableHandle:
    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        kept[place] = args[0]

    return part.output.register_forward_pre_hook(keep)
