"""Computes gradients of weights along a path where several blocks share a layer, as in ALBERT.

Scaling the weights then changes the inputs of all runs but the first, so that every run is computed
again at each step, and the gradient sums over the runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .feedforward import Dense, dense_weight
from .path_gradients import repeat_tokens
from .recorded_pass import Target, Tokens


class WeightMean(NamedTuple):
    """Mean gradients of a layer's weights and bias over a path, and the target at its start."""

    weight: Tensor  # [n, outputs, inputs]
    bias: Tensor  # [n, outputs]
    first: Tensor  # [n]


def mean_weight_gradient(
    module: Dense,
    tokens: Tokens,
    n: int,
    alphas: Sequence[float],
    target: Target,
    *,
    rows_at_once: int,
) -> WeightMean:
    """Computes the gradient of a target with respect to scaled weights, averaged over a path.

    Args:
        module: the layer, which runs several times.
        tokens: a batch of texts.
        n: number of texts.
        alphas: steps of the path: weights and bias are multiplied by each.
        target: called with the tokens of repeated texts, and the numbers of these texts.
        rows_at_once: maximum number of texts times steps in a forward pass.
    """
    weight = dense_weight(module)
    total = torch.zeros(n, *weight.shape)
    bias = torch.zeros(n, weight.shape[0])
    first = None
    together = max(1, rows_at_once // n)
    for begin in range(0, len(alphas), together):
        some = torch.tensor(alphas[begin : begin + together], dtype=weight.dtype)
        k = len(some)
        factor = some.repeat_interleave(n)[:, None].requires_grad_()
        runs = _Runs(factor, module)
        try:
            reached = target(repeat_tokens(tokens, k), torch.arange(n).repeat(k))
        finally:
            runs.hook.remove()
        gradients = torch.autograd.grad(reached.sum(), runs.outputs)
        for gradient, inputs in zip(gradients, runs.inputs, strict=True):
            g, x = (part.reshape(k, n, -1, part.shape[-1]) for part in (gradient, inputs))
            total += torch.einsum("knto,knti->noi", g, x)
            bias += g.sum((0, 2))
        if first is None:
            first = reached[:n].detach()
    assert first is not None
    return WeightMean(total / len(alphas), bias / len(alphas), first)


class _Runs:
    """Multiplies the outputs of a layer by a factor for each row, and keeps them and the inputs."""

    def __init__(self, factor: Tensor, module: nn.Module) -> None:
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self._factor = factor
        self.hook = module.register_forward_hook(self._scale)

    def _scale(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        rows = output.reshape(len(self._factor), -1, output.shape[-1])
        scaled = (rows * self._factor[..., None]).reshape(output.shape)
        self.inputs.append(args[0].detach())
        self.outputs.append(scaled)
        return scaled
