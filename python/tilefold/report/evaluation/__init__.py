"""Reports of evaluations: measures, scores, queries and embeddings of rankings."""

from .evaluation_report import evaluation_report
from .ranked_systems import EvaluatedSystems, RankedSystem, scores_of_run

__all__ = ["EvaluatedSystems", "RankedSystem", "evaluation_report", "scores_of_run"]
