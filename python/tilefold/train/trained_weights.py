"""Writes the weights that a training changes, and a digest of those that stay, to resume it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..models.fingerprint import digest_of_weights

_FROZEN = "frozen weights"  # key of their digest in a file


class TrainedWeights:
    """The weights and buffers of a module that a training changes, to be written and read.

    Weights that require no gradient, such as those of a model under an adapter, stay as they are:
    of them a file has a digest alone.

    Args:
        module: in training.
    """

    def __init__(self, module: nn.Module) -> None:
        # A weight with two names is there once, under the first.
        weights = dict(module.named_parameters())
        stored = module.state_dict()
        buffers = {name: x for name, x in module.named_buffers() if name in stored}
        self.own = {name: x for name, x in weights.items() if x.requires_grad} | buffers
        self._frozen = {name: x for name, x in weights.items() if not x.requires_grad}

    def write(self, path: Path) -> None:
        """Writes a file of safetensors."""
        write_weights(self.own, digest_of_weights(self._frozen.items()), path)

    def read(self, path: Path) -> None:
        """Reads a file into the module.

        Raises:
            ValueError: the file is of other frozen weights, or of weights of other names or shapes.
        """
        read_weights(self.own, digest_of_weights(self._frozen.items()), path, "the model")


def write_weights(own: Mapping[str, Tensor], frozen: str, path: Path) -> None:
    """Writes weights with the digest of those that they were trained over.

    Args:
        own: by name.
        frozen: digest.
        path: of the file.
    """
    tensors = {}
    seen: set[int] = set()  # safetensors writes no two that share memory
    for name, weight in own.items():
        tensor = weight.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt", _FROZEN: frozen})


def read_weights(own: Mapping[str, Tensor], frozen: str, path: Path, title: str) -> None:
    """Reads weights that `write_weights` wrote.

    Args:
        own: by name; they are changed in place.
        frozen: digest of those that they are to be trained over.
        path: of the file.
        title: names the weights in errors.

    Raises:
        ValueError: the file has another digest, or weights of other names or shapes.
    """
    with safetensors.safe_open(path, framework="pt") as file:
        written = (file.metadata() or {}).get(_FROZEN)
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if written != frozen:
        raise ValueError(
            f"{path.parent}: {title} was trained over other weights; resume with the model that "
            "the training began with"
        )
    if _shapes(own.items()) != _shapes(weights.items()):
        raise ValueError(f"{path.parent}: {title} has other layers or ranks")
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(weights[name])


def _shapes(weights: Iterable[tuple[str, Tensor]]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights}
