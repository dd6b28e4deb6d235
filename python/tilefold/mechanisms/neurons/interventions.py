"""Measures how facts and rankings change when neurons are knocked out or amplified."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...evaluate import evaluate
from ...integers import as_integer
from ...models import Encoder
from ...models.length_batches import evaluating
from ...retrieval.exact_search import search
from .attribution_targets import masked_word
from .feedforward import NAMES, feed_forwards
from .knowledge_neurons import Neuron, Neurons, scaled_neurons
from .recorded_pass import Tokens

Floats = NDArray[np.float64]
_DEPTH = 100  # of rankings


class ClozeEffect(NamedTuple):
    """Probabilities of the right words of prompts, without and with neurons scaled."""

    before: Floats  # [prompts]
    after: Floats  # [prompts]
    random: Floats  # [prompts] with as many other neurons of the same layers scaled


def cloze_effect(
    model: nn.Module,
    tokens: Tokens,
    answers: torch.Tensor,
    neurons: Neurons,
    factor: float,
    *,
    mask_token: int,
    seed: int | Sequence[int] = 0,
    names: Sequence[tuple[str, str]] = NAMES,
) -> ClozeEffect:
    """Scales neurons, and computes the probability of the right word at each mask.

    Args:
        model: a masked language model of transformers, such as `MaskedLM.model`.
        tokens: a batch of prompts with a [MASK] each.
        answers: ``[prompts]`` ids of the right words.
        neurons: neurons of a fact, such as from `refined_neurons`.
        factor: 0 knocks neurons out, 2 amplifies them.
        mask_token: id of [MASK].
        seed: of the random neurons.
        names: see `feed_forwards`.

    Raises:
        ValueError: a neuron that is not there, a layer without as many others.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> sizes = {"vocab_size": 9, "hidden_size": 8, "num_attention_heads": 2}
        >>> config = BertConfig(**sizes, num_hidden_layers=2, intermediate_size=16)
        >>> ids = torch.tensor([[2, 5, 4, 3]])  # 4 is [MASK]
        >>> tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        >>> answers = torch.tensor([7])
        >>> model = BertForMaskedLM(config)
        >>> cloze_effect(model, tokens, answers, {(1, 3)}, 0.0, mask_token=4).after.shape
        (1,)
    """
    right = masked_word(model, answers, mask_token)
    others = random_neurons(model, neurons, seed=seed, names=names)
    rows = torch.arange(len(answers))
    found = []
    with evaluating(model), torch.inference_mode():
        for some, by in ((frozenset(), 1.0), (neurons, factor), (others, factor)):
            with scaled_neurons(model, some, by, names=names):
                found.append(right(tokens, rows).double().numpy())
    return ClozeEffect(*found)


def retrieval_effect(
    encoder: Encoder,
    queries: Sequence[str],
    documents: Any,
    qrels: tuple[Any, Any, Any],
    neurons: Collection[Neuron],
    factor: float,
    *,
    measures: Sequence[str] = ("RR@10", "R@10"),
    batch_size: int = 32,
    names: Sequence[tuple[str, str]] = NAMES,
) -> dict[str, Floats]:
    """Scales neurons of the query encoder, and evaluates its rankings of encoded documents.

    Args:
        encoder: of queries.
        queries: texts.
        documents: ``[documents, dim]`` embeddings.
        qrels: as in `evaluate`.
        neurons: neurons to scale; empty for the unchanged ranking.
        factor: 0 knocks neurons out, 2 amplifies them.
        measures: with cutoffs of at most 100.
        batch_size: texts per forward pass.
        names: see `feed_forwards`.

    Returns:
        Name of each measure -> float64 ``[queries]``.

    Raises:
        ValueError: a neuron that is not there, a measure that is not known.

    Example:
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> documents = encoder.encode(["Hamlet is a play by Shakespeare", "a recipe for soup"])
        >>> offsets, relevant, gains = np.array([0, 1]), np.array([0]), np.array([1.0])
        >>> qrels = offsets, relevant, gains
        >>> queries = ["who wrote Hamlet"]
        >>> retrieval_effect(encoder, queries, documents, qrels, {(5, 7)}, 0.0)["RR@10"].tolist()
        [1.0]
    """
    with scaled_neurons(encoder, neurons, factor, names=names):
        rows = encoder.encode(queries, batch_size=batch_size, progress=False)
    ids = search(rows, documents, _DEPTH).ids  # padded where there are fewer documents
    return evaluate(np.asarray(ids), qrels, measures)


def random_neurons(
    model: nn.Module,
    like: Collection[Neuron],
    *,
    seed: int | Sequence[int] = 0,
    names: Sequence[tuple[str, str]] = NAMES,
) -> Neurons:
    """Draws as many other neurons of the same layers, for a control.

    Args:
        model: the model of the neurons.
        like: neurons to replace.
        seed: of the draw.
        names: see `feed_forwards`.

    Raises:
        ValueError: a layer has no others left, or is not there.

    Example:
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> sorted(layer for layer, _ in random_neurons(encoder, {(0, 1), (5, 7)}))
        [0, 5]
    """
    widths = {part.layer: part.neurons for part in feed_forwards(model, names)}
    rng = np.random.default_rng(seed)
    drawn: list[Neuron] = []
    for layer in sorted({layer for layer, _ in like}):
        own = [place for where, place in like if where == layer]
        others = np.setdiff1d(np.arange(widths.get(layer, 0)), own)
        if len(others) < len(own):
            raise ValueError(f"random_neurons: layer {layer} has only {len(others)} others")
        drawn += [(layer, int(place)) for place in rng.choice(others, len(own), replace=False)]
    return frozenset(drawn)


def strongest(attribution: NDArray[np.floating], n: int) -> Neurons:
    """Returns the n neurons with the largest mean attribution score.

    Args:
        attribution: ``[texts, layers, neurons]``.
        n: number of neurons, at most as many as there are.

    Raises:
        TypeError: n is no integer.
        ValueError: another number of dimensions, no text, or n out of range.

    Example:
        >>> sorted(strongest(np.array([[[0.0, 2.0], [3.0, -9.0]]]), 2))
        [(0, 1), (1, 0)]
    """
    attribution = np.asarray(attribution)
    n = as_integer(n, "strongest", "n")
    if attribution.ndim != 3 or not len(attribution):
        raise ValueError(
            "strongest: attribution must be [texts, layers, neurons] with at least one text, got "
            f"{list(attribution.shape)}"
        )
    if not 0 <= n <= attribution[0].size:
        raise ValueError(
            f"strongest: n must be 0 to {attribution[0].size}, the number of neurons, got {n}"
        )
    mean = attribution.mean(0)
    order = np.argsort(-mean, axis=None, kind="stable")[:n]
    return frozenset((int(i // mean.shape[1]), int(i % mean.shape[1])) for i in order)
