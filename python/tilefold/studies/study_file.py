"""Results of studies as JSON: written by one function, read back as the same dataclasses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from ..files.atomic import replacing_text
from ..files.done_once import digest_of
from .study import Study
from .typed_values import to_json, to_type

_FORMAT = 3  # raised whenever a result gets other fields
Result = TypeVar("Result")


def result_to_json(study: Study[Any, Result], result: Result) -> str:
    """Returns the text of a result; NaN is null.

    It begins with the version of the format, the study, and a checksum of the result.
    """
    made = to_json(result)
    header = {"format": _FORMAT, "study": study.name, "checksum": digest_of(made)}
    written = {**header, **made}
    return json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def result_from_json(study: Study[Any, Result], text: str, source: str = "result") -> Result:
    """Returns the result that `result_to_json` wrote; null in place of a number is NaN.

    Args:
        study: that the result is of.
        text: JSON.
        source: how errors name it.

    Raises:
        ValueError: it is not JSON, was changed after it was written, or another study or another
            version wrote it.
        TypeError: a value has another type than its field.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{source}: expected a JSON object, got {type(found).__name__}")
    if found.pop("format", None) != _FORMAT:
        raise ValueError(f"{source} was written by another version of tilefold; run it again")
    if (name := found.pop("study", None)) != study.name:
        raise ValueError(f"{source}: expected a result of {study.name}, got one of {name}")
    if found.pop("checksum", None) != digest_of(found):
        raise ValueError(f"{source} does not match its checksum: run {study.name} again")
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
        ValueError: it was changed after it was written, or another study or another version wrote
            it.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not valid UTF-8: {error}") from error
    return result_from_json(study, text, str(path))
