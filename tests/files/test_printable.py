"""Texts of others on a terminal: nothing that commands it, and every letter as it is."""

import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tilefold.files.printable import escaped

# Categories of Unicode that print: all but controls; of the format characters only those that
# embed, override or isolate a direction reorder a line.
REORDER = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def is_safe(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind not in ("Cc", "Zl", "Zp") and unicodedata.bidirectional(character) not in REORDER


def test_every_character_is_escaped_exactly_if_it_is_not_safe():
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        assert (escaped(character) == character) == is_safe(character), f"U+{code:04X}"
    kept = {chr(c) for c in range(0xFFFF) if escaped(chr(c), lines=True) != escaped(chr(c))}
    assert kept == {"\t", "\n", "\r"}


@given(st.text())
def test_what_is_escaped_is_one_safe_line_and_stays_as_it_is(text):
    line = escaped(text)
    assert all(map(is_safe, line))
    assert escaped(line) == line
    assert len(line.splitlines()) <= 1
