"""Computes gradients along the path from zero to a sub-layer's output: integrated gradients.

Steps of the path and texts form one batch. Blocks below the sub-layer are not computed again, as
their outputs do not change, and no gradient of weights is formed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...activations.patching import patch
from .feedforward import FeedForward
from .recorded_pass import RecordedPass, Target, Tokens
from .skipped_blocks import skipped_blocks


class PathMean(NamedTuple):
    """Gradients averaged over a path, and the target where the path begins."""

    gradients: list[Tensor]  # [n, tokens, width] float32 for each run of the sub-layer
    first: Tensor  # [n]


def mean_gradient(
    model: nn.Module,
    part: FeedForward,
    site: str,
    tokens: Tokens,
    values: Sequence[Tensor],
    scaled: Tensor,
    alphas: Sequence[float],
    target: Target,
    recorded: RecordedPass,
    *,
    rows_at_once: int,
) -> PathMean:
    """Computes the gradient of a target at a site, averaged over a path.

    Args:
        model: the model that `target` calls.
        part: the feed-forward sub-layer of the site.
        site: name of the site, as in `patch`.
        tokens: a batch of texts.
        values: ``[n, tokens, width]`` values of the site for these texts, for each time that it
            runs; all runs are scaled together.
        scaled: ``[n, tokens]`` 1 where values are multiplied by alpha, 0 where they are kept.
        alphas: steps of the path.
        target: called with the tokens of repeated texts, and the numbers of these texts.
        recorded: the pass of these texts.
        rows_at_once: maximum number of texts times steps in a forward pass.
    """
    n = len(values[0])
    together = max(1, rows_at_once // n)
    totals = [torch.zeros_like(x, dtype=torch.float32) for x in values]
    first = None
    for begin in range(0, len(alphas), together):
        some = torch.tensor(alphas[begin : begin + together], dtype=values[0].dtype)
        k = len(some)
        factor = 1 + scaled[None].to(values[0].dtype) * (some[:, None, None] - 1)
        leaves = [(factor[..., None] * x).flatten(0, 1).requires_grad_() for x in values]
        with skipped_blocks(part, recorded.below, n, k), patch(model, {site: _in_turn(leaves)}):
            reached = target(repeat_tokens(tokens, k), torch.arange(n).repeat(k))
        gradients = torch.autograd.grad(reached.sum(), leaves)
        for total, gradient in zip(totals, gradients, strict=True):
            total += gradient.reshape(k, *total.shape).sum(0)
        if first is None:
            first = reached[:n].detach()
    assert first is not None
    return PathMean([total / len(alphas) for total in totals], first)


def repeat_tokens(tokens: Tokens, k: int) -> dict[str, Tensor]:
    """Repeats a batch of texts k times.

    Args:
        tokens: a batch of texts.
        k: repetitions.
    """
    return {name: x.repeat(k, *[1] * (x.ndim - 1)) for name, x in tokens.items()}


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


def _in_turn(leaves: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """Returns an edit that gives the leaf of each run, in the shape that the model has.

    A copy, as some models add to an output in place.
    """
    left = iter(leaves)
    return lambda x: next(left).reshape(x.shape).clone()
