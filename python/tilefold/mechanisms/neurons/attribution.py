"""Computes attribution scores of feed-forward neurons by integrated gradients.

Of weights, as in the reproducibility study (its section 5.1): a neuron is a row of a dense
sub-layer's weights, and the target is the length of the embedding. Of activations, as in Dai et
al., "Knowledge Neurons in Pretrained Transformers" (2022, section 3.1): the target is the
probability of a masked word, or any other function of a model's output, such as the
log-probability of the relevant passage.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ...models import Encoder
from ...models.length_batches import by_length, check_texts, evaluating
from ...models.masked_lm import mask_logits
from .feedforward import NAMES, FeedForward, feed_forwards
from .path_gradients import Target, Tokens, frozen, mean_gradient

Floats = NDArray[np.float32]
_FIRST = 1e-6  # the first alpha of the study's path, which includes both ends


class WeightAttribution(NamedTuple):
    """Attribution scores of neurons for the embedding's length, for each text and layer.

    Zeros for a text without any token.
    """

    intermediate: Floats  # [texts, layers, neurons]
    output: Floats  # [texts, layers, width]

    def relative(self) -> WeightAttribution:
        """Returns scores divided by the maximum of each text over layers and sub-layers."""
        largest = np.maximum(self.intermediate.max((1, 2)), self.output.max((1, 2)))
        scale = np.where(largest > 0, largest, np.float32(1))[:, None, None].astype(np.float32)
        return WeightAttribution(self.intermediate / scale, self.output / scale)

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
    input: gradients at outputs are averaged, and those of weights are never formed.

    Args:
        encoder: its embeddings are taken before normalization.
        texts: strings.
        steps: number of points on the path.
        batch_size: maximum number of texts at a time.
        rows_at_once: maximum number of texts times steps in a forward pass.
        names: see `feed_forwards`.
        progress: whether to show progress on stderr; a string labels it.

    Raises:
        TypeError: texts that are no strings.
        ValueError: no texts, fewer than two steps, a model without such sub-layers.

    Example:
        >>> from tilefold.models import minilm
        >>> found = weight_attribution(minilm(), ["who wrote Hamlet"], steps=2)
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
    alphas = torch.linspace(_FIRST, 1, steps, dtype=torch.float64).tolist()
    wide, width = parts[0].intermediate.out_features, parts[0].output.out_features
    found = WeightAttribution(
        np.zeros((len(texts), len(parts), wide), np.float32),
        np.zeros((len(texts), len(parts), width), np.float32),
    )

    def length(tokens: Tokens, _: Tensor) -> Tensor:
        lengths: Tensor = plain(tokens).norm(dim=1)
        return lengths

    batches = by_length(
        texts,
        plain.tokenize,
        batch_size=batch_size,
        max_length=plain.max_length,
        progress=progress,
    )
    with frozen(plain), contextlib.closing(batches):
        for rows, lists in batches:
            tokens = plain.pad(lists)
            recorded = _Recorded(parts, tokens, length)
            for layer, part in enumerate(parts):
                for into, module, name in (
                    (found.intermediate, part.intermediate, part.intermediate_name),
                    (found.output, part.output, part.output_name),
                ):
                    inputs, outputs = recorded.inputs[name], recorded.outputs[name]
                    gradient = mean_gradient(
                        plain,
                        part,
                        name,
                        tokens,
                        outputs,
                        tokens["attention_mask"],
                        alphas,
                        length,
                        recorded.blocks,
                        rows_at_once=rows_at_once,
                    )
                    for row, g, x in zip(rows, gradient, inputs, strict=True):
                        into[row, layer] = _row_sums(module.weight, g, x).numpy()
    return found


def _row_sums(weight: Tensor, gradient: Tensor, inputs: Tensor) -> Tensor:
    """Computes ``sum over j of |W * G^T X|`` for one text."""
    return (weight * (gradient.T @ inputs)).abs().sum(1)


def activation_attribution(
    model: nn.Module,
    tokens: Tokens,
    target: Target,
    positions: Tensor,
    *,
    steps: int = 20,
    rule: Literal["left", "ends"] = "left",
    rows_at_once: int = 64,
    names: Sequence[tuple[str, str]] = NAMES,
) -> Floats:
    """Computes attribution scores of a target to each neuron's activation.

    All neurons of a layer are scaled together from 0 to their activations w, at some positions:
    ``w * mean over k of dP(alpha_k w) / dw``, summed over the positions (Dai et al., 2022, equation
    3). The sum over neurons tends to P(1) - P(0) as steps grow (completeness).

    Args:
        model: the model of transformers that `target` calls.
        tokens: a batch of texts with their ``attention_mask``.
        target: function of a batch of tokens and the numbers of its texts; returns a number each.
        positions: ``[texts, tokens]``, 1 where neurons are scaled: a [MASK], or every token.
        steps: number of points on the path.
        rule: "left" has alphas k / steps from k = 0 (Dai et al.'s code), "ends" includes both ends
            (EasyEdit's).
        rows_at_once: maximum number of texts times steps in a forward pass.
        names: see `feed_forwards`.

    Raises:
        ValueError: a model without such sub-layers, an unknown rule, no step.

    Example:
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> tokens = encoder.pad(encoder.tokenize(["who wrote Hamlet"]))
        >>> passages = torch.from_numpy(encoder.encode(["a play by Shakespeare", "a recipe"]))
        >>> target = retrieval(encoder, passages, torch.tensor([0]))
        >>> activation_attribution(encoder, tokens, target, tokens["attention_mask"], steps=2).shape
        (1, 6, 1536)
    """
    if rule not in ("left", "ends"):
        raise ValueError(f'activation_attribution: rule must be "left" or "ends", got {rule!r}')
    if steps < 1:
        raise ValueError(f"activation_attribution: steps must be at least 1, got {steps}")
    parts = feed_forwards(model, names)
    path = torch.linspace(0, 1, steps if rule == "ends" else steps + 1, dtype=torch.float64)
    alphas = path[:steps].tolist()
    layers = []
    with frozen(model):
        recorded = _Recorded(parts, tokens, target)
        for part in parts:
            activations = recorded.inputs[part.output_name]  # after the activation function
            gradient = mean_gradient(
                model,
                part,
                f"{part.output_name}:input",
                tokens,
                activations,
                positions,
                alphas,
                target,
                recorded.blocks,
                rows_at_once=rows_at_once,
            )
            layers.append((activations * gradient * positions[..., None]).sum(1).float())
    return torch.stack(layers, dim=1).numpy()


def neuron_activations(
    model: nn.Module,
    tokens: Tokens,
    positions: Tensor,
    *,
    names: Sequence[tuple[str, str]] = NAMES,
) -> Floats:
    """Computes the activations of neurons, the baseline of Dai et al. for attribution.

    Args:
        model: of transformers, called with the tokens as keywords.
        tokens: a batch of texts with their ``attention_mask``.
        positions: ``[texts, tokens]``, 1 where activations are summed: a [MASK].
        names: see `feed_forwards`.

    Returns:
        float32 ``[texts, layers, neurons]``.

    Raises:
        ValueError: a model without such sub-layers.

    Example:
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> tokens = encoder.pad(encoder.tokenize(["who wrote Hamlet"]))
        >>> neuron_activations(encoder.model, tokens, tokens["attention_mask"]).shape
        (1, 6, 1536)
    """
    parts = feed_forwards(model, names)
    with evaluating(model):
        recorded = _Recorded(parts, tokens, lambda own, _: model(**own))
    found = [recorded.inputs[part.output_name] for part in parts]
    return torch.stack([(x * positions[..., None]).sum(1).float() for x in found], dim=1).numpy()


def masked_word(model: nn.Module, answers: Tensor, mask_token: int) -> Target:
    """Returns the probability of the right word at a [MASK] as a target of attribution.

    Args:
        model: a masked language model of transformers, such as `MaskedLM.model`.
        answers: ``[texts]`` ids of the words.
        mask_token: id of [MASK]; each text has one.

    Returns:
        A function of a batch of tokens and the numbers of its texts: ``[rows]``.
    """

    def target(tokens: Tokens, rows: Tensor) -> Tensor:
        probabilities = mask_logits(model, tokens, mask_token).softmax(1)
        return probabilities.gather(1, answers[rows][:, None]).squeeze(1)

    return target


def retrieval(encoder: Encoder, passages: Tensor, relevant: Tensor) -> Target:
    """Returns the log-probability of the relevant passage as a target of attribution.

    Args:
        encoder: of queries.
        passages: embeddings ``[passages, dim]``, or ``[texts, passages, dim]`` for each text.
        relevant: ``[texts]`` number of the relevant passage.

    Returns:
        A function of a batch of tokens and the numbers of its texts: ``[rows]``.
    """

    def target(tokens: Tokens, rows: Tensor) -> Tensor:
        queries = encoder(tokens)
        own = passages[rows] if passages.ndim == 3 else passages.expand(len(rows), -1, -1)
        scores = torch.einsum("nd,npd->np", queries, own.to(queries.dtype))
        return -F.cross_entropy(scores, relevant[rows], reduction="none")

    return target


class _Recorded:
    """Records inputs and outputs of every sub-layer, and outputs of blocks, in a forward pass."""

    def __init__(self, parts: list[FeedForward], tokens: Tokens, target: Target) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self.blocks: list[Any] = []
        hooks = []
        for part in parts:
            for name, module in (
                (part.intermediate_name, part.intermediate),
                (part.output_name, part.output),
            ):
                hooks.append(module.register_forward_hook(self._keep(name)))
        for block in parts[0].blocks:
            hooks.append(block.register_forward_hook(lambda _, __, out: self.blocks.append(out)))
        try:
            with torch.no_grad():
                target(tokens, torch.arange(len(tokens["input_ids"])))
        finally:
            for hook in hooks:
                hook.remove()

    def _keep(self, name: str) -> Any:
        def keep(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            self.inputs[name], self.outputs[name] = args[0], out

        return keep
