"""Evaluation of rankings, answers and choices: measures per query, and statistics over queries.

Values of queries are float64 `[n]`, NaN where a query has none; `mean`, `bootstrap` and
`paired_test` take those of any measure.
"""

from .answers import answer_hits, has_answer, top_k_accuracy
from .calibration import RiskCoverage, expected_calibration_error, risk_coverage
from .choice_accuracy import MMLU_GROUPS, Accuracy, ChoiceAccuracy, choice_accuracy
from .gold import average_rank, average_rank_of, gold_ranks, gold_ranks_of
from .measures import Measure
from .predictions import (
    alias_match,
    evaluate_predictions,
    exact_match,
    f1,
    normalise_answer,
    relaxed_alias_match,
)
from .rankings import evaluate
from .robustness import ViewSpread, decision_flips, jaccard, rank_biased_overlap, view_spread
from .significance import PairedTest, holm, paired_test
from .summaries import Interval, bootstrap, mean

__all__ = [
    "MMLU_GROUPS",
    "Accuracy",
    "ChoiceAccuracy",
    "Interval",
    "Measure",
    "PairedTest",
    "RiskCoverage",
    "ViewSpread",
    "alias_match",
    "answer_hits",
    "average_rank",
    "average_rank_of",
    "bootstrap",
    "choice_accuracy",
    "decision_flips",
    "evaluate",
    "evaluate_predictions",
    "exact_match",
    "expected_calibration_error",
    "f1",
    "gold_ranks",
    "gold_ranks_of",
    "has_answer",
    "holm",
    "jaccard",
    "mean",
    "normalise_answer",
    "paired_test",
    "rank_biased_overlap",
    "relaxed_alias_match",
    "risk_coverage",
    "top_k_accuracy",
    "view_spread",
]
