"""Generates invented names: pronounceable, distinct, the same for the same seed."""

from __future__ import annotations

from collections.abc import Container

import numpy as np

_ONSETS = [*"bdghjklmnprstvwz", "br", "dr", "fr", "gr", "kr", "pr", "st", "tr"]
_VOWELS = [*"aeiou", "ai", "ei", "ou"]
_CODAS = ["", "", "n", "r", "l", "s", "k", "m", "th"]
_ENDINGS = {
    "person": ["", "o", "a", "ek", "in"],
    "city": ["burg", "ton", "ford", "grad", "mar"],
    "company": ["corp", "works", "line", "tex", "bros"],
    "language": ["ish", "ese", "ian"],
    "country": ["land", "ia", "stan"],
    "river": ["", "a", "er"],
}


def make_names(
    rng: np.random.Generator, kind: str, n: int, taken: Container[str] = frozenset()
) -> list[str]:
    """Generates distinct words of a kind, such as "Kreitonburg".

    Args:
        rng: random generator.
        kind: "person", "city", "company", "language", "country" or "river".
        n: number of words.
        taken: words that must not be generated.
    """
    found: dict[str, None] = {}
    while len(found) < n:
        syllables = (
            str(rng.choice(_ONSETS)) + str(rng.choice(_VOWELS)) + str(rng.choice(_CODAS))
            for _ in range(2)
        )
        word = "".join(syllables) + str(rng.choice(_ENDINGS[kind]))
        if word.capitalize() not in taken:
            found[word.capitalize()] = None
    return list(found)
