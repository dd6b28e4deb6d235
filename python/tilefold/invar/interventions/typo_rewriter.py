"""Rewrites queries with typing errors: letters swapped, left out, doubled, or a key beside it."""

from __future__ import annotations

import re
from typing import ClassVar

from numpy.random import Generator

from ...integers import as_integer
from .rewriter import RuleRewriter

_WORD = re.compile(r"[^\W\d_]{4,}")  # shorter words turn into other words too easily
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_BESIDE = {
    key: [row[near] for near in (place - 1, place + 1) if 0 <= near < len(row)]
    for row in _ROWS
    for place, key in enumerate(row)
}
_ERRORS = ("swap", "drop", "double", "beside")


class TypoRewriter(RuleRewriter):
    """Puts typing errors into words of four letters or more; their first letter stays.

    An error swaps two letters, leaves one out, doubles one, or takes the key beside it (QWERTY).

    Args:
        n_typos: words with an error, as far as a query has that many such words.
        seed: of the random choices.

    Raises:
        TypeError: no integers.
        ValueError: n_typos below 1; a negative seed.

    Example:
        >>> TypoRewriter(seed=1).rewrite(["who wrote emma", "why"], draw=0)
        ['who wrote emmma', None]
    """

    family: ClassVar[str] = "typo"

    def __init__(self, *, n_typos: int = 1, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.n_typos = as_integer(n_typos, "TypoRewriter", "n_typos")
        if self.n_typos < 1:
            raise ValueError(f"TypoRewriter: n_typos must be 1 or more, got {n_typos}")

    def _rewrite(self, query: str, draw: int) -> str | None:
        words = list(_WORD.finditer(query))
        if not words:
            return None
        rng = self._generator(query, self.n_typos, draw)
        chosen = rng.permutation(len(words))[: self.n_typos]
        # From the last word on, so that the places of words before it stay right.
        for place in sorted(map(int, chosen), reverse=True):
            start, end = words[place].span()
            query = query[:start] + _misspelt(query[start:end], rng) + query[end:]
        return query


def _misspelt(word: str, rng: Generator) -> str:
    """Returns a word with one error, which equals it where equal letters are swapped."""
    error = _ERRORS[rng.integers(len(_ERRORS))]
    at = int(rng.integers(1, len(word) - 1))  # neither the first letter nor the last
    letter, following = word[at], word[at + 1]
    if error == "swap":
        return word[:at] + following + letter + word[at + 2 :]
    if error == "drop":
        return word[:at] + word[at + 1 :]
    beside = _BESIDE.get(letter.lower())
    if error == "double" or beside is None:
        return word[:at] + letter + word[at:]
    key = beside[rng.integers(len(beside))]
    return word[:at] + (key.upper() if letter.isupper() else key) + word[at + 1 :]
