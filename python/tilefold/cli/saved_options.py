"""Options of a verb as YAML beside its results, to run it again with ``--config``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.atomic import replacing_text
from ..files.yaml_settings import as_yaml, read_settings

_NOT_OPTIONS = frozenset({"command", "config", "run_command", "run_verb", "study", "verb"})


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Returns all options that are set, by default or not, as a ``--config`` file has them.

    A value that the file took from an environment variable is the reference, such as ``${MODEL}``.
    """
    options = {
        name: [str(item) for item in value] if isinstance(value, list) else value
        for name, value in vars(args).items()
        if value is not None and name not in _NOT_OPTIONS
    }
    return {**options, **_references(options, getattr(args, "config", None))}


def save_options(options: Mapping[str, Any], path: str | Path) -> None:
    """Writes options as YAML for ``--config``."""
    with replacing_text(path) as file:
        file.write(as_yaml(options))


def _references(options: Mapping[str, Any], config: str | None) -> dict[str, Any]:
    """Returns the options whose values are those of the file's references."""
    if config is None:
        return {}
    try:
        both = read_settings(config, expand=False), read_settings(config)
    except OSError:  # it was removed since it was read
        return {}
    written, expanded = (
        {name.replace("-", "_"): value for name, value in settings.items()} for settings in both
    )
    return {
        name: written[name]
        for name, value in options.items()
        if name in written
        and written[name] != expanded[name]
        and expanded[name] == (value if isinstance(value, list) else str(value))
    }
