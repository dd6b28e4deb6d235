"""Reads JSON files of others: whatever is wrong with one is an error that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

_DEEPEST = 100  # levels; configurations of models have fewer than ten
_LONGEST = 64 << 20  # bytes; a model's configuration has thousands


def read_strict(path: Path) -> Any:
    """Reads the value in a JSON file.

    Raises:
        OSError: there is no such file.
        ValueError: not UTF-8, not JSON, NaN or infinity (which JSON does not have), nested too
            deep, or too long.
    """
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ValueError(f"{path}: longer than {_LONGEST:,} bytes")
    try:
        value = json.loads(content, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError(f"{path}: nested deeper than {_DEEPEST} levels") from error
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
    if _deeper(value, _DEEPEST):
        raise ValueError(f"{path}: nested deeper than {_DEEPEST} levels")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")


def _deeper(value: Any, levels: int) -> bool:
    """Returns whether a value has more levels, without calling itself."""
    inside = [value]
    for _ in range(levels):
        inside = [
            item
            for outer in inside
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(item, dict | list) for item in inside)
