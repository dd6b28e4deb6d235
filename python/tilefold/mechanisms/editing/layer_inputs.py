"""Runs a model over ordinary texts, and reads what the tokens bring to a feed-forward layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...models import CausalLM, Encoder, MaskedLM
from ...models.length_batches import Tokens, by_length, evaluating
from ..neurons.feedforward import FeedForward

TextReader = MaskedLM | CausalLM | Encoder


@contextlib.contextmanager
def reading(
    model: TextReader, texts: Sequence[str], *, batch_size: int = 32, progress: bool | str = False
) -> Iterator[Iterator[Mapping[str, Tensor]]]:
    """Iterates over padded batches of texts, with dropout and gradients off.

    Args:
        model: a language model or an encoder.
        texts: strings; one beyond max_length is truncated.
        batch_size: texts in a batch.
        progress: whether to show progress on stderr; a string labels it.
    """

    def tokenize(some: Sequence[str]) -> list[Tokens]:
        read: Any = model.tokenizer(list(some), truncation=True, max_length=model.max_length)
        return [{name: read[name][row] for name in read} for row in range(len(some))]

    batches = by_length(
        texts, tokenize, batch_size=batch_size, max_length=model.max_length, progress=progress
    )
    with evaluating(model), torch.inference_mode(), contextlib.closing(batches):
        yield (model.pad(tokens) for _, tokens in batches)


def below_head(model: TextReader) -> nn.Module:
    """Returns the transformer without the head, whose logits texts do not need."""
    whole: Any = model.model
    below: nn.Module = getattr(whole, "base_model", whole)
    return below


def layer_inputs(
    model: TextReader, part: FeedForward, texts: Sequence[str], *, limit: int, seed: int = 0
) -> Tensor:
    """Returns the states that tokens of texts bring to a feed-forward sub-layer.

    Args:
        model: a language model or an encoder.
        part: the sub-layer.
        texts: strings.
        limit: maximum number of tokens; of more, some are drawn.
        seed: of the draw.

    Returns:
        float32 ``[tokens, hidden]``, padding left out.
    """
    found: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append(args[0].float())

    states = []
    hook = part.intermediate.register_forward_pre_hook(keep)
    try:
        with reading(model, texts) as batches:
            for tokens in batches:
                below_head(model)(**tokens)
                counts = tokens["attention_mask"].reshape(-1) > 0
                states.append(found.pop().flatten(0, -2)[counts])
    finally:
        hook.remove()
    every = torch.cat(states).clone()  # an ordinary tensor, which autograd can keep
    if len(every) <= limit:
        return every
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
    return every[order[:limit].sort().values.to(every.device)]
