"""The file of what a study found, which reports and findings are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cli.results import as_json
from ..files.atomic import replacing_text
from ..version import __version__

_FORMAT = 1  # of the file: studies that say other things have another


def write_study(path: Path, asked: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Writes it as JSON, whole or not at all.

    Args:
        path: where to.
        asked: options by their name.
        found: what the study returned.
    """
    made = {"tilefold": __version__, "format": _FORMAT, "asked": asked, **found}
    with replacing_text(path) as file:
        file.write(as_json(made))


def read_study(path: Path) -> dict[str, Any]:
    """What `write_study` wrote; null is None.

    Raises:
        FileNotFoundError: there is none.
        ValueError: another version wrote it.
    """
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found.get("format") != _FORMAT:
        raise ValueError(f"{path} was written by another version of tilefold; run it again")
    return found
