"""The records that every format of training data is read into: a query and its passages."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

from .lines import Place


class Passage(NamedTuple):
    """A document as a record lists it: title and text are not joined."""

    text: str
    title: str = ""
    name: str = ""  # "" where the format has no ids
    score: float = math.nan  # a teacher's; NaN where the record has none

    def identity(self) -> str:
        """Returns the id, or else a digest of title and text, so that repeated passages are one."""
        if self.name:
            return self.name
        return hashlib.blake2b(f"{self.title}\0{self.text}".encode(), digest_size=16).hexdigest()


class Example(NamedTuple):
    """One record: a query with its passages, prompt and answers."""

    place: Place
    query: str
    positives: Sequence[Passage]
    negatives: Sequence[Passage]
    name: str = ""  # "" where the format has no ids
    prompt: str = ""  # the instruction that goes with the query
    answers: tuple[str, ...] = ()
    partial: bool = False  # other records may list more passages for the same query
