"""A network that turns the factors of a gradient into those of an edit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_LEAST = 1e-7  # of a standard deviation


class GradientNetwork(nn.Module):
    """Transforms a layer's inputs and output gradients, token by token.

    Two residual blocks of low rank over both, which start as the identity; all layers of a shape
    share them, with a scale and a shift for each layer (Mitchell et al., "Fast Model Editing at
    Scale", 2022, section 3.2). What goes in is normalized by means and deviations of the training.

    Args:
        inputs, outputs: size of the layers' weights.
        layers: number of layers that share the network.
        rank: of the blocks, at most inputs + outputs.
    """

    mean: Tensor
    square: Tensor
    count: Tensor

    def __init__(self, inputs: int, outputs: int, layers: int, rank: int) -> None:
        super().__init__()
        self._sizes = [inputs, outputs]
        width = inputs + outputs
        self.blocks = nn.ModuleList(_Block(width, layers, min(rank, width)) for _ in range(2))
        for name in ("mean", "square"):
            self.register_buffer(name, torch.zeros(layers, width, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(layers, dtype=torch.float64))

    def observe(self, layer: int, inputs: Tensor, output_gradients: Tensor) -> None:
        """Updates the means and squared deviations of a layer by those of more tokens."""
        rows = torch.cat([inputs, output_gradients], 1).double()
        if not len(rows):
            return
        n, mean = len(rows), rows.mean(0)
        total = self.count[layer] + n
        apart = mean - self.mean[layer]
        self.square[layer] += (rows - mean).square().sum(0) + apart.square() * (
            self.count[layer] * n / total
        )
        self.mean[layer] += apart * (n / total)
        self.count[layer] = total

    def forward(self, layer: int, inputs: Tensor, output_gradients: Tensor) -> Sequence[Tensor]:
        """Returns transformed inputs and output gradients.

        Args:
            layer: its number among those that share the network.
            inputs: ``[tokens, inputs]``.
            output_gradients: ``[tokens, outputs]``.
        """
        deviation = (self.square[layer] / self.count[layer].clamp(min=1)).sqrt() + _LEAST
        rows = torch.cat([inputs, output_gradients], 1)
        x = (rows - self.mean[layer].float()) / deviation.float()
        for place, block in enumerate(self.blocks):
            x = block(layer, x, is_last=place == len(self.blocks) - 1)
        return torch.split(x, self._sizes, 1)


class _Block(nn.Module):
    """Adds a transformation of low rank, which is zero before training."""

    def __init__(self, width: int, layers: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.scale = nn.Parameter(torch.ones(layers, width))
        self.shift = nn.Parameter(torch.zeros(layers, width))

    def forward(self, layer: int, x: Tensor, *, is_last: bool) -> Tensor:
        changed: Tensor = self.up(self.down(x))
        if not is_last:
            changed = torch.relu(changed)
        return x + self.scale[layer] * changed + self.shift[layer]
