"""Reads and writes `tilefold.json`: settings that a folder of transformers has no place for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...files.strict_json import read_strict

FILE = "tilefold.json"
VERSION = 1
_TOWER = {"pooling": str, "normalize": bool, "max_length": int, "prefix": str, "append_eos": bool}
_FIELDS: dict[str, dict[str, Any]] = {
    "encoder": {**_TOWER, "projection": list},
    "tied": {"query": _TOWER, "document": _TOWER, "projection": list, "title_format": str},
    "untied": {"title_format": str},
    "language model": {"max_length": int},
    "unified": {
        "base": str,
        "base_digest": str,
        "dtype": str,
        "retrieval": bool,
        "generation": bool,
        "retrieval_in_generation": str,
        "query": _TOWER,
        "document": _TOWER,
        "title_format": str,
        "max_length": int,
    },
}


def write(folder: Path, kind: str, record: Mapping[str, Any]) -> None:
    """Writes the settings of a folder.

    Args:
        folder: exists.
        kind: an "encoder", "tied" or "untied" towers, a "language model", or a "unified" one.
        record: the fields of that kind.
    """
    text = json.dumps({"version": VERSION, "kind": kind, **record}, indent=2, ensure_ascii=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> tuple[str, dict[str, Any]]:
    """Reads the kind of a folder and its settings.

    Raises:
        ValueError: not JSON, another version, a field that is missing, unknown or of a wrong type:
            with the file and the name of the field.
    """
    record = read_json(path)
    version, kind = record.pop("version", None), record.pop("kind", None)
    if version != VERSION:
        raise ValueError(f"{path}: expected version {VERSION}, got {version!r}")
    if kind not in _FIELDS:
        raise ValueError(f"{path}: 'kind' must be one of {list(_FIELDS)}, got {kind!r}")
    _check(path, record, _FIELDS[kind])
    return kind, record


def read_json(path: Path) -> dict[str, Any]:
    """Reads the JSON object in a file, or raises a ValueError that names the file."""
    record = read_strict(path)
    if not isinstance(record, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(record).__name__}")
    return record


def _check(path: Path, record: Any, fields: Mapping[str, Any], within: str = "") -> None:
    if not isinstance(record, dict):
        raise ValueError(f"{path}: {within[:-1]!r} must be an object, got {record!r}")
    for name in {**fields, **record}:  # in the order of the file format, then unknown ones
        if name not in fields:
            raise ValueError(f"{path}: unknown field {within + name!r}")
        if name not in record:
            raise ValueError(f"{path}: the field {within + name!r} is missing")
        expected, value = fields[name], record[name]
        if isinstance(expected, dict):
            _check(path, value, expected, f"{within}{name}.")
        elif type(value) is not expected:
            raise ValueError(
                f"{path}: {within + name!r} must be {expected.__name__}, got {value!r}"
            )
