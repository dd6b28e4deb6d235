"""Computes gradients along the path from zero to a sub-layer's output: integrated gradients.

Steps of the path and texts form one batch. Blocks below the sub-layer are not computed again, as
their outputs do not change, and no gradient of weights is formed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...activations.capture import patch
from .feedforward import FeedForward

Tokens = Mapping[str, Tensor]
# The function that is attributed: of a batch of tokens and the numbers of its texts, [rows].
Target = Callable[[Tokens, Tensor], Tensor]


def mean_gradient(
    model: nn.Module,
    part: FeedForward,
    site: str,
    tokens: Tokens,
    outputs: Tensor,
    scaled: Tensor,
    alphas: Sequence[float],
    target: Target,
    below: list[Any],
    *,
    rows_at_once: int,
) -> Tensor:
    """Computes the gradient of a target at the output of a site, averaged over a path.

    Args:
        model: the model that `target` calls.
        part: the feed-forward sub-layer of the site.
        site: name of the site, as in `patch`.
        tokens: a batch of texts.
        outputs: ``[n, tokens, width]`` outputs of the site for these texts.
        scaled: ``[n, tokens]`` 1 where outputs are multiplied by alpha, 0 where they are kept.
        alphas: steps of the path.
        target: called with the tokens of repeated texts, and the numbers of these texts.
        below: outputs of all blocks for these texts.
        rows_at_once: maximum number of texts times steps in a forward pass.

    Returns:
        ``[n, tokens, width]`` float32.
    """
    n = len(outputs)
    together = max(1, rows_at_once // n)
    total = torch.zeros_like(outputs, dtype=torch.float32)
    for begin in range(0, len(alphas), together):
        some = torch.tensor(alphas[begin : begin + together], dtype=outputs.dtype)
        k = len(some)
        factor = 1 + scaled[None].to(outputs.dtype) * (some[:, None, None] - 1)
        leaf = (factor[..., None] * outputs).flatten(0, 1).requires_grad_()
        repeated = {name: x.repeat(k, *[1] * (x.ndim - 1)) for name, x in tokens.items()}
        rows = torch.arange(n).repeat(k)
        with _skipping(part, below, k), patch(model, {site: _always(leaf)}):
            reached = target(repeated, rows)
        (gradient,) = torch.autograd.grad(reached.sum(), leaf)
        total += gradient.reshape(k, *outputs.shape).sum(0)
    return total / len(alphas)


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Turns off gradients of parameters and dropout while the block runs."""
    required = [p for p in model.parameters() if p.requires_grad]
    training = [part for part in model.modules() if part.training]
    for parameter in required:
        parameter.requires_grad_(False)
    model.eval()
    try:
        yield
    finally:
        for parameter in required:
            parameter.requires_grad_(True)
        for part in training:
            part.training = True


def _always(leaf: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _: leaf


@contextlib.contextmanager
def _skipping(part: FeedForward, below: list[Any], k: int) -> Iterator[None]:
    """Makes blocks below the sub-layer return their recorded outputs, repeated k times."""
    passed = list(part.blocks)[: part.layer]
    try:
        for block, output in zip(passed, below, strict=False):
            block.forward = _returning(_repeated(output, k))
        yield
    finally:
        for block in passed:
            block.__dict__.pop("forward", None)


def _returning(output: Any) -> Callable[..., Any]:
    return lambda *_, **__: output


def _repeated(output: Any, k: int) -> Any:
    if isinstance(output, Tensor):
        return output.repeat(k, *[1] * (output.ndim - 1))
    if isinstance(output, tuple):
        return tuple(_repeated(x, k) for x in output)
    return output
