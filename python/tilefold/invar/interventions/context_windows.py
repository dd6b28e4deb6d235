"""Resizes context windows: documents in chunks, or cut off, by words, characters or tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data.prompts import TITLE_FORMAT, check_title_format
from ...integers import as_integer
from .text_units import UNITS, Unit, count_units, unit_spans


class Chunks(NamedTuple):
    """Texts of a window, and the document that each is part of."""

    texts: list[str]
    owners: NDArray[np.int64]  # [chunks], ascending


@dataclass(frozen=True)
class Window:
    """A context window: how much of a document is one text.

    Args:
        size: of a chunk, in units.
        stride: units between the beginnings of two chunks; by default as many as a chunk has,
            without overlap.
        truncate: keep the first chunk of a document alone.
        unit: "words" (what white space separates), "characters", or "tokens".
        tokenizer: a fast tokenizer of transformers, for tokens. A chunk that is tokenized by itself
            may have a token more than its share of the document.
        template: of {title} and {text}, such as "passage: {title} {text}", where the window is to
            hold that whole text: what it adds to the text takes its part of `size`, and so do the
            special tokens of the tokenizer. None for a window of the text alone.

    Raises:
        TypeError: numbers that are no integers.
        ValueError: less than one unit; a stride outside 1 to size, or of a window that truncates;
            an unknown unit; no tokenizer for tokens, a slow one, or one for another unit; other
            fields in the template; a size that the template alone fills.

    Example:
        >>> Window(2).chunks(["a b c", "d"])
        Chunks(texts=['a b', 'c', 'd'], owners=array([0, 0, 1]))
        >>> Window(4, truncate=True, template="passage: {title} {text}").chunks(["a b c"], ["T"])
        Chunks(texts=['a b'], owners=array([0]))
    """

    size: int
    stride: int | None = None
    truncate: bool = False
    unit: Unit = "words"
    tokenizer: Any = None
    template: str | None = None

    def __post_init__(self) -> None:
        if as_integer(self.size, "Window", "size") < 1:
            raise ValueError(f"Window: size must be 1 or more, got {self.size}")
        if self.stride is not None:
            if not 1 <= as_integer(self.stride, "Window", "stride") <= self.size:
                raise ValueError(f"Window: stride must be 1 to {self.size}, got {self.stride}")
            if self.truncate:
                raise ValueError("Window: stride has no effect where documents are truncated")
        if self.unit not in UNITS:
            raise ValueError(f"Window: unit must be one of {UNITS}, got {self.unit!r}")
        if (self.unit == "tokens") != (self.tokenizer is not None):
            raise ValueError(
                f"Window: unit 'tokens', and no other, needs a tokenizer; got unit {self.unit!r} "
                f"and {'no' if self.tokenizer is None else 'a'} tokenizer"
            )
        if self.tokenizer is not None and not getattr(self.tokenizer, "is_fast", False):
            raise ValueError(
                f"Window: tokenizer must be a fast one, which knows the characters of a token, got "
                f"{type(self.tokenizer).__name__}"
            )
        if self.template is not None:
            check_title_format(self.template, "Window")
            self._room("", "without a title")

    @property
    def name(self) -> str:
        """How reports name it."""
        within = "" if self.template is None else ", template included"
        if self.truncate:
            return f"first {self.size} {self.unit}{within}"
        overlap = "" if self.stride in (None, self.size) else f" every {self.stride}"
        return f"chunks of {self.size} {self.unit}{overlap}{within}"

    def chunks(self, documents: Sequence[str], titles: Sequence[str] | None = None) -> Chunks:
        """Cuts documents; each chunk is a piece of the text as it stands.

        A document that fits is its own chunk, unchanged. A chunk that would only repeat the end of
        the one before it is left out, and so is one of white space alone, unless the document has
        no other.

        Args:
            documents: texts.
            titles: of the documents, where the template has {title}; by default none.

        Raises:
            ValueError: titles without a {title} in the template, or not one for each document; the
                template fills the window of a document, or leaves less room than the stride.
        """
        titles = self._checked_titles(documents, titles)
        texts: list[str] = []
        owners: list[int] = []
        spans = unit_spans(documents, self.unit, self.tokenizer)
        for row, (text, (starts, ends)) in enumerate(zip(documents, spans, strict=True)):
            room = self._room(titles[row], f"for document {row}")
            stride = room if self.stride is None else self.stride
            if stride > room:
                raise ValueError(
                    f"Window: the template leaves room for {room} {self.unit} of document {row}, "
                    f"fewer than the stride, {stride}; words between chunks would be lost"
                )
            own = _pieces(text, starts, ends, room, stride, self.truncate)
            texts += own
            owners += [row] * len(own)
        return Chunks(texts, np.array(owners, np.int64))

    def _room(self, title: str, where: str) -> int:
        """Returns the units that the template leaves for the text."""
        if self.template is None:
            return self.size
        around = self.template.format(title=title, text="")
        used = count_units(around, self.unit, self.tokenizer)
        if used >= self.size:
            raise ValueError(
                f"Window: size of {self.size} {self.unit} is no larger than the template {where}, "
                f"{used} {self.unit}; no text would be left"
            )
        return self.size - used

    def _checked_titles(
        self, documents: Sequence[str], titles: Sequence[str] | None
    ) -> Sequence[str]:
        if titles is None:
            return [""] * len(documents)
        if len(titles) != len(documents):
            raise ValueError(f"Window: expected {len(documents)} titles, got {len(titles)}")
        if self.template is None or "{title}" not in self.template:
            raise ValueError(
                "Window: titles have no effect without a template that has {title}, such as "
                f"{TITLE_FORMAT!r}"
            )
        return titles


def _pieces(
    text: str,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    room: int,
    stride: int,
    truncate: bool,
) -> list[str]:
    """Cuts one text at the characters where its units start and end."""
    n = len(starts)
    if n <= room:
        return [text]
    begins = range(0, 1 if truncate else n - room + stride, stride)
    pieces = [text[starts[begin] : ends[min(begin + room, n) - 1]] for begin in begins]
    return [piece for piece in pieces if piece.strip()] or pieces[:1]
