"""Changes of feed-forward weights that an editor computed, apart from the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from ...files.done_once import read_checked, write_checked

SubLayer = Literal["intermediate", "output"]
_FORMAT, _VERSION = "format version", 1
_MODEL = "digest of the model"


class Factors(NamedTuple):
    """A change of a matrix of weights, ``left @ right``."""

    left: Tensor  # [outputs, rank]
    right: Tensor  # [rank, inputs]


class NewNeurons(NamedTuple):
    """Neurons to append to a block: neuron j adds ``act(keys[j] · x + biases[j]) * values[j]``."""

    keys: Tensor  # [neurons, hidden]
    biases: Tensor  # [neurons]
    values: Tensor  # [neurons, hidden]


@dataclass(frozen=True)
class WeightDelta:
    """What an edit changes in a model's feed-forward sub-layers, apart from the model.

    Args:
        model: digest of the weights that it was computed for: see `editable_digest`.
        factors: changes of weights, by layer and sub-layer.
        neurons: new neurons, by layer.

    Example:
        >>> rank_one = Factors(torch.ones(384, 1), torch.ones(1, 1536))
        >>> WeightDelta("a digest", {(2, "output"): rank_one}).n_weights
        1920
    """

    model: str
    factors: Mapping[tuple[int, SubLayer], Factors] = field(default_factory=dict)
    neurons: Mapping[int, NewNeurons] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for place, (left, right) in self.factors.items():
            if place[1] not in get_args(SubLayer):
                raise ValueError(
                    "WeightDelta: places must be a layer and 'intermediate' or 'output', got "
                    f"{place!r}"
                )
            if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
                raise ValueError(
                    "WeightDelta: factors must be [outputs, rank] and [rank, inputs], got "
                    f"{list(left.shape)} and {list(right.shape)}"
                )
        for new in self.neurons.values():
            n, hidden = new.keys.shape[0], new.keys.shape[-1]
            if [list(x.shape) for x in new] != [[n, hidden], [n], [n, hidden]]:
                shapes = ", ".join(str(list(x.shape)) for x in new)
                raise ValueError(
                    "WeightDelta: new neurons must have keys [neurons, hidden], biases [neurons] "
                    f"and values [neurons, hidden], got {shapes}"
                )

    @property
    def n_weights(self) -> int:
        """Number of values that `save` writes."""
        parts = [*self.factors.values(), *self.neurons.values()]
        return sum(tensor.numel() for part in parts for tensor in part)

    def norms(self) -> dict[tuple[int, SubLayer], float]:
        """Returns the Frobenius norm of the change of each matrix of weights."""
        return {
            place: float(torch.linalg.matrix_norm(left.double() @ right.double()))
            for place, (left, right) in self.factors.items()
        }

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file that `load` reads; there is no file before it is whole."""
        arrays: dict[str, Any] = {
            f"{layer}.{sub_layer}.{name}": tensor
            for (layer, sub_layer), part in self.factors.items()
            for name, tensor in part._asdict().items()
        }
        for layer, new in self.neurons.items():
            arrays |= {f"{layer}.neurons.{name}": x for name, x in new._asdict().items()}
        arrays = {
            name: np.ascontiguousarray(x.detach().float().cpu().numpy())
            for name, x in arrays.items()
        }
        arrays[_MODEL] = np.frombuffer(self.model.encode(), np.uint8)
        write_checked(Path(path), {**arrays, _FORMAT: np.array(_VERSION)})

    @classmethod
    def load(cls, path: str | Path) -> WeightDelta:
        """Reads the file of `save`.

        Raises:
            FileNotFoundError: no such file.
            CorruptedFolderError: not a whole safetensors file, or not what was written.
            ValueError: a file of another kind or version.
        """
        arrays = read_checked(Path(path))
        version = arrays.pop(_FORMAT, None)
        if version is None or int(version) != _VERSION:
            raise ValueError(f"WeightDelta.load: {path} is no delta of format version {_VERSION}")
        model = arrays.pop(_MODEL).tobytes().decode()
        parts: dict[tuple[int, str], dict[str, Tensor]] = {}
        for name, array in arrays.items():
            layer, part, tensor = name.split(".")
            parts.setdefault((int(layer), part), {})[tensor] = torch.from_numpy(array)
        factors: Any = {key: Factors(**x) for key, x in parts.items() if key[1] != "neurons"}
        neurons = {key[0]: NewNeurons(**x) for key, x in parts.items() if key[1] == "neurons"}
        return cls(model, factors, neurons)


def smallest(factors: Factors) -> Factors:
    """Returns factors of the same product whose rank is at most that of a matrix of its shape.

    Args:
        factors: of any rank, such as one for each token.
    """
    left, right = factors
    outputs, inputs = left.shape[0], right.shape[1]
    if left.shape[1] <= min(outputs, inputs):
        return factors
    product = left @ right
    if outputs <= inputs:
        return Factors(torch.eye(outputs, dtype=left.dtype, device=left.device), product)
    return Factors(product, torch.eye(inputs, dtype=right.dtype, device=right.device))
