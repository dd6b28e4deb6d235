"""Applies changes of weights to a model inside a block, with exact undo."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..neurons.feedforward import NAMES, FeedForward, dense_weight, own_feed_forwards
from .editable_model import editable_digest
from .replaced_weights import replaced, stored
from .weight_delta import Factors, SubLayer, WeightDelta
from .wider_blocks import wider_blocks


@contextlib.contextmanager
def edit(
    model: nn.Module,
    delta: WeightDelta,
    *,
    strict: bool = True,
    names: Sequence[tuple[str, str]] = NAMES,
) -> Iterator[nn.Module]:
    """Applies an edit to a model inside the block; afterwards it has its own weights again.

    The model's tensors are not written but replaced, so that undo is exact to the bit, after an
    error or Ctrl-C as well. Inside the block the model can be saved. Blocks can be nested.

    Args:
        model: of transformers, or a module that has one, such as a `MaskedLM`, or an `Encoder` over
            the same blocks.
        delta: from an editor, or `WeightDelta.load`.
        strict: refuse a model other than the one that the delta was computed for. False applies it
            to any of the same shape, such as a retriever trained from that model.
        names: see `feed_forwards`.

    Yields:
        The model.

    Raises:
        ValueError: another model, with `strict`; layers or widths that the model does not have; new
            neurons in a model whose sub-layers have gates or no biases.

    Example:
        >>> from tilefold.mechanisms.editing.editable_model import editable_digest
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> rank_one = Factors(torch.ones(384, 1), torch.full((1, 1536), 1e-3))
        >>> delta = WeightDelta(editable_digest(encoder), {(5, "output"): rank_one})
        >>> before = encoder.encode(["a cat"])
        >>> with edit(encoder, delta):
        ...     assert (encoder.encode(["a cat"]) != before).any()
        >>> bool((encoder.encode(["a cat"]) == before).all())
        True
    """
    parts = {part.layer: part for part in own_feed_forwards("edit", model, names)}
    if strict and delta.model != editable_digest(model, names):
        raise ValueError(
            "edit: the delta was computed for a model with other weights; to apply it all the "
            "same, pass strict=False"
        )
    changed = {
        (layer, sub_layer): _changed(parts, layer, sub_layer, own)
        for (layer, sub_layer), own in delta.factors.items()
    }
    with contextlib.ExitStack() as stack:
        for (layer, sub_layer), weight in changed.items():
            module = getattr(parts[layer], sub_layer)
            stack.enter_context(replaced(module, weight=stored(module, weight)))
        if delta.neurons:
            stack.enter_context(wider_blocks(model, parts, delta.neurons))
        yield model


def _changed(
    parts: Mapping[int, FeedForward], layer: int, sub_layer: SubLayer, own: Factors
) -> Tensor:
    """Returns the changed weights, ``[outputs, inputs]``."""
    if layer not in parts:
        raise ValueError(f"edit: the delta changes layer {layer}, the model has {len(parts)}")
    weight = dense_weight(getattr(parts[layer], sub_layer)).detach()
    shape = own.left.shape[0], own.right.shape[1]
    if shape != tuple(weight.shape):
        raise ValueError(
            f"edit: the delta changes {sub_layer} weights {list(shape)} of layer {layer}, the "
            f"model has {list(weight.shape)}"
        )
    left, right = (x.to(weight.device, torch.float32) for x in own)
    return (weight.float() + left @ right).to(weight.dtype)
