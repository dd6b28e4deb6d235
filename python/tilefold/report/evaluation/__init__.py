"""Reports of evaluations: measures, scores, queries and embeddings of rankings."""

from .evaluation_report import evaluation_report
from .ranked_systems import EvaluatedSystems, RankedSystem

__all__ = ["EvaluatedSystems", "RankedSystem", "evaluation_report"]
