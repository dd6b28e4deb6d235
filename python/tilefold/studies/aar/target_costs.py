"""Computes what an answer of each target LM costs, from shapes and lengths of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ...aar import TargetLM
    from ...models import BiEncoder

_QUESTIONS = 32  # of a task, whose mean is taken
_NEW_TOKENS = 8  # of an answer, which is short in all tasks


def retrieval_cost(retriever: BiEncoder, queries: Sequence[str]) -> float:
    """Returns the mean FLOPs of encoding a query; NaN for a model whose layers are not known."""
    from ...aar import encoding_flops

    encoder = retriever.query_encoder
    shape = _shape(encoder.model)
    if shape is None:
        return float("nan")
    tokens = encoder.tokenize(list(queries[:_QUESTIONS]))
    return float(np.mean([encoding_flops(shape, [len(one["input_ids"])]) for one in tokens]))


def answer_cost(
    target: TargetLM,
    prompts: Sequence[str],
    passages: Sequence[Sequence[str]],
    *,
    new_tokens: int = _NEW_TOKENS,
) -> float:
    """Returns the mean FLOPs of an answer; NaN for a service, or layers that are not known.

    Args:
        target: the LM.
        prompts: of questions.
        passages: that it reads with each.
        new_tokens: that it writes.
    """
    model: Any = getattr(target, "model", None)
    shape = None if model is None else _shape(model.model)
    if shape is None:
        return float("nan")
    rows = list(zip(prompts, passages, strict=True))[:_QUESTIONS]
    return float(np.mean([_answer(model, shape, *row, new_tokens) for row in rows]))


def _answer(model: Any, shape: Any, prompt: str, passages: Sequence[str], new_tokens: int) -> float:
    from ...aar import causal_flops, fusion_flops
    from ...aar.prompt_templates import fused_prompts
    from ...aar.targets.concatenated_target import joined_prompt
    from ...models import FusionInDecoder

    if isinstance(model, FusionInDecoder):
        (texts,) = fused_prompts([prompt], [list(passages)])
        return fusion_flops(shape, model.tokenize([texts])[0]["lengths"], new_tokens)
    # The target leaves out passages that do not fit.
    tokens = len(model.tokenizer(joined_prompt(prompt, passages))["input_ids"])
    return causal_flops(shape, min(tokens, model.max_length - new_tokens), new_tokens)


def _shape(model: Any) -> Any:
    from ...aar import TransformerShape

    try:
        return TransformerShape.of(model.config)
    except ValueError:
        return None
