"""Result of the study of directions."""

from __future__ import annotations

from dataclasses import dataclass

from ...evaluate import Interval
from ...version import __version__
from ..paired_comparison import PairedComparison
from .direction_settings import DirectionSettings


@dataclass(frozen=True)
class DirectionMeasure:
    """A measure of one method over facts, or over queries of a collection.

    Args:
        direction: its name.
        method: what was measured.
        measure: its name.
        value: mean and 95% interval over facts of all seeds, or over queries of a collection.
        seeds: mean of each seed.
        n: facts of all seeds, or queries.
        reference: the method that it is compared with, "" for the reference itself.
        comparison: with the reference, paired over facts, p corrected over the comparisons of a
            direction (Holm); None for the reference.
    """

    direction: str
    method: str
    measure: str
    value: Interval
    seeds: tuple[float, ...]
    n: int
    reference: str
    comparison: PairedComparison | None


@dataclass(frozen=True)
class ConfidenceMeasure:
    """How well an estimator tells questions with a relevant first passage from others.

    Args:
        estimator: its name.
        auroc: probability that a question whose first passage is relevant has more confidence than
            one whose first passage is not, 95% percentile bootstrap interval over facts.
        calibration_error: expected calibration error of the calibrated confidence, in 10 bins, with
            a basic bootstrap interval, as draws are further from 0 than the error itself.
        risk_area: area under the risk-coverage curve (AURC): mean share of wrong first passages
            among the questions that are kept, over all shares kept in the order of confidence.
        gain: AUROC minus that of the first estimator, on the same draws of facts; None for itself.
        fit_seconds: of training and calibration, mean over seeds; the trainings of an ensemble's
            retrievers are not in it.
        seconds: of the estimates for all questions of the test, mean over seeds.
    """

    estimator: str
    auroc: Interval
    calibration_error: Interval
    risk_area: Interval
    gain: Interval | None
    fit_seconds: float
    seconds: float


@dataclass(frozen=True)
class MethodCost:
    """What a method costs.

    Args:
        direction, method: their names.
        cost: what is counted, such as "seconds".
        value: mean over seeds.
    """

    direction: str
    method: str
    cost: str
    value: float


@dataclass(frozen=True)
class LeftOut:
    """A method that could not be measured.

    Args:
        direction, method: their names.
        reason: the error.
    """

    direction: str
    method: str
    reason: str


@dataclass(frozen=True)
class DirectionResult:
    """Result of `run_directions`.

    Args:
        settings: of the run.
        title: names the subject.
        measures: of all methods.
        confidence: of the estimators of uncertainty.
        costs: of methods.
        left_out: methods that could not be measured.
        constants: parameters that are no settings.
        version: of tilefold.
    """

    settings: DirectionSettings
    title: str
    measures: tuple[DirectionMeasure, ...]
    confidence: tuple[ConfidenceMeasure, ...]
    costs: tuple[MethodCost, ...]
    left_out: tuple[LeftOut, ...]
    constants: dict[str, float]
    version: str = __version__
