"""Neurons of edits while they are trained: weights, activations, and their losses."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..neurons.feedforward import FeedForward, dense_weight
from .cloze_batch import ClozeBatch, EditableLM
from .replaced_weights import replaced
from .weight_delta import NewNeurons
from .wider_blocks import size_attribute

_N_PROMPTS, _N_TOKENS = 5, 1000  # the hardest ones, which the losses of activations are of
_AMPLIFIED = 10.0  # a value is this multiple of what is trained, which raises its learning rate
_SPREAD = 0.02  # standard deviation of values before training
_LARGEST = 10.0  # exponent in a loss


class ActivationLosses(NamedTuple):
    """Losses of neurons that are not active on their own prompts, and that are on other texts."""

    own: Tensor
    others: Tensor


class PatchNeurons:
    """Trainable neurons, some for each token of each edit's object.

    Args:
        model: a language model, its parameters frozen.
        part: the sub-layer that gets the neurons.
        batch: prompts of the edits.
        n: neurons for each token of an object.
        seed: of their values.
        by_prompt: every prompt of an edit has neurons of its own; otherwise its prompts share them.
    """

    def __init__(
        self,
        model: EditableLM,
        part: FeedForward,
        batch: ClozeBatch,
        n: int,
        seed: int,
        *,
        by_prompt: bool = False,
    ) -> None:
        self.part = part
        states, groups = _states(model, part, batch, by_prompt=by_prompt)
        self._states = states.repeat_interleave(n, 0)
        self._groups = (groups[:, None] * n + torch.arange(n, device=groups.device)).reshape(-1)
        total = int(groups.max()) + 1
        mean = states.new_zeros(total, states.shape[1]).index_add(0, groups, states)
        mean /= torch.bincount(groups, minlength=total)[:, None]
        keys = (mean / mean.square().sum(1, keepdim=True)).repeat_interleave(n, 0)
        generator = torch.Generator().manual_seed(seed)
        hidden = dense_weight(part.output).shape[0]
        values = torch.randn(len(keys), hidden, generator=generator) * (_SPREAD / _AMPLIFIED)
        self._keys = keys.requires_grad_()
        self._biases = keys.new_zeros(len(keys)).requires_grad_()
        self._values = values.to(keys.device).requires_grad_()

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [self._keys, self._biases, self._values]

    def neurons(self) -> NewNeurons:
        """Returns a copy of the neurons as they are."""
        values = self._values * _AMPLIFIED
        return NewNeurons(*(x.detach().clone() for x in (self._keys, self._biases, values)))

    def weights(self, kept: Tensor | None = None) -> dict[str, Tensor]:
        """Returns the weights of the sub-layer with the neurons in place, by name.

        Args:
            kept: ``[neurons]`` factor of each one's value; 1 by default.
        """
        one, other = self.part.intermediate, self.part.output
        values = self._values if kept is None else self._values * kept[:, None]
        wider = torch.cat([dense_weight(one), self._keys.to(one.weight.dtype)])
        deeper = torch.cat([dense_weight(other), (values * _AMPLIFIED).T.to(one.weight.dtype)], 1)
        transposed = not isinstance(one, torch.nn.Linear)
        return {
            f"{self.part.intermediate_name}.weight": wider.T if transposed else wider,
            f"{self.part.intermediate_name}.bias": torch.cat(
                [one.bias, self._biases.to(one.bias.dtype)]
            ),
            f"{self.part.output_name}.weight": deeper.T if transposed else deeper,
        }

    def __len__(self) -> int:
        """Returns the number of neurons."""
        return len(self._keys)

    def losses(self, memory: Tensor, margin: float) -> ActivationLosses:
        """Computes the losses of activations before the activation function.

        Args:
            memory: ``[tokens, hidden]`` states of other texts.
            margin: how far their activations are to be below 0, and below those on own prompts.
        """
        own = (self._states * self._keys[self._groups]).sum(1) + self._biases[self._groups]
        n = len(self._keys)
        by_neuron = own.new_full((n, len(own)), torch.inf)
        by_neuron[self._groups, torch.arange(len(own))] = own
        lowest = by_neuron.sort(1).values[:, :_N_PROMPTS]
        is_own = lowest.isfinite()
        inactive = torch.where(is_own, _exp(-torch.where(is_own, lowest, 0)), 0)
        total = own.new_zeros(n).index_add(0, self._groups, own)
        mean = total / torch.bincount(self._groups, minlength=n)
        others = memory @ self._keys.T + self._biases
        highest = others.topk(min(_N_TOKENS, len(memory)), 0).values
        apart = _exp(highest + margin) + _exp(highest - mean + margin)
        return ActivationLosses((inactive.sum(1) / is_own.sum(1)).mean(), apart.mean())


def patched_log_probabilities(
    model: EditableLM,
    batch: ClozeBatch,
    patches: Sequence[PatchNeurons],
    kept: Sequence[Tensor] | None = None,
) -> Tensor:
    """Computes the log-probabilities of prompts with the neurons of several sub-layers in place.

    Args:
        model: the language model.
        batch: prompts.
        patches: neurons of different sub-layers.
        kept: for each of them the factors of its neurons' values; 1 by default.

    Returns:
        See `ClozeBatch.log_probabilities`.
    """
    weights: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for place, own in enumerate(patches):
            weights |= own.weights(None if kept is None else kept[place])
            one = own.part.intermediate  # the transposed kind reads its size
            size = own.part.neurons + len(own)
            stack.enter_context(replaced(one, **{size_attribute(one, is_output=True): size}))
        return batch.log_probabilities(model, weights)


def _exp(x: Tensor) -> Tensor:
    """Returns the exponential, continued by its tangent where it would be huge."""
    below = x.clamp(max=_LARGEST)
    return below.exp() * (1 + x - below)


def _states(
    model: EditableLM, part: FeedForward, batch: ClozeBatch, *, by_prompt: bool
) -> tuple[Tensor, Tensor]:
    """Returns the states that predict objects, and the number of each one's edit and token.

    By prompt, it is the number of each one's prompt and token.
    """
    found: list[Tensor] = []
    hook = part.intermediate.register_forward_pre_hook(
        lambda _, args: found.append(args[0].detach())
    )
    try:
        with torch.no_grad():
            model(batch.tokens)
    finally:
        hook.remove()
    n, k = batch.places.shape
    rows, tokens = torch.nonzero(batch.places >= 0, as_tuple=True)
    states = found[0].reshape(n, batch.subjects.shape[1], -1)
    own = states[rows, batch.places[rows, tokens]].float()
    owners = rows if by_prompt else batch.edits[rows]
    _, groups = torch.unique(owners * k + tokens, return_inverse=True)
    return own, groups
