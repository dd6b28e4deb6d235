"""The figures of bench runs, kept in a JSON file per machine and commit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from table import Line


def history_path(folder: Path, machine: dict[str, Any]) -> Path:
    """Returns the file of a machine, its kernels, and a commit.

    Args:
        folder: of all files.
        machine: what `tilefold.testing.machine` found.
    """
    name = (
        f"{machine['cpu']} {machine['cores']} cores {machine['row']} {machine['threads']} threads"
    )
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return folder / slug / f"{machine['commit'] or 'unknown'}.json"


def record(folder: Path, lines: Iterable[Line], machine: dict[str, Any]) -> Path:
    """Adds the lines of a run; a later run of a case replaces those of the earlier one.

    Args:
        folder: of all files.
        lines: of the run's table.
        machine: what `tilefold.testing.machine` found.

    Returns:
        The file.
    """
    path = history_path(folder, machine)
    cases: dict[str, list[Any]] = {}
    if path.exists():
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    found: dict[str, list[Any]] = {}
    for line in lines:
        if line.ours:
            found.setdefault(line.case, []).append({**line._asdict(), "load": machine["load"]})
    cases |= found
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"machine": machine, "cases": cases}, indent=1) + "\n")
    temporary.replace(path)
    return path
