"""Splits texts into tokens as DPR does: runs of letters, digits and marks, and single symbols.

A text becomes its tokens between blanks. No token holds a blank, so that a list of tokens occurs
in another exactly where one such text occurs in the other, which Python finds at the speed of C.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache

_BASIC_PLANE = 0xFFFF
_BEYOND = re.compile("[\U00010000-\U0010ffff]")


def spaced_tokens(text: str) -> str:
    """Joins the tokens in lower case, each between spaces; a single space where there is none.

    The text is decomposed first (NFD), so that an accent matches however it was written.

    Source: the tokenizer of Chen et al., ACL 2017 (DrQA), as Karpukhin et al., EMNLP 2020, use it:
    `([\\p{L}\\p{N}\\p{M}]+)|([^\\p{Z}\\p{C}])`.

    >>> spaced_tokens("The U.S. (1776)")
    ' the u . s . ( 1776 ) '
    """
    decomposed = unicodedata.normalize("NFD", text)
    tokens = _pattern(bool(_BEYOND.search(decomposed))).findall(decomposed)
    return f" {' '.join(tokens).lower()} " if tokens else " "


@cache
def _pattern(whole: bool) -> re.Pattern[str]:
    """Returns the pattern of tokens, over all of Unicode or over its basic plane.

    `re` tells whether a character of the basic plane is in a class by one look at a table, and goes
    through the ranges beyond it one by one, hundreds of them for each blank of a text: the whole
    takes eight times as long.
    """
    last = sys.maxunicode if whole else _BASIC_PLANE
    word, blank = "".join(_ranges("LNM", last)), "".join(_ranges("ZC", last))
    return re.compile(f"[{word}]+|[^{word}{blank}]")


def _ranges(categories: str, last: int) -> Iterator[str]:
    """Returns code points whose category begins with one of these letters, as parts of a class."""
    start = None
    for code in range(last + 2):
        inside = code <= last and unicodedata.category(chr(code))[0] in categories
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            yield f"\\U{start:08x}-\\U{code - 1:08x}"
            start = None
