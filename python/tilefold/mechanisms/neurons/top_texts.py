"""Finds the texts in which the activation of a neuron is largest."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch

from ...activations.capture import capture
from ...models import Encoder
from ...models.length_batches import by_length, evaluating
from .feedforward import NAMES, feed_forwards
from .knowledge_neurons import Neuron


class TopText(NamedTuple):
    """A text, and the maximum activation of a neuron in it."""

    text: int
    activation: float


def top_texts(
    encoder: Encoder,
    texts: Sequence[str],
    neurons: Collection[Neuron],
    *,
    top: int = 3,
    batch_size: int = 32,
    names: Sequence[tuple[str, str]] = NAMES,
    progress: bool | str = True,
) -> dict[Neuron, list[TopText]]:
    """Finds the texts in which each neuron is most active, after the activation function.

    Args:
        encoder: of texts.
        texts: strings.
        neurons: layers and places.
        top: texts for each.
        batch_size: texts per forward pass.
        names: see `feed_forwards`.
        progress: whether to show progress on stderr; a string labels it.

    Raises:
        ValueError: a neuron that is not there.

    Example:
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> found = top_texts(encoder, ["who wrote Hamlet", "a recipe"], [(5, 7)], top=1)
        >>> len(found[5, 7])
        1
    """
    parts = {part.layer: part for part in feed_forwards(encoder, names)}
    for layer, place in neurons:
        if layer not in parts or not 0 <= place < parts[layer].neurons:
            raise ValueError(f"top_texts: there is no neuron {place} in layer {layer}")
    sites = {layer: f"{part.output_name}:input" for layer, part in parts.items()}
    layers = sorted({layer for layer, _ in neurons})
    batches = by_length(
        texts,
        encoder.tokenize,
        batch_size=batch_size,
        max_length=encoder.max_length,
        progress=progress,
    )
    passed: list[int] = []
    with (
        evaluating(encoder),
        torch.inference_mode(),
        contextlib.closing(batches),
        capture(encoder, [sites[layer] for layer in layers], top=top) as seen,
    ):
        for rows, tokens in batches:
            encoder(encoder.pad(tokens))
            passed += rows.tolist()
    found = {}
    for layer, place in neurons:
        statistics = seen[sites[layer]]
        pairs = zip(
            statistics.top_examples[place].tolist(),
            statistics.top_values[place].tolist(),
            strict=True,
        )
        found[layer, place] = [TopText(passed[n], value) for n, value in pairs if n >= 0]
    return found
