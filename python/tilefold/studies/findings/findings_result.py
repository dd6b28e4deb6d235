"""Result of the study of findings."""

from __future__ import annotations

from dataclasses import dataclass

from ...evaluate import Interval
from ...version import __version__
from .findings_settings import FindingsSettings


@dataclass(frozen=True)
class Finding:
    """A difference of retriever minus base over several runs.

    Args:
        name: of the quantity.
        mean: over runs, with its 95% interval by Student's t; NaN for the interval of one run.
        differences: of each run.
    """

    name: str
    mean: Interval
    differences: tuple[float, ...]


@dataclass(frozen=True)
class FindingsResult:
    """Result of `run_findings`.

    Args:
        settings: of the run.
        claims: findings by the claim that they test.
        version: of tilefold.
    """

    settings: FindingsSettings
    claims: dict[str, tuple[Finding, ...]]
    version: str = __version__
