"""Computes attribution scores of activations of neurons by integrated gradients.

As in Dai et al., "Knowledge Neurons in Pretrained Transformers" (2022, section 3.1): the target is
the probability of a masked word, or any other function of a model's output, such as the
log-probability of the relevant passage; see `masked_word` and `retrieval`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...models.length_batches import evaluating
from .completeness import warn_of_gap
from .feedforward import NAMES, check_widths, feed_forwards
from .path_gradients import frozen, mean_gradient
from .recorded_pass import RecordedPass, Target, Tokens

Floats = NDArray[np.float32]


class ActivationAttribution(NamedTuple):
    """Attribution scores of neurons' activations for each text and layer."""

    scores: Floats  # [texts, layers, neurons]
    # [texts, layers]: the sum of scores, without the target's change between activations of 0 and
    # the model's own. 0 for infinitely many steps.
    gap: Floats


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
) -> ActivationAttribution:
    """Computes attribution scores of a target to each neuron's activation.

    All neurons of a layer are scaled together from 0 to their activations w, at some positions:
    ``w * mean over k of dP(alpha_k w) / dw``, summed over the positions (Dai et al., 2022, equation
    3). The sum over neurons tends to P(1) - P(0) as steps grow (completeness). Neurons of a layer
    that several blocks share are scaled in all of them, and their scores are summed.

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

    Returns:
        Scores, and the gaps of completeness.

    Raises:
        ValueError: a model without such sub-layers, an unknown rule, no step, positions of another
            shape than activations have.

    Warns:
        IncompleteAttributionWarning: a text's gap is above a quarter of the largest change that a
            layer makes.

    Example:
        >>> from tilefold.models import minilm
        >>> encoder = minilm()
        >>> tokens = encoder.pad(encoder.tokenize(["who wrote Hamlet"]))
        >>> passages = torch.from_numpy(encoder.encode(["a play by Shakespeare", "a recipe"]))
        >>> from tilefold.mechanisms import retrieval
        >>> target = retrieval(encoder, passages, torch.tensor([0]))
        >>> everywhere = tokens["attention_mask"]
        >>> activation_attribution(encoder, tokens, target, everywhere, steps=8).scores.shape
        (1, 6, 1536)
    """
    if rule not in ("left", "ends"):
        raise ValueError(f'activation_attribution: rule must be "left" or "ends", got {rule!r}')
    if steps < 1:
        raise ValueError(f"activation_attribution: steps must be at least 1, got {steps}")
    parts = feed_forwards(model, names)
    check_widths("activation_attribution", parts)
    path = torch.linspace(0, 1, steps if rule == "ends" else steps + 1, dtype=torch.float64)
    layers, explained, first = [], [], []
    with frozen(model):
        recorded = RecordedPass(parts, tokens, positions.shape, target)
        for part in parts:
            activations = recorded.inputs(part.output_name)  # after the activation function
            mean = mean_gradient(
                model,
                part,
                f"{part.output_name}:input",
                tokens,
                activations,
                positions,
                path[:steps].tolist(),
                target,
                recorded,
                rows_at_once=rows_at_once,
            )
            runs = zip(activations, mean.gradients, strict=True)
            scores = [(x * gradient * positions[..., None]).sum(1).float() for x, gradient in runs]
            layers.append(torch.stack(scores).sum(0) if len(scores) > 1 else scores[0])
            explained.append(layers[-1].double().sum(1))
            first.append(mean.first.double())
    effects = recorded.reached.double()[:, None] - torch.stack(first, dim=1)
    gaps = torch.stack(explained, dim=1) - effects
    warn_of_gap("activation_attribution", gaps, effects, steps)
    return ActivationAttribution(torch.stack(layers, dim=1).numpy(), gaps.float().numpy())


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
        float32 ``[texts, layers, neurons]``; of a layer that several blocks share, the sum.

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
    check_widths("neuron_activations", parts)

    def run(own: Tokens, _: Tensor) -> Tensor:
        model(**own)
        return torch.zeros(0)

    with evaluating(model):
        recorded = RecordedPass(parts, tokens, positions.shape, run)
    found = []
    for part in parts:
        runs = recorded.inputs(part.output_name)
        x = runs[0] if len(runs) == 1 else torch.stack(runs).sum(0)
        found.append((x * positions[..., None]).sum(1).float())
    return torch.stack(found, dim=1).numpy()
