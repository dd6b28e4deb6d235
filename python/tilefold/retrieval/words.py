"""Splits texts of any script into the words that BM25 counts.

Scripts without blanks between words have no words that a pattern could find. They are indexed by
overlapping pairs of characters, as Lucene's CJK analyser does: the pairs of a query are found
wherever its words are, without a dictionary for each language.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

# Han, kana and bopomofo. Hangul has blanks between words and is not among them.
_EAST_ASIAN = (
    *((0x2E80, 0x2FDF), (0x3005, 0x3007), (0x303B, 0x303B), (0x3041, 0x3096), (0x309D, 0x309F)),
    *((0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x3105, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
)
# Thai, Lao, Myanmar, Khmer, and the scripts of Tai languages: line breaking class SA, "complex
# context dependent", of Unicode's UAX #14.
_SOUTH_EAST_ASIAN = (
    *((0x0E01, 0x0E4E), (0x0E81, 0x0EDF), (0x1000, 0x109F), (0x1780, 0x17DD), (0x1950, 0x19DF)),
    *((0x1A20, 0x1AAD), (0xA9E0, 0xA9FE), (0xAA60, 0xAADF)),
)
# Vowel points, which writers of Arabic and Hebrew may leave out, and the stroke that stretches a
# word of Arabic.
_OPTIONAL = (
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670\u06d6-\u06dc"
)
_JOINERS = "\u200c\u200d"  # zero-width: they shape letters of one word
_WIDE = "\uff01-\uff9f"  # Latin in the width of Han, katakana in half of it

_PLAIN = re.compile(r"\w\w+")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")


class _Patterns(NamedTuple):
    special: re.Pattern[str]  # what the plain pattern would get wrong
    dropped: re.Pattern[str]
    wide: re.Pattern[str]
    word: re.Pattern[str]  # a run of pairs as group 1, or another word
    unit: re.Pattern[str]  # a character of a script without blanks, with its marks


def words_of(texts: Iterable[str], stop_words: Container[str]) -> list[list[str]]:
    """Splits texts into lower-case words of two or more letters, digits or underscores.

    Combining marks belong to the letter before them, and text is compared in Unicode's NFC. Of
    scripts without blanks each pair of neighbours is a word, or a character that stands alone.

    Args:
        texts: n texts.
        stop_words: words to leave out.

    Returns:
        The words of each text, in order.

    Source: the CJK analyser of Apache Lucene, for the pairs; UAX #15 and #29 of Unicode.

    >>> words_of(["The Hens, run"], {"the"}), words_of(["東京都 x"], ())
    ([['hens', 'run']], [['東京', '京都']])
    """
    return [[word for word in _split(text.lower()) if word not in stop_words] for text in texts]


def _split(text: str) -> Sequence[str]:
    if text.isascii():
        return _PLAIN.findall(text)
    patterns = _patterns(astral=_ASTRAL.search(text) is not None)
    if not patterns.special.search(text) and unicodedata.is_normalized("NFC", text):
        return _PLAIN.findall(text)
    # Composed first: what is left of a letter without its optional marks is that letter alone.
    text = unicodedata.normalize("NFC", text).replace("i\u0307", "i")  # of a capital dotted I
    text = patterns.dropped.sub("", text)
    text = patterns.wide.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    words: list[str] = []
    for match in patterns.word.finditer(unicodedata.normalize("NFC", text)):
        if match[1]:
            units = patterns.unit.findall(match[1])
            words += [one + other for one, other in pairwise(units)] or units
        elif len(match[0]) > 1:
            words.append(match[0])
    return words


@lru_cache(maxsize=2)
def _patterns(*, astral: bool) -> _Patterns:
    """Compiles the patterns once, when a text first needs them: it takes some milliseconds.

    Args:
        astral: whether texts have characters from U+10000 on. Classes of `re` look the others up in
            a table, but go through ranges of these one by one, which takes ten times as long.
    """
    above = ((0x10000, 0x1FFFF), (0xE0100, 0xE01EF)) if astral else ()
    marks = _class(
        code
        for first, last in ((0x0300, 0xFFFF), *above)
        for code in range(first, last + 1)
        if unicodedata.category(chr(code))[0] == "M"
    )
    letters = _class(
        code
        for first, last in _SOUTH_EAST_ASIAN
        for code in range(first, last + 1)
        if unicodedata.category(chr(code)) in ("Lo", "Lm")
    )
    unspaced = letters + "".join(
        f"{chr(first)}-{chr(last)}" for first, last in _EAST_ASIAN if astral or last < 0x10000
    )
    unit = f"[{unspaced}][{marks}]*"
    letter = rf"[^\W{unspaced}]"
    return _Patterns(
        special=re.compile(f"[{marks}{unspaced}{_OPTIONAL}{_JOINERS}{_WIDE}]"),
        dropped=re.compile(f"[{_OPTIONAL}{_JOINERS}]"),
        wide=re.compile(f"[{_WIDE}]+"),
        word=re.compile(f"((?:{unit})+)|{letter}+(?:[{marks}]{letter}*)*"),
        unit=re.compile(unit),
    )


def _class(codes: Iterable[int]) -> str:
    """Writes rising code points as the inside of a character class."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
