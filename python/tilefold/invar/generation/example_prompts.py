"""Turns examples into prompts and answers that fit into a language model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

from ...models import CausalLM
from ...models.passage_packing import Overflow, check_overflow, pack_passages
from .reading_examples import ReadingExample
from .reading_template import ReadingTemplate


class ExamplePrompts(NamedTuple):
    """Prompts of examples with the answers that follow them."""

    prompts: list[str]
    answers: list[str]  # with the blank, or what else the template puts before them
    gold: list[bool]  # whether the prompt has a gold passage


def example_prompts(
    model: CausalLM,
    examples: Sequence[ReadingExample],
    template: ReadingTemplate,
    *,
    overflow: Overflow = "drop",
) -> ExamplePrompts:
    """Formats examples, leaving out passages that do not fit beside their answers.

    Passages are left out from the last one on, gold passages after all others.

    Args:
        model: whose max_length holds prompt, answer and end-of-sequence token.
        examples: of `reading_examples`.
        template: of prompts.
        overflow: "drop", or "error" for examples that do not fit with all of their passages.

    Raises:
        ValueError: overflow is "error", and an example does not fit.

    Warns:
        UserWarning: passages were left out; among them gold ones.
    """
    op = "example_prompts"
    check_overflow(op, overflow)
    answers = [template.answer(example.answer) for example in examples]
    packed = pack_passages(
        model,
        [example.question for example in examples],
        [example.passages for example in examples],
        lambda row, kept: template.prompt(examples[row].question, kept),
        op=op,
        endings=[[answer] for answer in answers],
        new_tokens=1,  # the end-of-sequence token
        overflow=overflow,
        kept_longest=[example.gold for example in examples],
    )
    gold = [
        bool(set(example.gold) & set(kept))
        for example, kept in zip(examples, packed.kept, strict=True)
    ]
    lost = sum(bool(example.gold) for example in examples) - sum(gold)
    if lost:
        warnings.warn(
            f"{op}: {lost} of {len(examples)} examples lost all of their gold passages, as they "
            f"exceed max_length {model.max_length}",
            stacklevel=2,
        )
    return ExamplePrompts(packed.prompts, answers, gold)
