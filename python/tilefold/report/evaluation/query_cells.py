"""Formats texts of queries and documents, and ranks, for cells of a table."""

from __future__ import annotations

from collections.abc import Sequence

_TEXT = 160  # characters of a text that are shown
_RANKS = 8  # ranks that are shown


def clipped(text: str, length: int = _TEXT) -> str:
    """Returns a text on one line, with an ellipsis where it is longer.

    >>> clipped("one two  three", 8)
    'one two…'
    """
    # A longer prefix than is shown, as a document may be a megabyte, and blanks may be many.
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length and len(text) <= 4 * length else f"{line[: length - 1]}…"


def format_ranks(ranks: Sequence[int], n: int) -> str:
    """Formats the ranks of relevant documents, and how many were not retrieved.

    Args:
        ranks: of those that were, from 1 on.
        n: relevant documents.

    >>> format_ranks([1, 4], 3), format_ranks([], 1), format_ranks([], 0)
    ('1, 4 (1 missed)', 'all missed', 'none')
    """
    if not n:
        return "none"
    if not ranks:
        return "all missed"
    text = ", ".join(str(rank) for rank in ranks[:_RANKS])
    if len(ranks) > _RANKS:
        text += f" and {len(ranks) - _RANKS:,} more"
    return f"{text} ({n - len(ranks):,} missed)" if n > len(ranks) else text
