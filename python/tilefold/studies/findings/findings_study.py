"""Runs the study of findings: differences of several runs, claim by claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...evaluate import Interval
from ..neurons import NEURONS
from ..paired_comparison import PairedComparison
from ..probe import PROBE
from ..study import Reporter, StepStore, Study
from ..study_file import read_result
from ..typed_values import to_json
from .findings_result import Finding, FindingsResult
from .findings_settings import FindingsSettings

# Settings that runs may differ in: retrievers have seeds as well, and batches change no result.
_FREE = ("seed", "model", "document_model", "batch_size")
Result = TypeVar("Result")


def run_findings(
    settings: FindingsSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> FindingsResult:
    """Averages differences between retriever and base over runs that differ in their seed.

    Args:
        settings: folders of the runs.
        steps: is not used: nothing takes long.
        progress: receives the number of runs.

    Raises:
        FileNotFoundError: a folder without results.
        ValueError: runs that differ in other settings, or results of another version.
    """
    runs = settings.runs
    probes, neurons = _read_runs(runs, PROBE), _read_runs(runs, NEURONS)
    if not probes and not neurons:
        raise FileNotFoundError(f"no results of probe or neurons in {', '.join(map(str, runs))}")
    (progress or Reporter()).fact("runs", f"{len(runs)}")
    claims = {
        "C1, probes": _findings(probes, lambda run: run.discrimination),
        "C2, queries": _findings(neurons, lambda run: run.queries.spread),
        "C2, passages": _findings(neurons, lambda run: run.passages.spread),
    }
    return FindingsResult(settings, {name: rows for name, rows in claims.items() if rows})


def mean_of_runs(differences: Sequence[float]) -> Interval:
    """Returns the mean over runs and its 95% interval by Student's t; NaN for one run's interval.

    Example:
        >>> [round(value, 3) for value in mean_of_runs([1.0, 2.0, 3.0])]
        [2.0, -0.484, 4.484]
    """
    from scipy import stats  # takes 0.5 s

    n, mean = len(differences), float(np.mean(differences))
    if n < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half)


def _read_runs(runs: Sequence[Path], study: Study[Any, Result]) -> list[Result]:
    """Reads results of a study: of all runs, or of none."""
    files = [run / f"{study.name}.json" for run in runs]
    found = [read_result(path, study) for path in files if path.is_file()]
    if found and len(found) < len(runs):
        missing = next(path for path in files if not path.is_file())
        raise FileNotFoundError(f"{missing} does not exist, but other runs have {study.name}.json")
    _check_comparable(study.name, [to_json(run)["settings"] for run in found])
    return found


def _check_comparable(study: str, settings: Sequence[Mapping[str, Any]]) -> None:
    seeds = [one["seed"] for one in settings]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"findings: expected runs of {study} with different seeds, got {seeds}")
    for one in settings[1:]:
        other = [name for name in one if name not in _FREE and one[name] != settings[0][name]]
        if other:
            raise ValueError(
                f"findings: expected runs of {study} that differ in seed alone, but they differ "
                f"in {', '.join(other)}"
            )


def _findings(
    runs: Sequence[Result], read: Callable[[Result], Sequence[PairedComparison]]
) -> tuple[Finding, ...]:
    values: dict[str, list[float]] = {}
    for run in runs:
        for row in read(run):
            values.setdefault(row.name, []).append(row.difference.mean)
    for name, differences in values.items():
        if len(differences) < len(runs):
            raise ValueError(f"findings: {name!r} is missing in some of the runs")
    return tuple(Finding(name, mean_of_runs(own), tuple(own)) for name, own in values.items())
