"""Escapes characters that command a terminal or reorder a line, in texts and ids of others."""

from __future__ import annotations

import re

# Controls of ASCII and of Latin-1, separators of lines and paragraphs, and the embeddings,
# overrides and isolates of bidirectional text, which let a line look like another one. Marks within
# a word of Arabic or Hebrew stay, as do letters of every script.
_UNSAFE = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_IN_TEXT = re.compile(f"[{_UNSAFE}]")
_IN_LINE = re.compile(f"[{_UNSAFE}\\t\\n\\r]")


def escaped(text: str, *, lines: bool = False) -> str:
    r"""Replaces characters that are not to be printed by their escapes, as Python writes them.

    Args:
        text: of any origin.
        lines: whether it may have several lines and tabs, which then stay.

    >>> print(escaped("a\x1b[2Jb\n"))
    a\x1b[2Jb\n
    """
    return (_IN_TEXT if lines else _IN_LINE).sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
