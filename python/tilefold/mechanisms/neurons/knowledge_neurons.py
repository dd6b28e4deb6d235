"""Finds knowledge neurons of facts, and scales the activations of neurons."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...activations.patching import patch
from .feedforward import NAMES, feed_forwards

Neuron = tuple[int, int]  # layer, and place in it
Neurons = frozenset[Neuron]


class Refined(NamedTuple):
    """Neurons of every fact, and the share of its prompts that they are required in."""

    neurons: list[Neurons]
    share: float


def coarse_neurons(attribution: NDArray[np.floating], *, threshold: float = 0.2) -> list[Neurons]:
    """Returns for each prompt the neurons whose score reaches a share of the maximum.

    Args:
        attribution: ``[prompts, layers, neurons]`` of `activation_attribution`.
        threshold: the share; 0.2 in Dai et al.

    Example:
        >>> coarse_neurons(np.array([[[0.1, 1.0], [0.5, -3.0]]]))
        [frozenset({(0, 1), (1, 0)})]
    """
    _check_share("coarse_neurons", "threshold", threshold)
    reach = threshold * attribution.max(axis=(1, 2), keepdims=True)
    found = attribution >= np.where(reach > 0, reach, np.inf)
    return [
        frozenset(zip(*(axis.tolist() for axis in np.nonzero(one)), strict=True)) for one in found
    ]


def refined_neurons(
    facts: Sequence[Sequence[Neurons]],
    *,
    share: float = 0.7,
    min_prompts: int = 3,
    between: tuple[float, float] = (2, 5),
    rounds: int = 6,
) -> Refined:
    """Returns for each fact the neurons that most of its prompts share.

    The required share of prompts is changed by 0.05 at a time, until the mean number of neurons of
    a fact is in the desired range (Dai et al., 2022, section 3.2, with the numbers of their code).

    Args:
        facts: coarse neurons of each prompt of each fact.
        share: initial share of prompts that a neuron must be in.
        min_prompts: minimum number of prompts that a neuron must be in; all where a fact has fewer.
        between: desired range of the mean number of neurons of a fact.
        rounds: maximum number of changes of the share.

    Raises:
        ValueError: a fact without prompts, a share outside 0 to 1.

    Example:
        >>> prompts = [frozenset({(0, 1), (1, 2)}), frozenset({(0, 1), (2, 3)})]
        >>> refined_neurons([prompts], share=0.9, between=(1, 5))
        Refined(neurons=[frozenset({(0, 1)})], share=0.9)
    """
    _check_share("refined_neurons", "share", share)
    for number, prompts in enumerate(facts):
        if not prompts:
            raise ValueError(f"refined_neurons: fact {number} has no prompts")
    counts = [Counter(neuron for prompt in prompts for neuron in prompt) for prompts in facts]

    def shared(required: float) -> list[Neurons]:
        return [
            frozenset(
                neuron
                for neuron, n in count.items()
                if n >= required * len(prompts) - 1e-9 and n >= min(min_prompts, len(prompts))
            )
            for count, prompts in zip(counts, facts, strict=True)
        ]

    found = shared(share)
    for _ in range(rounds):
        mean = np.mean([len(neurons) for neurons in found]) if found else between[0]
        if between[0] <= mean <= between[1]:
            break
        share = round(share + (0.05 if mean > between[1] else -0.05), 10)
        found = shared(share)
    return Refined(found, share)


def relation_neurons(facts: Sequence[Neurons], *, share: float = 0.1) -> Neurons:
    """Returns the neurons that a share of a relation's facts have in common.

    >>> sorted(relation_neurons([frozenset({(0, 1), (2, 2)}), frozenset({(0, 1)})], share=0.6))
    [(0, 1)]
    """
    _check_share("relation_neurons", "share", share)
    counts = Counter(neuron for neurons in facts for neuron in neurons)
    return frozenset(neuron for neuron, n in counts.items() if n >= share * len(facts))


def leave_others(neurons: Collection[Neuron], width: int) -> bool:
    """Returns whether every layer has at least as many other neurons, to draw a control from.

    Args:
        neurons: layer and place of each.
        width: number of neurons of a layer.

    >>> leave_others({(0, 1), (0, 2)}, 4), leave_others({(0, 1), (0, 2)}, 3)
    (True, False)
    """
    own = Counter(layer for layer, _ in neurons)
    return all(2 * n <= width for n in own.values())


@contextlib.contextmanager
def scaled_neurons(
    model: nn.Module,
    neurons: Collection[Neuron],
    factor: float,
    *,
    names: Sequence[tuple[str, str]] = NAMES,
) -> Iterator[nn.Module]:
    """Multiplies activations of neurons while the block runs: 0 knocks them out, 2 amplifies.

    Args:
        model: of transformers, or a module that has one.
        neurons: layer and place of each, as in `coarse_neurons`.
        factor: multiplies the activations.
        names: see `feed_forwards`.

    Raises:
        ValueError: a neuron that is not there, a model without such sub-layers.
    """
    parts = {part.layer: part for part in feed_forwards(model, names)}
    places: dict[int, list[int]] = {}
    for layer, place in sorted(neurons):
        if layer not in parts or not 0 <= place < parts[layer].neurons:
            raise ValueError(f"scaled_neurons: there is no neuron {place} in layer {layer}")
        places.setdefault(layer, []).append(place)
    edits = {
        f"{parts[layer].output_name}:input": _scaling(own, factor) for layer, own in places.items()
    }
    with patch(model, edits):
        yield model


def _scaling(places: list[int], factor: float) -> Callable[[Tensor], Tensor]:
    def scale(x: Tensor) -> Tensor:
        factors = torch.ones(x.shape[-1], dtype=x.dtype, device=x.device)
        factors[places] = factor
        return x * factors

    return scale


def _check_share(op: str, name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{op}: {name} must be above 0 and at most 1, got {value}")
