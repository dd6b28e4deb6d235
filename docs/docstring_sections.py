"""Rewrites docstrings for the site: an extension of griffe, which reads them for mkdocstrings.

The package's docstrings document several arguments in one line (``before, after: ...``) and hold
doctests in sections named "Example"; griffe expects a line for each argument, and "Examples".
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_SECTIONS = re.compile(r"^(Args|Attributes|Raises):$")
_SHARED = re.compile(r"^    (\w+(?:, \w+)+): (.*)$")


class DocstringSections(Extension):
    """Splits lines of shared arguments, and marks doctests as code."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Rewrites the docstring of an object that was read."""
        if obj.docstring:
            obj.docstring.value = marked_examples(split_arguments(obj.docstring.value))


def split_arguments(text: str) -> str:
    """Gives every argument of a line such as ``x, y: ...`` an entry of its own."""
    lines, inside = [], False
    entry: list[str] = []

    def flush() -> None:
        while len(entry) > 1 and entry[0].endswith(","):  # names that go on in the next line
            entry[:2] = [f"{entry[0]} {entry[1].strip()}"]
        shared = _SHARED.match(entry[0]) if entry else None
        names = shared[1].split(", ") if shared else []
        for name in names:
            lines.extend([f"    {name}: {shared[2] if shared else ''}", *entry[1:]])
        if not names:
            lines.extend(entry)
        entry.clear()

    for line in text.splitlines():
        if inside and line.startswith("     "):
            entry.append(line)
            continue
        flush()
        inside = bool(_SECTIONS.match(line)) or (inside and line.startswith("    "))
        entry.append(line)
    flush()
    return "\n".join(lines)


def marked_examples(text: str) -> str:
    """Makes sections of doctests known as such, and fences doctests outside of them."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    return re.sub(r"^>>> .*(?:\n(?!$).+)*", r"```pycon\n\g<0>\n```", text, flags=re.M)
