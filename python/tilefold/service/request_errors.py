"""Says what is wrong with a request in one sentence: operation, argument, expected, got."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from ..files.printable import escaped

_SHOWN = 60
# Kinds of ids, which pydantic adds to the place of an error.
ID, NAME = "<id>", "<name>"
# Of pydantic's types of errors, with fields of their context.
_EXPECTED = {
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be an integer",
    "int_type": "must be an integer",
    "int_parsing_size": "must be an integer below 2^63",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be a text",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entry",
}
# Names that other services have for a field.
_FOREIGN = {
    "query": "queries",
    "q": "queries",
    "text": "queries",
    "texts": "queries",
    "embedding": "vectors",
    "embeddings": "vectors",
    "top_k": "k",
    "topk": "k",
    "limit": "k",
    "n": "k",
    "size": "k",
    "filter": "allowed",
    "score_threshold": "min_score",
}


def sentence_of(errors: Sequence[Any], op: str, fields: Iterable[str]) -> str:
    """Returns the first error of a body, and how many there are.

    Args:
        errors: of pydantic's `ValidationError.errors`.
        op: the operation.
        fields: of the body, one of which an unknown one may be meant for.
    """
    first, more = errors[0], len(errors) - 1
    if first["type"] == "json_invalid":
        return f"{op}: the body is not JSON: {first['ctx']['error']}"
    where = _place(first["loc"]) or "the body"
    others = f" (and {more} more)" if more else ""
    if first["type"] == "extra_forbidden":
        return f"{op}: unknown field {where}{_meant(str(first['loc'][-1]), fields)}{others}"
    if first["type"] == "string_pattern_mismatch":
        return f"{op}: {where} is blank{others}"
    expected = _EXPECTED.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
    return f"{op}: {where} {expected}, got {_shown(first['input'])}{others}"


def _meant(name: str, fields: Iterable[str]) -> str:
    """Returns "; did you mean ...?" for the field that a name stands for, "" for none."""
    similar = [_FOREIGN[name]] if name in _FOREIGN else difflib.get_close_matches(name, fields, n=1)
    return f"; did you mean {similar[0]}?" if similar else ""


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
