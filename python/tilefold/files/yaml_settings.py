"""Reads options from a YAML file, and writes options as one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..version import __version__
from .secrets import referenced

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e-?\d+)?")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
# Limits on files of strangers. Settings have tens of values; aliases of aliases make billions of a
# few lines, and the parser calls itself at each level of nesting.
_LONGEST = 1 << 20  # bytes
_DEEPEST = 20
_MOST_VALUES = 10_000  # aliases written out


def read_settings(path: str | Path, *, expand: bool = True) -> dict[str, Any]:
    """Reads a mapping of names to values, as a command line has them.

    ``${NAME}`` and ``${NAME:-default}`` are replaced by environment variables, as in a shell.

    Args:
        path: of a YAML file.
        expand: False leaves such references as they are, to be written to another file.

    Returns:
        For each name a bool, a text, or a list of texts. Numbers are texts, mappings are JSON, and
        names without a value (null) are left out.

    Raises:
        ValueError: not YAML, not a mapping, nested or repeated beyond limits, or a variable that is
            not set; a name that is there twice.
        OSError: no such file.
    """
    source = Path(path)
    content = _content(source)  # a wrong path is an error before a missing package is
    yaml = _yaml()
    try:
        text = content.decode("utf-8")
        _check_size(yaml, text)
        _check_names(yaml, text)
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{source}: not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{source}: expected a mapping of names to values")
    return {
        str(name): _plain(value, source, expand=expand)
        for name, value in settings.items()
        if value is not None
    }


def as_yaml(settings: Mapping[str, Any], title: str = f"tilefold {__version__}") -> str:
    """Returns the text of a file that `read_settings` reads.

    Values are written as JSON, which is YAML as well. A token is written as a reference to an
    environment variable.

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
    shown = {name: _without_tokens(name, value) for name, value in settings.items()}
    lines = (f"{name}: {_written(value)}" for name, value in shown.items())
    return "\n".join([f"# {title}", *lines, ""])


def _without_tokens(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return referenced(name, value)
    if isinstance(value, list):
        return [_without_tokens(name, item) for item in value]
    return value


def _written(value: Any) -> str:
    """Leaves out quotes of numbers that are read as the same text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return value if "." not in value or str(float(value)) == value else f'"{value}"'
    return json.dumps(value, ensure_ascii=False)


def _content(path: Path) -> bytes:
    """Reads a file that is not too long to be one of settings."""
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ValueError(f"{path}: longer than {_LONGEST:,} bytes, which settings are not")
    return content


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError(
            f'files of settings need pyyaml ({error}): pip install "tilefold[cli]"'
        ) from error
    return yaml


def _check_size(yaml: Any, text: str) -> None:
    """Counts values and levels before any are made, with aliases written out.

    Raises:
        ValueError: too many, or too deep.
    """
    begun: list[tuple[str | None, int]] = []  # collections that are open: anchor, values before it
    sizes: dict[str, int] = {}  # values below each anchor
    values = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, values))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in [anchor for anchor, _ in begun]:
                raise ValueError(f"the alias {event.anchor!r} is part of what it stands for")
            values += sizes.get(event.anchor, 0)  # that of a text is one value, counted below
        values += isinstance(event, yaml.NodeEvent)
        if len(begun) > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST} levels")
        if values > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES:,} values, with aliases written out")


def _check_names(yaml: Any, text: str) -> None:
    """Raises ValueError for a name that has two values, of which YAML would keep the last."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        texts = [name.value for name, _ in root.value if isinstance(name, yaml.ScalarNode)]
        names = [text.replace("-", "_") for text in texts if text != "<<"]
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise ValueError(f"{twice[0]!r} has two values")


def _plain(value: Any, path: Path, *, expand: bool) -> Any:
    if isinstance(value, bool):
        return value
    texts = [str(item) for item in value] if isinstance(value, list) else None
    if texts is None:
        text = _as_json(value, path) if isinstance(value, dict) else str(value)
        return _expanded(text, path) if expand else text
    return [_expanded(text, path) for text in texts] if expand else texts


def _as_json(value: Any, path: Path) -> str:
    try:
        return json.dumps(value, default=str)  # YAML has dates as well
    except TypeError as error:  # as names of values, too
        raise ValueError(f"{path}: {error}") from error


def _expanded(value: str, path: Path) -> str:
    """Replaces ``${NAME}`` and ``${NAME:-default}`` by environment variables."""

    def variable(match: re.Match[str]) -> str:
        found = os.environ.get(match[1]) or match[2]
        if found is None:
            raise ValueError(f"{path}: {value} needs the environment variable {match[1]}")
        return found

    return _VARIABLE.sub(variable, value)
