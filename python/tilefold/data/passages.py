"""What every format of training data comes down to: a query and the passages listed for it."""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .lines import Place

Join = Callable[[str, str], str]

TITLE_FORMAT = "{title} {text}"
PROMPT_FORMAT = "{prompt} {query}"


class Passage(NamedTuple):
    """A document as a record lists it."""

    text: str
    title: str = ""
    name: str = ""  # "" where the format has no ids
    score: float = math.nan  # a teacher's; NaN where the record has none

    def identity(self) -> str:
        """The id, or else a digest of title and text: the same passage twice is one document."""
        if self.name:
            return self.name
        return hashlib.blake2b(f"{self.title}\0{self.text}".encode(), digest_size=16).hexdigest()


class Example(NamedTuple):
    """A query with what one record says of it."""

    place: Place
    query: str
    positives: Sequence[Passage]
    negatives: Sequence[Passage]
    name: str = ""  # "" where the format has no ids
    prompt: str = ""  # the instruction that belongs before the query
    answers: tuple[str, ...] = ()
    partial: bool = False  # other records may list more passages for the same query


def joined(template: str, first: str, second: str, option: str) -> Join:
    """The function that puts two texts in a template, and gives the second where the first is "".

    >>> join = joined("{title} [SEP] {text}", "title", "text", "title_format")
    >>> join("Rome", "A city."), join("", "A city.")
    ('Rome [SEP] A city.', 'A city.')

    Raises:
        ValueError: the template names anything else, or lacks the second.
    """
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise ValueError(f"{option}: cannot read {template!r}: {error}") from error
    if second not in names or not names <= {first, second}:
        raise ValueError(
            f"{option}: expected a template of {{{first}}} and {{{second}}}, got {template!r}"
        )

    def join(one: str, other: str) -> str:
        return template.format(**{first: one, second: other}).strip() if one else other

    return join


def joined_title(title_format: str) -> Join:
    """The function that puts title and text together."""
    return joined(title_format, "title", "text", "title_format")


def joined_prompt(query_format: str) -> Join:
    """The function that puts prompt and query together."""
    return joined(query_format, "prompt", "query", "query_format")
