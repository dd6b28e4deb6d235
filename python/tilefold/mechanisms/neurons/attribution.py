"""Which neurons an output is owed to: integrated gradients of feed-forward sub-layers.

Of weights, as in the reproducibility study (its section 5.1): a row of a dense sub-layer's weights
is a neuron, and the length of the embedding is what is attributed. Of activations, as in Dai et
al., "Knowledge Neurons in Pretrained Transformers" (2022, section 3.1): for the probability of a
masked word, or for anything else that a model says of a text, such as which passage is relevant.
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
from .feedforward import NAMES, FeedForward, feed_forwards
from .path_gradients import Target, Tokens, frozen, mean_gradient

Floats = NDArray[np.float32]
_FIRST = 1e-6  # of the study's path, which it walks with both ends


class WeightAttribution(NamedTuple):
    """Of every text, layer and neuron how much the embedding's length is owed to its weights.

    Zeros for a text without any token.
    """

    intermediate: Floats  # [texts, layers, neurons]
    output: Floats  # [texts, layers, width]

    def relative(self) -> WeightAttribution:
        """Divided by the largest of each text over all layers and both sub-layers."""
        most = np.maximum(self.intermediate.max((1, 2)), self.output.max((1, 2)))
        scale = np.where(most > 0, most, np.float32(1))[:, None, None].astype(np.float32)
        return WeightAttribution(self.intermediate / scale, self.output / scale)

    def flat(self) -> Floats:
        """Neurons of both sub-layers, ``[texts, neurons]``."""
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
    """The study's attribution: what a sub-layer's weights and bias add to an embedding's length.

    For the weights W and bias b of a dense sub-layer, ``IG = W * mean over k of dP(alpha_k W,
    alpha_k b) / dW`` with P the length of the embedding, and alpha_k from 1e-6 to 1; neuron i has
    ``a_i = sum over j of |IG_ij|``. Scaling W and b scales what the sub-layer says, and ``dP/dW``
    is the product of the gradient of that with the input: gradients of what it says are averaged,
    and those of weights are never formed.

    Args:
        encoder: its embedding is taken before it is normalised.
        texts: strings.
        steps: of the path.
        batch_size: texts at once.
        rows_at_once: texts times steps in a forward pass.
        names: see `feed_forwards`.
        progress: a bar on stderr when that is a terminal; a string labels it.

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
                    heard, said = recorded.heard[name], recorded.said[name]
                    gradient = mean_gradient(
                        plain,
                        part,
                        name,
                        tokens,
                        said,
                        tokens["attention_mask"],
                        alphas,
                        length,
                        recorded.blocks,
                        rows_at_once=rows_at_once,
                    )
                    for row, g, x in zip(rows, gradient, heard, strict=True):
                        into[row, layer] = _row_sums(module.weight, g, x).numpy()
    return found


def _row_sums(weight: Tensor, gradient: Tensor, heard: Tensor) -> Tensor:
    """``sum over j of |W * G^T X|``, of one text."""
    return (weight * (gradient.T @ heard)).abs().sum(1)


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
    """How much of a target is owed to each neuron's activation, ``[texts, layers, neurons]``.

    Of a layer all neurons are scaled together, from 0 to what they are, at some positions:
    ``w * mean over k of dP(alpha_k w) / dw``, summed over the positions. Added up over neurons that
    is nearly P(1) - P(0), the more steps the nearer (completeness).

    Args:
        model: what `target` calls, of transformers.
        tokens: a batch of texts with their ``attention_mask``.
        target: of tokens and the rows of texts that they are, a number each.
        positions: ``[texts, tokens]``, 1 where neurons are scaled: a [MASK], or every token.
        steps: of the path.
        rule: "left" takes k / steps from 0 (Dai et al.'s code), "ends" both ends (EasyEdit's).
        rows_at_once: texts times steps in a forward pass.
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
            said = recorded.heard[part.output_name]  # after the activation function
            gradient = mean_gradient(
                model,
                part,
                f"{part.output_name}:input",
                tokens,
                said,
                positions,
                alphas,
                target,
                recorded.blocks,
                rows_at_once=rows_at_once,
            )
            layers.append((said * gradient * positions[..., None]).sum(1).float())
    return torch.stack(layers, dim=1).numpy()


def neuron_activations(
    model: nn.Module,
    tokens: Tokens,
    positions: Tensor,
    *,
    names: Sequence[tuple[str, str]] = NAMES,
) -> Floats:
    """Activations of neurons, ``[texts, layers, neurons]``: Dai et al.'s baseline of attribution.

    Args:
        model: of transformers, called with the tokens as keywords.
        tokens: a batch of texts with their ``attention_mask``.
        positions: ``[texts, tokens]``, 1 where activations are added up: a [MASK].
        names: see `feed_forwards`.

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
    heard = [recorded.heard[part.output_name] for part in parts]
    return torch.stack([(x * positions[..., None]).sum(1).float() for x in heard], dim=1).numpy()


def masked_word(model: nn.Module, answers: Tensor, mask_token: int) -> Target:
    """The probability of the right word at a [MASK], for `activation_attribution`.

    Args:
        model: with a masked language model's head.
        answers: ``[texts]`` ids of the words.
        mask_token: id of [MASK]; each text has one.

    Returns:
        A function of a batch of tokens and the rows of texts that they are: ``[rows]``.
    """

    def target(tokens: Tokens, rows: Tensor) -> Tensor:
        logits: Tensor = model(**tokens).logits
        place = (tokens["input_ids"] == mask_token).int().argmax(1)
        said = logits[torch.arange(len(rows)), place].softmax(1)
        return said.gather(1, answers[rows][:, None]).squeeze(1)

    return target


def retrieval(encoder: Encoder, passages: Tensor, relevant: Tensor) -> Target:
    """The log-probability of the relevant passage, for `activation_attribution`.

    Args:
        encoder: of queries.
        passages: ``[passages, dim]`` or, for each text its own, ``[texts, passages, dim]``.
        relevant: ``[texts]`` which is right.

    Returns:
        A function of a batch of tokens and the rows of texts that they are: ``[rows]``.
    """

    def target(tokens: Tokens, rows: Tensor) -> Tensor:
        queries = encoder(tokens)
        own = passages[rows] if passages.ndim == 3 else passages.expand(len(rows), -1, -1)
        scores = torch.einsum("nd,npd->np", queries, own.to(queries.dtype))
        return -F.cross_entropy(scores, relevant[rows], reduction="none")

    return target


class _Recorded:
    """What every sub-layer hears and says, and what blocks say, in one forward pass."""

    def __init__(self, parts: list[FeedForward], tokens: Tokens, target: Target) -> None:
        self.heard: dict[str, Tensor] = {}
        self.said: dict[str, Tensor] = {}
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
            self.heard[name], self.said[name] = args[0], out

        return keep
