"""Options of a verb as YAML beside its results, to run it again with ``--config``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.atomic import replacing_text
from ..files.yaml_settings import as_yaml

_NOT_OPTIONS = frozenset({"command", "config", "run_verb", "verb"})


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Returns all options that are set, by default or not, as a ``--config`` file has them."""
    return {
        name: [str(item) for item in value] if isinstance(value, list) else value
        for name, value in vars(args).items()
        if value is not None and name not in _NOT_OPTIONS
    }


def save_options(options: Mapping[str, Any], path: str | Path) -> None:
    """Writes options as YAML for ``--config``."""
    with replacing_text(path) as file:
        file.write(as_yaml(options))
