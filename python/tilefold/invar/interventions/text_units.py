"""Finds the units of a text that windows count: words, characters, tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["words", "characters", "tokens"]
UNITS: tuple[Unit, ...] = ("words", "characters", "tokens")
Spans = tuple[NDArray[np.int64], NDArray[np.int64]]  # first characters, and those behind the last

_WORD = re.compile(r"\S+")
_TEXTS = 1024  # tokenized at a time


def unit_spans(texts: Sequence[str], unit: Unit, tokenizer: Any) -> Iterator[Spans]:
    """Yields where the units of each text begin and end, as characters.

    Args:
        texts: strings.
        unit: of the spans.
        tokenizer: a fast one for tokens; special tokens are not counted.

    Example:
        >>> [(starts.tolist(), ends.tolist()) for starts, ends in unit_spans(["to be"], "words", 0)]
        [([0, 3], [2, 5])]
    """
    if unit == "tokens":
        for begin in range(0, len(texts), _TEXTS):
            some = list(texts[begin : begin + _TEXTS])
            batch = tokenizer(
                some, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            for offsets in batch["offset_mapping"]:
                # A token of a part of a character has the span of the whole one.
                table = np.array(offsets, np.int64).reshape(-1, 2)
                yield table[:, 0], table[:, 1]
        return
    for text in texts:
        if unit == "characters":
            starts = np.arange(len(text))
            yield starts, starts + 1
        else:
            found = np.array([word.span() for word in _WORD.finditer(text)], np.int64)
            yield found.reshape(-1, 2)[:, 0], found.reshape(-1, 2)[:, 1]


def count_units(text: str, unit: Unit, tokenizer: Any) -> int:
    """Counts the units of one text; of tokens also the special ones around it.

    Example:
        >>> count_units("passage: Hens", "words", None)
        2
    """
    if unit == "tokens":
        return len(tokenizer(text, verbose=False)["input_ids"])
    return len(text) if unit == "characters" else len(text.split())
