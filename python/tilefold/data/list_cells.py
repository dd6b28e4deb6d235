"""Lists in a cell of a table, in the dialects that JSON, Python (pandas) and NumPy write.

pandas writes a list as Python does, ``['a', 'b']``. `datasets` and Parquet give pandas arrays
instead, which appear without commas, ``['a' 'b']``. To Python that is a list of one string, "ab":
such a cell must not go through `ast.literal_eval`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .lines import clipped
from .records import Record

_VALUE = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"""
# A value, which NumPy 2 shows as np.str_('a') where it stands in a list.
_ITEM = re.compile(rf"np\.\w+\(({_VALUE})\)|({_VALUE})", re.DOTALL)
_DTYPE = re.compile(r",\s*dtype=[^()]*")
_OPENING = re.compile(r"\s*([\[(])\s*")
_CLOSING = re.compile(r"\s*([\])])\s*")
_SEPARATOR = re.compile(r"\s*(,)\s*|\s+")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


def parsed_list(text: str) -> list[Any] | None:
    """Returns the list of strings or numbers that a cell holds; None where it holds none.

    An array that NumPy abbreviates with "..." is none: its values are lost.

    >>> parsed_list('["a", "b"]') == parsed_list("['a', 'b']") == parsed_list("['a' 'b']")
    True
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _scanned(text)
    return value if isinstance(value, list) else None


def decoded(record: Record, *names: str) -> Record:
    """Returns the record with lists in place of texts that hold them, in these fields.

    Raises:
        ValueError: a text that is no list: with file and line.
    """
    lists: dict[str, Any] = {}
    for name in names:
        value = record.fields.get(name)
        if isinstance(value, str):
            lists[name] = parsed_list(value)
            if lists[name] is None:
                record.fail(
                    f"{name!r} must be a list in brackets, as JSON, pandas or NumPy writes it, "
                    f"got {clipped(value)!r}"
                )
    return record._replace(fields={**record.fields, **lists}) if lists else record


def _scanned(text: str) -> list[Any] | None:
    """Parses a list of Python, or an array of NumPy; None where it is neither."""
    text = _without_array(text.strip())
    opening = _OPENING.match(text)
    if opening is None:
        return None
    at, values, separators = opening.end(), [], []
    while (item := _ITEM.match(text, at)) is not None:
        values.append(_value(item[1] or item[2]))
        at = item.end()
        separator = _SEPARATOR.match(text, at)
        if separator is None or _CLOSING.fullmatch(text, at):
            break
        separators.append(separator[1])
        at = separator.end()
    closing = _CLOSING.fullmatch(text, at)
    if closing is None or closing[1] != {"[": "]", "(": ")"}[opening[1]]:
        return None
    # Commas everywhere or nowhere: otherwise a string of Python may be written in two parts.
    return values if len(set(separators)) <= 1 and None not in values else None


def _without_array(text: str) -> str:
    """Returns the list in ``array(..., dtype=...)``; other texts stay."""
    if not (text.startswith("array(") and text.endswith(")")):
        return text
    inside = text[len("array(") : -1]
    # The last comma: a string in the list may look like the dtype, too.
    comma = inside.rfind(",")
    return inside[:comma] if comma >= 0 and _DTYPE.fullmatch(inside, comma) else inside


def _value(text: str) -> str | float | None:
    if text[0] not in "'\"":
        return float(text)
    try:
        return _ESCAPE.sub(lambda match: _unescaped(match[1]), text[1:-1])
    except ValueError:  # \U00110000 and beyond
        return None


def _unescaped(text: str) -> str:
    if len(text) > 1:
        return chr(int(text[1:], 16))
    return _ESCAPED.get(text, f"\\{text}")  # Python keeps a backslash that escapes nothing
