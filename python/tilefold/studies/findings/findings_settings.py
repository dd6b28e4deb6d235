"""Settings of the study of findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..settings import StudySettings


@dataclass(frozen=True, kw_only=True)
class FindingsSettings(StudySettings):
    """Settings of `run_findings`.

    Args:
        runs: folders with results of probe and of neurons, one for each seed.

    Raises:
        TypeError: a folder that is no path.
        ValueError: no folder.

    Example:
        >>> FindingsSettings(runs=["seed0", "seed1"]).runs[1].name
        'seed1'
    """

    runs: tuple[Path, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.runs:
            raise ValueError(f"{self._named('runs')}: expected one or more folders, got none")
