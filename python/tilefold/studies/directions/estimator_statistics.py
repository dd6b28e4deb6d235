"""Statistics of an estimator of confidence over clusters of questions, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...evaluate import Interval, expected_calibration_error, risk_coverage
from .direction_values import Floats

_DRAWS = 300  # of facts
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class EstimatorStatistics:
    """AUROC, calibration error and area of risk, of all questions and of draws of facts.

    Args:
        whole: ``[3]`` of all questions.
        draws: ``[draws, 3]``; NaN for the AUROC of a draw without right or without wrong questions.
    """

    whole: Floats
    draws: Floats

    def intervals(self) -> tuple[Interval, Interval, Interval]:
        """Returns percentile intervals of AUROC and area, and a basic one of the error."""
        low, high = np.nanquantile(self.draws, _QUANTILES, axis=0)
        # A draw of a perfectly calibrated estimator has an error, too: it is reflected.
        low[1], high[1] = np.maximum(2 * self.whole[1] - np.array([high[1], low[1]]), 0)
        auroc, error, area = (
            Interval(float(x), float(a), float(b))
            for x, a, b in zip(self.whole, low, high, strict=True)
        )
        return auroc, error, area

    def gain(self, other: EstimatorStatistics) -> Interval:
        """Returns AUROC minus that of another estimator, on the same draws.

        Args:
            other: of the same questions.
        """
        low, high = np.nanquantile(self.draws[:, 0] - other.draws[:, 0], _QUANTILES)
        return Interval(float(self.whole[0] - other.whole[0]), float(low), float(high))


def estimator_statistics(
    raw: Floats, calibrated: Floats, correct: Floats, facts: NDArray[np.int64]
) -> EstimatorStatistics | None:
    """Computes statistics of all questions, and of facts drawn with replacement.

    Args:
        raw: ``[n]`` confidence, larger for more certain.
        calibrated: ``[n]`` probabilities.
        correct: ``[n]`` 1 where the first passage is relevant, 0 elsewhere.
        facts: ``[n]`` numbers of the facts, 0 to their number; questions of one fact are drawn
            together.

    Returns:
        None if all questions are right, or all are wrong.
    """
    if not 0 < correct.mean() < 1:
        return None

    def all_of(rows: Any) -> list[float]:
        return _statistics(raw[rows], calibrated[rows], correct[rows])

    order = np.argsort(facts, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(facts))])
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(_DRAWS):
        chosen = rng.integers(0, len(starts) - 1, len(starts) - 1)
        draws.append(all_of(np.concatenate([order[starts[i] : starts[i + 1]] for i in chosen])))
    return EstimatorStatistics(np.array(all_of(slice(None))), np.array(draws))


def _statistics(raw: Floats, calibrated: Floats, correct: Floats) -> list[float]:
    from sklearn.metrics import roc_auc_score

    both = 0 < correct.mean() < 1
    return [
        float(roc_auc_score(correct, raw)) if both else float("nan"),
        expected_calibration_error(calibrated, correct),
        risk_coverage(raw, correct).area,
    ]
