"""Rewrites queries so that they say less: keywords, a word left out, vaguer words."""

from __future__ import annotations

import re
from typing import ClassVar

from .rewriter import RuleRewriter

# Words without a meaning of their own; the "s" is that of a genitive.
_FUNCTION_WORDS = (
    "a an the this that these those some any my your his her its our their i you he she it we they "
    "me him us them is was are were am be been being do does did has have had having can could "
    "will would shall should may might must to of in on at by for from with as into onto about "
    "between and or but so than then there here not no if who whom whose what which where when why "
    "how many much please s"
)
_EMPTY_WORDS = frozenset(_FUNCTION_WORDS.split())
_FEWEST_WORDS = 3  # words with meaning, for one of them to be left out
_VAGUER = (
    (re.compile(r"\b(?:1\d{3}|20\d{2})\b"), "some year"),
    (re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)?(?![\w.,]*\w)"), "some"),
    (re.compile(r"\bwho\b", re.IGNORECASE), "what kind of person"),
    (re.compile(r"\bwhere\b", re.IGNORECASE), "in what sort of place"),
    (re.compile(r"\bwhen\b", re.IGNORECASE), "around what time"),
    (re.compile(r"\b(?:how (?:many|much))\b", re.IGNORECASE), "roughly what amount of"),
    (re.compile(r"\bwhich\b", re.IGNORECASE), "what kind of"),
)
_WORD = re.compile(r"\w+(?:['\u2019.\-]\w+)*")


class AmbiguityRewriter(RuleRewriter):
    """Leaves out or blurs words of queries, as people do who do not say exactly what they want.

    Rewrites are the keywords alone, the query without one of its words with meaning (if it has
    three), and the query with a vaguer question word or number. Some of them fit other documents as
    well as their own, so that a retriever cannot be asked to rank as it does for the query.

    Args:
        seed: of the random choices.

    Raises:
        TypeError: the seed is no integer.
        ValueError: a negative seed.

    Example:
        >>> rewriter = AmbiguityRewriter()
        >>> sorted(rewriter.rewrite(["who wrote emma"], draw=draw)[0] for draw in range(2))
        ['what kind of person wrote emma', 'wrote emma']
    """

    family: ClassVar[str] = "ambiguity"

    def _rewrite(self, query: str, draw: int) -> str | None:
        found = [_keywords(query), *_without_a_word(query), *_vaguer(query)]
        return self._chosen(query, [[text for text in dict.fromkeys(found) if text]], draw)


def _meaningful(query: str) -> list[re.Match[str]]:
    return [word for word in _WORD.finditer(query) if word[0].lower() not in _EMPTY_WORDS]


def _keywords(query: str) -> str:
    """Returns the words with meaning, or "" if these are all words, or fewer than two."""
    kept = [word[0] for word in _meaningful(query)]
    return "" if len(kept) < 2 or len(kept) == len(_WORD.findall(query)) else " ".join(kept)


def _without_a_word(query: str) -> list[str]:
    """Returns the query without each of its words with meaning."""
    words = _meaningful(query)
    if len(words) < _FEWEST_WORDS:
        return []
    parts = [(query[: word.start()].rstrip(), query[word.end() :]) for word in words]
    return [(before + after).strip() for before, after in parts]


def _vaguer(query: str) -> list[str]:
    """Returns the query with a vaguer expression for each question word and number."""
    found = []
    for pattern, vague in _VAGUER:
        match = pattern.search(query)
        if match:
            word = vague[:1].upper() + vague[1:] if match[0][:1].isupper() else vague
            found.append(query[: match.start()] + word + query[match.end() :])
    return found
