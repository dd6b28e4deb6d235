"""Reads and writes the projection after pooling: linear layers, each with an activation or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from torch import Tensor, nn

FILE = "projection.safetensors"
ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
}


class Dense(NamedTuple):
    """A linear layer and the name of the activation after it."""

    linear: nn.Linear
    activation: str


def steps(projection: nn.Module | None) -> list[Dense]:
    """Returns the layers of a projection that a file can describe.

    Args:
        projection: None, `nn.Linear`, or `nn.Sequential` of `nn.Linear` and activations.

    Raises:
        ValueError: it is something else, which could not be built again from a file.

    >>> [(step.linear.out_features, step.activation) for step in steps(nn.Linear(4, 2))]
    [(2, 'Identity')]
    """
    layers = [] if projection is None else [projection]
    if isinstance(projection, nn.Sequential):
        layers = list(projection)
    found: list[Dense] = []
    for layer in layers:
        name = type(layer).__name__
        if type(layer) is nn.Linear:
            found.append(Dense(layer, "Identity"))
        # Printed alike: an activation with arguments of its own would come back without them.
        elif found and repr(layer) == _plain(name):
            found[-1] = Dense(found[-1].linear, name)
        else:
            raise ValueError(
                f"projection: cannot save {layer!r}; use nn.Linear, or nn.Sequential of nn.Linear "
                f"and one of {list(ACTIVATIONS)} after it"
            )
    return found


def build(dense: Sequence[Dense]) -> nn.Module | None:
    """Builds the module of these layers."""
    layers: list[nn.Module] = []
    for step in dense:
        layers.append(step.linear)
        if step.activation != "Identity":
            layers.append(ACTIVATIONS[step.activation]())
    return None if not layers else layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def linear(weights: Mapping[str, Tensor], prefix: str) -> nn.Linear:
    """Builds a float32 layer of the tensors `<prefix>weight` and, if present, `<prefix>bias`."""
    weight, bias = weights[f"{prefix}weight"], weights.get(f"{prefix}bias")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer


def save(projection: nn.Module | None, folder: Path) -> list[str]:
    """Writes the weights, if there are any; returns the activations, for `load`."""
    dense = steps(projection)
    if dense:
        tensors = {
            f"{number}.{name}": tensor.detach().cpu().contiguous()
            for number, step in enumerate(dense)
            for name, tensor in step.linear.state_dict().items()
        }
        safetensors.torch.save_file(tensors, folder / FILE)
    return [step.activation for step in dense]


def load(path: Path | None, activations: Sequence[Any]) -> nn.Module | None:
    """Loads a projection that `save` wrote.

    Raises:
        ValueError: the file is missing, or has other layers than it should.
    """
    if not activations:
        return None
    if path is None:
        raise ValueError(f"projection: {FILE} is missing beside the settings that describe it")
    unknown = [name for name in activations if name not in ACTIVATIONS]
    if unknown:
        raise ValueError(f"{path}: unknown activation {unknown[0]!r}; use {list(ACTIVATIONS)}")
    weights = safetensors.torch.load_file(path)
    expected = {f"{number}.weight" for number in range(len(activations))}
    if {name for name in weights if not name.endswith(".bias")} != expected:
        raise ValueError(f"{path}: expected {sorted(expected)}, got {sorted(weights)}")
    return build([Dense(linear(weights, f"{i}."), name) for i, name in enumerate(activations)])


def _plain(name: str) -> str | None:
    """Returns how the activation of that name is printed when it has no arguments."""
    return repr(ACTIVATIONS[name]()) if name in ACTIVATIONS else None
