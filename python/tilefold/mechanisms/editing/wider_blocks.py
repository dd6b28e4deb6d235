"""Appends neurons to the feed-forward sub-layers of a model inside a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..neurons.feedforward import Dense, FeedForward, dense_weight
from .replaced_weights import replaced, stored
from .weight_delta import NewNeurons

# Fields of configurations that state how many neurons a block has.
_WIDTHS = ("intermediate_size", "ffn_dim", "hidden_dim", "n_inner")


@contextlib.contextmanager
def wider_blocks(
    model: nn.Module, parts: Mapping[int, FeedForward], neurons: Mapping[int, NewNeurons]
) -> Iterator[None]:
    """Appends neurons to blocks; the others get as many without an effect.

    All blocks keep one width, as their configuration has one number, and can be saved. A neuron
    whose weights are all zero adds nothing, and no gradient reaches them.

    Args:
        model: of transformers, or a module that has one.
        parts: its sub-layers, by number.
        neurons: by layer.

    Raises:
        ValueError: a layer that the model does not have, neurons of another width; sub-layers with
            gates or without biases.
    """
    unknown = sorted(set(neurons) - set(parts))
    if unknown:
        raise ValueError(f"edit: the delta has neurons in layer {unknown[0]}, of {len(parts)}")
    check_appendable("edit", parts.values())
    n = max(len(new.keys) for new in neurons.values())
    width = parts[0].neurons
    with contextlib.ExitStack() as stack:
        for layer, part in parts.items():
            one, other = part.intermediate, part.output
            like = dense_weight(one).detach()
            new = _padded(neurons.get(layer), n, like)
            bias = torch.cat([one.bias.detach(), new.biases])
            values = {
                "weight": stored(one, torch.cat([like, new.keys])),
                "bias": nn.Parameter(bias, requires_grad=one.bias.requires_grad),
                size_attribute(one, is_output=True): width + n,
            }
            stack.enter_context(replaced(one, **values))
            deeper = torch.cat([dense_weight(other).detach(), new.values.T], 1)
            sizes = {size_attribute(other, is_output=False): width + n}
            stack.enter_context(replaced(other, weight=stored(other, deeper), **sizes))
        config = getattr(getattr(model, "model", model), "config", None)
        for name in _WIDTHS:
            value = getattr(config, name, -1)
            if value == width or (value is None and name == "n_inner"):  # None: four times hidden
                stack.enter_context(replaced(config, **{name: width + n}))
        yield


def check_appendable(op: str, parts: Iterable[FeedForward]) -> None:
    """Raises ValueError for sub-layers with gates or without biases.

    Args:
        op: the public function, for the message.
        parts: of a model.
    """
    for part in parts:
        bias: Any = part.intermediate.bias
        if bias is None or len(dense_weight(part.intermediate)) != part.neurons:
            raise ValueError(
                f"{op}: neurons can be appended to sub-layers that have biases and no gates, not "
                f"to {part.intermediate_name}"
            )


def _padded(new: NewNeurons | None, n: int, like: Tensor) -> NewNeurons:
    """Returns n neurons, those without an effect last."""
    hidden = like.shape[1]
    found = NewNeurons(like.new_zeros(n, hidden), like.new_zeros(n), like.new_zeros(n, hidden))
    if new is not None:
        if new.keys.shape[1] != hidden:
            raise ValueError(
                f"edit: the delta has neurons of width {new.keys.shape[1]}, the model has {hidden}"
            )
        for to, values in zip(found, new, strict=True):
            to[: len(values)] = values
    return found


def size_attribute(module: Dense, *, is_output: bool) -> str:
    """Returns the attribute of a layer that states its number of outputs or inputs."""
    if isinstance(module, nn.Linear):
        return "out_features" if is_output else "in_features"
    return "nf" if is_output else "nx"
