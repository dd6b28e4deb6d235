"""Fits passages into prompts: the last ones that exceed a language model's length are left out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

Overflow = Literal["drop", "error"]
Join = Callable[[int, Sequence[str]], str]


class Reads(Protocol):
    """The interface that packing needs of a language model."""

    @property
    def max_length(self) -> int: ...

    def tokenize(self, texts: Sequence[str]) -> list[dict[str, list[int]]]: ...


class PackedPrompts(NamedTuple):
    """Prompts, and which passages each of them has."""

    prompts: list[str]
    kept: list[list[int]]  # places of the passages among those that were given, rising


def check_overflow(op: str, overflow: Any) -> None:
    """Raises ValueError, naming `op`, unless overflow is "drop" or "error"."""
    if overflow not in ("drop", "error"):
        raise ValueError(f"{op}: overflow must be 'drop' or 'error', got {overflow!r}")


def pack_passages(
    model: Reads,
    questions: Sequence[str],
    passages: Sequence[Sequence[str]],
    join: Join,
    *,
    op: str,
    endings: Sequence[Sequence[str]] | None = None,
    new_tokens: int = 0,
    overflow: Overflow = "drop",
    kept_longest: Sequence[Sequence[int]] | None = None,
) -> PackedPrompts:
    """Joins passages and questions into prompts that a language model can read.

    Args:
        model: tokenizes texts, and has the maximum number of their tokens.
        questions: n texts, for messages.
        passages: of each question, best first.
        join: returns the prompt of question i with some of its passages, perhaps none.
        op: starts the messages.
        endings: texts of which each must fit behind the prompt of a question; None for nothing.
        new_tokens: tokens that must fit behind these.
        overflow: "drop" leaves out passages of a question, the last ones first, until its prompt
            fits, and warns once with their number; "error" refuses. A prompt that is too long
            without any passage is returned as it is: the model refuses it.
        kept_longest: places of passages that are left out only after all others of their question.

    Returns:
        n prompts, and the places of the passages that each has.

    Raises:
        ValueError: overflow is "error", and a prompt is too long.

    Warns:
        UserWarning: passages were left out.

    Example:
        >>> class Words:
        ...     max_length = 4
        ...     def tokenize(self, texts):
        ...         return [{"input_ids": [0] * len(text.split())} for text in texts]
        >>> join = lambda row, kept: " ".join([*kept, "who?"])
        >>> pack_passages(Words(), ["who?"], [["a b", "c"]], join, op="ask")
        PackedPrompts(prompts=['a b c who?'], kept=[[0, 1]])
    """
    prompts, kept, left_out = [], [], []
    for row, own in enumerate(passages):
        ends = [""] if endings is None else endings[row]
        last = set() if kept_longest is None else set(kept_longest[row])
        places = list(range(len(own)))
        prompt = join(row, list(own))
        while places and not _fits(model, prompt, ends, new_tokens):
            if overflow == "error":
                raise ValueError(
                    f"{op}: a question with {len(own)} passages exceeds max_length "
                    f"{model.max_length}: {questions[row]!r:.60}; pass fewer or shorter ones, or "
                    f"overflow='drop'"
                )
            places.remove(max([place for place in places if place not in last] or places))
            prompt = join(row, [own[place] for place in places])
        prompts.append(prompt)
        kept.append(places)
        left_out.append(len(own) - len(places))
    if any(left_out):
        warnings.warn(
            f"{op}: left out the last {sum(left_out)} passages of {sum(map(bool, left_out))} of "
            f"{len(prompts)} questions, which exceed max_length {model.max_length}",
            stacklevel=4,
        )
    return PackedPrompts(prompts, kept)


def _fits(model: Reads, prompt: str, endings: Sequence[str], new_tokens: int) -> bool:
    try:
        tokens = model.tokenize([prompt + ending for ending in endings])
    except ValueError:  # longer than max_length by itself
        return False
    return max(len(one["input_ids"]) for one in tokens) + new_tokens <= model.max_length
