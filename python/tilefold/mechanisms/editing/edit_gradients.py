"""Gradients of the losses of edits at linear layers, kept as their two factors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..neurons.feedforward import FeedForward
from ..neurons.path_gradients import frozen
from .cloze_batch import ClozeBatch, EditableLM
from .edit_losses import edit_losses, hidden_subjects
from .weight_delta import SubLayer

Place = tuple[int, SubLayer]


class LayerGradient(NamedTuple):
    """The gradient of a layer's weights, ``output_gradientsᵀ @ inputs``, token by token."""

    inputs: Tensor  # [tokens, inputs]
    output_gradients: Tensor  # [tokens, outputs]


def places_of(parts: Sequence[FeedForward], layers: Sequence[int]) -> dict[Place, FeedForward]:
    """Returns both sub-layers of each layer, in order."""
    both: tuple[SubLayer, ...] = ("intermediate", "output")
    return {(layer, sub_layer): parts[layer] for layer in layers for sub_layer in both}


def weight_name(part: FeedForward, sub_layer: SubLayer) -> str:
    """Returns the name of a sub-layer's weights in the model."""
    return f"{part.intermediate_name if sub_layer == 'intermediate' else part.output_name}.weight"


def edit_gradients(
    model: EditableLM,
    places: Mapping[Place, FeedForward],
    batch: ClozeBatch,
    removed: Tensor,
) -> dict[Place, LayerGradient]:
    """Computes the gradients of the sum of the losses of edits.

    Args:
        model: a masked or causal language model.
        places: the sub-layers, of `places_of`.
        batch: prompts of the edits.
        removed: ``[edits]`` whether the fact is removed.

    Returns:
        By sub-layer, the tokens whose gradient is not zero.
    """
    inputs: dict[Place, Tensor] = {}
    outputs: dict[Place, Tensor] = {}

    def keep(place: Place) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs[place] = args[0].detach()
            outputs[place] = torch.zeros_like(output, requires_grad=True)
            return output + outputs[place]

        return hook

    with frozen(model):
        with torch.no_grad():
            unspecific = hidden_subjects(model, batch).log_probabilities(model)
        with contextlib.ExitStack() as stack:
            for place, part in places.items():
                hook = getattr(part, place[1]).register_forward_hook(keep(place))
                stack.callback(hook.remove)
            edited = batch.log_probabilities(model)
        losses = batch.mean_by_edit(edit_losses(batch, edited, unspecific, removed))
        found = torch.autograd.grad(losses.sum(), [outputs[place] for place in places])
    gradients = {}
    for place, gradient in zip(places, found, strict=True):
        rows = gradient.flatten(0, -2).float()
        used = rows.abs().sum(1) > 0
        gradients[place] = LayerGradient(inputs[place].flatten(0, -2).float()[used], rows[used])
    return gradients


def batches_of(n: int, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Yields batches of numbers below n without end, in another order in each pass."""
    while True:
        order = torch.randperm(n, generator=generator).tolist()
        for begin in range(0, n - size + 1, size):
            yield order[begin : begin + size]
