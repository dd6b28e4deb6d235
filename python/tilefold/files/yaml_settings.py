"""Reads options from a YAML file, and writes options as one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..version import __version__

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e-?\d+)?")


def read_settings(path: str | Path) -> dict[str, Any]:
    """Reads a mapping of names to values, as a command line has them.

    ``${NAME}`` and ``${NAME:-default}`` are replaced by environment variables, as in a shell.

    Args:
        path: of a YAML file.

    Returns:
        For each name a bool, a text, or a list of texts. Numbers are texts, mappings are JSON, and
        names without a value (null) are left out.

    Raises:
        ValueError: not YAML, not a mapping, or a variable that is not set.
        OSError: no such file.
    """
    import yaml

    source = Path(path)
    try:
        settings = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{source}: not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{source}: expected a mapping of names to values")
    return {
        str(name): _plain(value, source) for name, value in settings.items() if value is not None
    }


def as_yaml(settings: Mapping[str, Any], title: str = f"tilefold {__version__}") -> str:
    """Returns the text of a file that `read_settings` reads.

    Values are written as JSON, which is YAML as well.

    Args:
        settings: names and values.
        title: comment in the first line.

    Example:
        >>> print(as_yaml({"k": "10", "query": ["a: b"], "normalize": True}, "a search"), end="")
        # a search
        k: 10
        query: ["a: b"]
        normalize: true
    """
    lines = (f"{name}: {_written(value)}" for name, value in settings.items())
    return "\n".join([f"# {title}", *lines, ""])


def _written(value: Any) -> str:
    """Leaves out quotes of numbers that are read as the same text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return value if "." not in value or str(float(value)) == value else f'"{value}"'
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any, path: Path) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [_expanded(str(item), path) for item in value]
    return _expanded(json.dumps(value) if isinstance(value, dict) else str(value), path)


def _expanded(value: str, path: Path) -> str:
    """Replaces ``${NAME}`` and ``${NAME:-default}`` by environment variables."""

    def variable(match: re.Match[str]) -> str:
        found = os.environ.get(match[1]) or match[2]
        if found is None:
            raise ValueError(f"{path}: {value} needs the environment variable {match[1]}")
        return found

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", variable, value)
