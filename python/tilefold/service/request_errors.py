"""Says what is wrong with a request in one sentence: operation, argument, expected, got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..files.printable import escaped

_SHOWN = 60
# Kinds of ids, which pydantic adds to the place of an error.
ID, NAME = "<id>", "<name>"
# Of pydantic's types of errors, with fields of their context.
_EXPECTED = {
    "bool_type": "must be true or false",
    "extra_forbidden": "is no argument",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be an integer",
    "int_type": "must be an integer",
    "int_parsing_size": "must be an integer below 2^63",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "string_pattern_mismatch": "must be a text that is not blank",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be a text",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entry",
}


def sentence_of(errors: Sequence[Any], op: str) -> str:
    """Returns the first error of a body, and how many there are.

    Args:
        errors: of pydantic's `ValidationError.errors`.
        op: the operation.
    """
    first, more = errors[0], len(errors) - 1
    if first["type"] == "json_invalid":
        return f"{op}: the body is not JSON: {first['ctx']['error']}"
    where = _place(first["loc"]) or "the body"
    expected = _EXPECTED.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
    others = f" (and {more} more)" if more else ""
    got = "" if first["type"] == "extra_forbidden" else f", got {_shown(first['input'])}"
    return f"{op}: {where} {expected}{got}{others}"


def _place(location: tuple[int | str, ...]) -> str:
    """Returns a place as JSON paths are written: vectors[0][3]."""
    location = tuple(part for part in location if part not in (ID, NAME))
    parts = [f"[{part}]" if isinstance(part, int) else f".{_clipped(part)}" for part in location]
    return "".join(parts).removeprefix(".")


def _shown(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return (
        f"a text of {len(value)}"
        if isinstance(value, str) and not value.strip()
        else (_clipped(repr(value)))
    )


def _clipped(text: str) -> str:
    safe = escaped(text[: 4 * _SHOWN])
    return safe if len(safe) <= _SHOWN else f"{safe[:_SHOWN]}..."
