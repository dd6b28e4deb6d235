"""Computes attribution scores of the weights of feed-forward layers by integrated gradients.

As in the reproducibility study of "Dense Passage Retrieval: Is it Retrieving?" (Yao, Wang & Zuccon,
2025, section 5.1): a neuron is a row of a dense sub-layer's weights, and the target is the length
of the embedding. `activation_attribution` has the scores of activations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...models import Encoder
from ...models.length_batches import by_length, check_texts
from .completeness import warn_of_gap
from .feedforward import NAMES, FeedForward, check_widths, dense_weight, feed_forwards
from .path_gradients import frozen, mean_gradient
from .recorded_pass import RecordedPass, Tokens
from .shared_weights import mean_weight_gradient

Floats = NDArray[np.float32]
_FIRST = 1e-6  # the first alpha of the study's path, which includes both ends


class WeightAttribution(NamedTuple):
    """Attribution scores of neurons for the embedding's length, for each text and layer.

    Zeros for a text without any token.
    """

    intermediate: Floats  # [texts, layers, rows of the intermediate layer]
    output: Floats  # [texts, layers, width]
    # [texts, layers, 2] for both sub-layers: the sum of IG over weights and biases, without the
    # change of the length between the ends of the path. 0 for infinitely many steps.
    gap: Floats

    def relative(self) -> WeightAttribution:
        """Returns scores divided by the maximum of each text over layers and sub-layers."""
        largest = np.maximum(self.intermediate.max((1, 2)), self.output.max((1, 2)))
        scale = np.where(largest > 0, largest, np.float32(1))[:, None, None].astype(np.float32)
        return WeightAttribution(self.intermediate / scale, self.output / scale, self.gap / scale)

    def flat(self) -> Floats:
        """Returns the scores of both sub-layers, ``[texts, neurons]``."""
        texts = len(self.intermediate)
        parts = (self.intermediate.reshape(texts, -1), self.output.reshape(texts, -1))
        return np.concatenate(parts, axis=1)


def weight_attribution(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    steps: int = 20,
    batch_size: int = 8,
    rows_at_once: int = 64,
    names: Sequence[tuple[str, str]] = NAMES,
    progress: bool | str = True,
) -> WeightAttribution:
    """Computes attribution scores of an embedding's length to the weights of feed-forward layers.

    For the weights W and bias b of a dense sub-layer, ``IG = W * mean over k of dP(alpha_k W,
    alpha_k b) / dW`` with P the length of the embedding, and alpha_k from 1e-6 to 1; neuron i has
    ``a_i = sum over j of |IG_ij|`` (reproducibility study, section 5.1). Scaling W and b scales the
    output of the sub-layer, and ``dP/dW`` is the product of the gradient at the output with the
    input: gradients at outputs are averaged, and those of weights are never formed. A layer that
    several blocks share is scaled in all of them, and its gradient is the sum over them.

    Args:
        encoder: its embeddings are taken before normalization.
        texts: strings.
        steps: number of points on the path.
        batch_size: maximum number of texts at a time.
        rows_at_once: maximum number of texts times steps in a forward pass.
        names: see `feed_forwards`.
        progress: whether to show progress on stderr; a string labels it.

    Returns:
        Scores, and the gaps of completeness.

    Raises:
        TypeError: texts that are no strings.
        ValueError: no texts, fewer than two steps, a model without such sub-layers.

    Warns:
        IncompleteAttributionWarning: a text's gap is above a quarter of the largest change that a
            layer makes.

    Example:
        >>> from tilefold.models import minilm
        >>> found = weight_attribution(minilm(), ["who wrote Hamlet"])
        >>> found.intermediate.shape, found.output.shape
        ((1, 6, 1536), (1, 6, 384))
    """
    check_texts(texts, "weight_attribution")
    if not texts:
        raise ValueError("weight_attribution: expected texts, got none")
    if steps < 2:  # both ends
        raise ValueError(f"weight_attribution: steps must be at least 2, got {steps}")
    plain = encoder.with_options(normalize=False)
    parts = feed_forwards(plain, names)
    wide, width = check_widths("weight_attribution", parts)
    path = _Path(plain, parts, steps, rows_at_once)
    shape = len(texts), len(parts)
    found = WeightAttribution(
        np.zeros((*shape, wide), np.float32),
        np.zeros((*shape, width), np.float32),
        np.zeros((*shape, 2), np.float32),
    )
    effects = torch.zeros(*shape, 2, dtype=torch.float64)
    batches = by_length(
        texts,
        plain.tokenize,
        batch_size=batch_size,
        max_length=plain.max_length,
        progress=progress,
    )
    with frozen(plain), contextlib.closing(batches):
        for rows, lists in batches:
            path.begin(plain.pad(lists))
            for layer, part in enumerate(parts):
                for kind, into in enumerate((found.intermediate, found.output)):
                    scores, gap, effect = path.attribute(part, kind)
                    into[rows, layer] = scores.numpy()
                    found.gap[rows, layer, kind] = gap.numpy()
                    effects[rows, layer, kind] = effect
    warn_of_gap("weight_attribution", torch.from_numpy(found.gap).double(), effects, steps)
    return found


class _Path:
    """The path from weights of nearly 0 to those of the model, for one batch of texts at a time."""

    def __init__(
        self, encoder: Encoder, parts: Sequence[FeedForward], steps: int, rows_at_once: int
    ) -> None:
        self._encoder = encoder
        self._parts = parts
        self._alphas = torch.linspace(_FIRST, 1, steps, dtype=torch.float64).tolist()
        self._rows_at_once = rows_at_once

    def begin(self, tokens: Tokens) -> None:
        """Records the sub-layers for a batch of texts."""
        self._tokens = tokens
        shape = tokens["attention_mask"].shape
        self._recorded = RecordedPass(self._parts, tokens, shape, self._length)

    def attribute(self, part: FeedForward, kind: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns scores ``[n, rows]`` of a sub-layer, gaps ``[n]`` and effects ``[n]``."""
        name = (part.intermediate_name, part.output_name)[kind]
        module = (part.intermediate, part.output)[kind]
        outputs = self._recorded.outputs(name)
        options = {"rows_at_once": self._rows_at_once}
        weight = dense_weight(module)
        if len(outputs) > 1:
            n = len(outputs[0])
            shared = mean_weight_gradient(
                module, self._tokens, n, self._alphas, self._length, **options
            )
            scores = (weight * shared.weight).abs().sum(2)
            explained = (weight * shared.weight).double().sum((1, 2))
            if module.bias is not None:
                explained += (module.bias * shared.bias).double().sum(1)
            first = shared.first
        else:
            mean = mean_gradient(
                self._encoder,
                part,
                name,
                self._tokens,
                outputs,
                self._tokens["attention_mask"],
                self._alphas,
                self._length,
                self._recorded,
                **options,
            )
            gradient, inputs = mean.gradients[0], self._recorded.inputs(name)[0]
            pairs = zip(gradient, inputs, strict=True)
            scores = torch.stack([_row_sums(weight, g, x) for g, x in pairs])
            # Of W and b together: outputs are Wx + b.
            explained = (gradient * outputs[0]).double().sum((1, 2))
            first = mean.first
        effect = self._recorded.reached.double() - first.double()
        return scores, explained - effect, effect

    def _length(self, tokens: Tokens, _: Tensor) -> Tensor:
        lengths: Tensor = self._encoder(tokens).norm(dim=1)
        return lengths


def _row_sums(weight: Tensor, gradient: Tensor, inputs: Tensor) -> Tensor:
    """Computes ``sum over j of |W * G^T X|`` for one text."""
    return (weight * (gradient.T @ inputs)).abs().sum(1)
