"""Rewrites queries by moving words: a phrase to the front, neighbours exchanged, a shuffle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from .question_forms import inverted, lowered_start, without_end
from .rewriter import RuleRewriter

Move = Literal["phrase", "exchange", "shuffle"]
MOVES: tuple[Move, ...] = ("phrase", "exchange", "shuffle")
_SHUFFLES = 8  # draws of a shuffle; a short query has fewer orders
# A prepositional phrase of one to four words at the end; "of" belongs to the words before it.
_LAST_PHRASE = re.compile(
    r"(?P<rest>\S.*?)\s+(?P<phrase>(?:in|on|at|during|from|for|with|since|between|under|near)"
    r"(?:\s+\S+){1,4})",
    re.IGNORECASE | re.DOTALL,
)


class WordOrderRewriter(RuleRewriter):
    """Moves words of queries and leaves all of them as they are.

    Args:
        moves: which ones, in their order: "phrase" puts the prepositional phrase at the end of a
            query at its front, and the question word of "who is X" at its end; "exchange" exchanges
            two neighbouring words; "shuffle" puts all words in a random order, as the published
            code of Invar-RAG does, which few readers would understand.
        seed: of the random choices.

    Raises:
        TypeError: a seed that is no integer.
        ValueError: none or other moves; a negative seed.

    Source: shuffles are the rule of ziwliu8/Invar-RAG (73585a8).

    Example:
        >>> WordOrderRewriter(["phrase"]).rewrite(["Where was she born in 1979?"], draw=0)
        ['In 1979 where was she born?']
        >>> WordOrderRewriter(["phrase"]).rewrite(["who is the author of emma"], draw=0)
        ['the author of emma is who']
    """

    family: ClassVar[str] = "order"

    def __init__(self, moves: Sequence[Move] = ("phrase", "exchange"), *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        if isinstance(moves, str) or not moves or not set(moves) <= set(MOVES):
            raise ValueError(
                f"WordOrderRewriter: moves must be a list of {', '.join(MOVES)}, got {moves!r}"
            )
        self.moves = tuple(moves)

    def _rewrite(self, query: str, draw: int) -> str | None:
        text = without_end(query)
        words = lowered_start(text).split()
        found: dict[Move, list[str]] = {
            "phrase": _moved_phrases(text),
            "exchange": _exchanges(words),
            "shuffle": self._shuffles(query, words) if "shuffle" in self.moves else [],
        }
        seen = {" ".join(words)}
        tiers = []
        for move in self.moves:
            new = [order for order in dict.fromkeys(found[move]) if order not in seen]
            seen.update(new)
            tiers.append([_start(order, query) + query.strip()[len(text) :] for order in new])
        return self._chosen(query, tiers, draw)

    def _shuffles(self, query: str, words: list[str]) -> list[str]:
        """Returns the words in some random orders."""
        orders = []
        for number in range(_SHUFFLES if len(words) > 1 else 0):
            order = self._generator(query, number).permutation(len(words))
            orders.append(" ".join(words[place] for place in order))
        return orders


def _moved_phrases(text: str) -> list[str]:
    """Returns a query with its last prepositional phrase first, and with its question word last."""
    found = []
    if match := _LAST_PHRASE.fullmatch(text):
        rest = " ".join(lowered_start(match["rest"]).split())
        found.append(f"{' '.join(match['phrase'].split())} {rest}")
    if (clause := inverted(text)) is not None:
        found.append(clause)
    return found


def _exchanges(words: list[str]) -> list[str]:
    """Returns the words with each pair of neighbours exchanged."""
    places = range(len(words) - 1)
    return [" ".join([*words[:at], words[at + 1], words[at], *words[at + 2 :]]) for at in places]


def _start(text: str, query: str) -> str:
    """Returns a text with a capital at its start if the query has one there."""
    return text[:1].upper() + text[1:] if query.strip()[:1].isupper() else text
