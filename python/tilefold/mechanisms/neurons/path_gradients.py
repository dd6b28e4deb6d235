"""Gradients along the path from nothing to what a sub-layer says: the core of integrated gradients.

Steps of the path and texts are one batch. Blocks below the sub-layer are not computed again, as
nothing changes there, and no gradient of weights is formed.
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
# Of a batch of tokens and the rows of texts that they are, a number for each: what is attributed.
Target = Callable[[Tokens, Tensor], Tensor]


def mean_gradient(
    model: nn.Module,
    part: FeedForward,
    site: str,
    tokens: Tokens,
    said: Tensor,
    scaled: Tensor,
    alphas: Sequence[float],
    target: Target,
    below: list[Any],
    *,
    rows_at_once: int,
) -> Tensor:
    """The gradient of the target with respect to what a site says, averaged over a path.

    Args:
        model: what `target` calls.
        part: the block of the site.
        site: as `patch` names it.
        tokens: a batch of texts.
        said: ``[n, tokens, width]`` what the site says of them.
        scaled: ``[n, tokens]`` 1 where it is multiplied by alpha, 0 where it stays.
        alphas: steps of the path.
        target: called with tokens of texts that repeat, and their rows.
        below: outputs of all blocks, of these texts.
        rows_at_once: texts times steps in a forward pass.

    Returns:
        ``[n, tokens, width]`` float32.
    """
    n = len(said)
    together = max(1, rows_at_once // n)
    total = torch.zeros_like(said, dtype=torch.float32)
    for begin in range(0, len(alphas), together):
        some = torch.tensor(alphas[begin : begin + together], dtype=said.dtype)
        k = len(some)
        factor = 1 + scaled[None].to(said.dtype) * (some[:, None, None] - 1)
        leaf = (factor[..., None] * said).flatten(0, 1).requires_grad_()
        repeated = {name: x.repeat(k, *[1] * (x.ndim - 1)) for name, x in tokens.items()}
        rows = torch.arange(n).repeat(k)
        with _skipping(part, below, k), patch(model, {site: _always(leaf)}):
            reached = target(repeated, rows)
        (gradient,) = torch.autograd.grad(reached.sum(), leaf)
        total += gradient.reshape(k, *said.shape).sum(0)
    return total / len(alphas)


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Without gradients of parameters, and without dropout; both are restored."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    training = [part for part in model.modules() if part.training]
    for parameter in wanted:
        parameter.requires_grad_(False)
    model.eval()
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for part in training:
            part.training = True


def _always(leaf: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda _: leaf


@contextlib.contextmanager
def _skipping(part: FeedForward, below: list[Any], k: int) -> Iterator[None]:
    """Blocks before that of the sub-layer hand on what they said, k times over."""
    passed = list(part.blocks)[: part.layer]
    try:
        for block, said in zip(passed, below, strict=False):
            block.forward = _saying(_repeated(said, k))
        yield
    finally:
        for block in passed:
            block.__dict__.pop("forward", None)


def _saying(said: Any) -> Callable[..., Any]:
    return lambda *_, **__: said


def _repeated(said: Any, k: int) -> Any:
    if isinstance(said, Tensor):
        return said.repeat(k, *[1] * (said.ndim - 1))
    if isinstance(said, tuple):
        return tuple(_repeated(x, k) for x in said)
    return said
