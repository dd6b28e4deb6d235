"""Rewrites queries in a more formal or a more casual register."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from .question_forms import is_question, lowered_start, styled
from .rewriter import RuleRewriter

Register = Literal["formal", "casual"]
REGISTERS: tuple[Register, ...] = ("formal", "casual")

# "'s" of "he's" and "it's" may also be "has"; before a participle either reads well enough.
_CONTRACTIONS = {
    "what is": "what's",
    "who is": "who's",
    "where is": "where's",
    "when is": "when's",
    "how is": "how's",
    "that is": "that's",
    "it is": "it's",
    "i am": "i'm",
    "i have": "i've",
    "i would": "i'd",
    "they are": "they're",
    "you are": "you're",
    "we are": "we're",
    "cannot": "can't",
    "do not": "don't",
    "does not": "doesn't",
    "did not": "didn't",
    "is not": "isn't",
    "are not": "aren't",
    "was not": "wasn't",
    "were not": "weren't",
    "will not": "won't",
    "would not": "wouldn't",
    "have not": "haven't",
    "has not": "hasn't",
}
_BOTH_WAYS = {
    "going to": "gonna",
    "want to": "wanna",
    "children": "kids",
    "television": "tv",
    "photograph": "photo",
    "photographs": "photos",
    "information": "info",
    "application": "app",
    "advertisements": "ads",
    "purchase": "buy",
    "motion picture": "movie",
    "automobile": "car",
    "mathematics": "maths",
    "telephone": "phone",
}
# One way only: the way back would be wrong more often than not.
_TO_FORMAL = {
    "started": "commenced",
    "begin": "commence",
    "began": "commenced",
    "bought": "purchased",
    "wanted": "desired",
    "need": "require",
    "needs": "requires",
    "how come": "for what reason",
    "get rid of": "remove",
}
_TO_CASUAL = {
    "people": "folks",
    "because": "cuz",
    "please": "pls",
    "physician": "doctor",
    "approximately": "about",
    "assistance": "help",
    "obtain": "get",
    "require": "need",
    "remove": "get rid of",
    "commence": "start",
    "individuals": "people",
    "currently": "right now",
    "father": "dad",
    "mother": "mom",
    "film": "movie",
}
_OPENERS: Mapping[Register, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "formal": (  # of questions, and of other texts
        ("I should like to enquire: {query}", "Kindly advise: {query}", "May I ask: {query}"),
        ("I hereby request information on: {query}", "Kindly provide material on: {query}"),
    ),
    "casual": (
        ("Hey, {query}", "So, like, {query}", "Ok so {query}", "Quick one, {query}"),
        ("Hey, anything on this: {query}", "Got anything about: {query}"),
    ),
}
_TABLES: Mapping[Register, Mapping[str, str]] = {
    "formal": {
        **{casual: formal for formal, casual in (_CONTRACTIONS | _BOTH_WAYS).items()},
        **_TO_FORMAL,
    },
    "casual": {**_CONTRACTIONS, **_BOTH_WAYS, **_TO_CASUAL},
}
_PATTERNS = {
    register: re.compile(
        # Longer phrases first; an apostrophe is part of a word, so "what's" is not "what".
        r"(?<![\w'])(?:"
        + "|".join(sorted(map(re.escape, table), key=len, reverse=True))
        + r")(?![\w'])",
        re.IGNORECASE,
    )
    for register, table in _TABLES.items()
}


class FormalityRewriter(RuleRewriter):
    """Replaces words and contractions by those of another register, or opens a query in its tone.

    Rewrites with other words come first, those with nothing but an opening behind them.

    Args:
        registers: "formal", "casual" or both.
        seed: of the random choices.

    Raises:
        TypeError: a seed that is no integer.
        ValueError: none or other registers; a negative seed.

    Example:
        >>> FormalityRewriter(["formal"]).rewrite(["What's wrong with my tv?"], draw=0)
        ['What is wrong with my television?']
        >>> FormalityRewriter(["casual"]).rewrite(["Where is the physician?"], draw=0)
        ["Where's the doctor?"]
    """

    family: ClassVar[str] = "formality"

    def __init__(self, registers: Sequence[Register] = REGISTERS, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        if isinstance(registers, str) or not registers or not set(registers) <= set(REGISTERS):
            raise ValueError(
                f"FormalityRewriter: registers must be a list of {', '.join(REGISTERS)}, "
                f"got {registers!r}"
            )
        self.registers = tuple(registers)

    def _rewrite(self, query: str, draw: int) -> str | None:
        replaced, opened = [], []
        for register in self.registers:
            text = _replaced(query, register)
            if text != query:
                replaced.append(text)
            opened += _opened(text, register)
        return self._chosen(query, [replaced, opened], draw)


def _replaced(query: str, register: Register) -> str:
    """Returns a query with the words of a register."""
    table = _TABLES[register]

    def other(match: re.Match[str]) -> str:
        word = table[match[0].lower()]
        return word[:1].upper() + word[1:] if match[0][:1].isupper() else word

    # Typographic apostrophes, so that contractions with them are found, too.
    return _PATTERNS[register].sub(other, query.replace("\u2019", "'"))


def _opened(query: str, register: Register) -> list[str]:
    """Returns a query behind each opening of a register."""
    openers = _OPENERS[register][0 if is_question(query) else 1]
    text = lowered_start(query.strip())
    return [styled(opener.format(query=text), like=query) for opener in openers]
