"""Results of studies as JSON: written by one function, read back as the same dataclasses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from ..files.atomic import replacing_text
from .study import Study
from .typed_values import to_json, to_type

_FORMAT = 2  # raised whenever a result gets other fields
Result = TypeVar("Result")


def result_to_json(study: Study[Any, Result], result: Result) -> str:
    """Returns the text of a result, with the study and the version of the format; NaN is null."""
    header = {"format": _FORMAT, "study": study.name}
    written = {**header, **to_json(result)}
    return json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def result_from_json(study: Study[Any, Result], text: str, source: str = "result") -> Result:
    """Returns the result that `result_to_json` wrote; null in place of a number is NaN.

    Args:
        study: that the result is of.
        text: JSON.
        source: how errors name it.

    Raises:
        ValueError: another study or another version wrote it.
        TypeError: a value has another type than its field.
    """
    found: dict[str, Any] = json.loads(text)
    if found.pop("format", None) != _FORMAT:
        raise ValueError(f"{source} was written by another version of tilefold; run it again")
    if (name := found.pop("study", None)) != study.name:
        raise ValueError(f"{source}: expected a result of {study.name}, got one of {name}")
    made: Result = to_type(found, study.result, source, nulls=True)
    return made


def write_result(path: str | Path, study: Study[Any, Result], result: Result) -> None:
    """Writes a result as JSON; a file that is there is replaced at once, or not at all."""
    with replacing_text(path) as file:
        file.write(result_to_json(study, result))


def read_result(path: Path, study: Study[Any, Result]) -> Result:
    """Returns the result that `write_result` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another study or another version wrote it.
    """
    return result_from_json(study, path.read_text(encoding="utf-8"), str(path))
