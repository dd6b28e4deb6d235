"""Sums losses of the same embeddings, and computes their gradients one loss at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ...losses.derivative import first_derivative_only
from .objective import widened


class SummedLosses:
    """A sum of losses, whose gradients are computed as soon as a loss is added.

    In one graph each fused loss would keep its gradients of the embeddings, which it computes in
    its forward pass, until the backward pass of the sum. Here there are two copies at a time: those
    of the sum, and those of the loss that is being added.

    Args:
        embeddings: by side; with gradients disabled there are none of the sum either.

    Attributes:
        embeddings: what losses are to be computed from: the same numbers, in the precision of
            losses and without the graph behind them.
    """

    def __init__(self, embeddings: Mapping[str, Tensor]) -> None:
        self.embeddings = {
            side: widened(x.detach()).requires_grad_(x.requires_grad)
            for side, x in embeddings.items()
        }
        pairs = zip(self.embeddings.values(), embeddings.values(), strict=True)
        self._originals = dict(pairs)
        self._gradients: dict[Tensor, Tensor] = {}

    def add(self, loss: Tensor) -> None:
        """Adds the gradients of a loss with respect to embeddings and parameters; frees its graph.

        Args:
            loss: a number that depends on `embeddings`, and perhaps on parameters.
        """
        if not loss.requires_grad:
            return
        leaves = list(dict.fromkeys(_leaves(loss)))
        for leaf, gradient in zip(
            leaves, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True
        ):
            if gradient is None:
                continue
            if leaf in self._gradients:
                self._gradients[leaf] += gradient
            else:
                # A copy, because autograd may return one tensor for several leaves.
                self._gradients[leaf] = gradient.clone()

    def with_gradients(self, value: Tensor) -> Tensor:
        """Returns the sum as a number whose backward pass gives the gradients.

        Args:
            value: the sum of the losses, without a graph.
        """
        sources = [self._originals.get(leaf, leaf) for leaf in self._gradients]
        gradients = list(self._gradients.values())
        result: Tensor = _WithGradients.apply(value, gradients, *sources)  # type: ignore[no-untyped-call]
        return result


class _WithGradients(torch.autograd.Function):
    """Returns a value as it is; its gradients are those that are given."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *sources: Tensor) -> Tensor:
        ctx.dtypes = [x.dtype for x in sources]
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first_derivative_only("WeightedObjective")
        # First scaled, then rounded: a gradient may need its scale not to vanish in float16.
        scaled = (
            (gradient * grad).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return (None, None, *scaled)


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """Yields the tensors that a graph begins with."""
    if loss.grad_fn is None:
        yield loss
        return
    seen: set[Any] = set()
    nodes: list[Any] = [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::AccumulateGrad":
            yield node.variable
        nodes += [following for following, _ in node.next_functions]
