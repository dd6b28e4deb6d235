"""Positives that a source LM prefers, negatives beside them, and training sets of both."""

from .merged_positives import MergedPositives, Origin, merge_positives, preferred_passages
from .preference_negatives import PreferenceNegatives, preference_negatives
from .preference_overlap import OverlapMatrix, overlap_matrix, preference_overlap
from .training_queries import PreferenceData, TrainingQueries, preference_data

__all__ = [
    "MergedPositives",
    "Origin",
    "OverlapMatrix",
    "PreferenceData",
    "PreferenceNegatives",
    "TrainingQueries",
    "merge_positives",
    "overlap_matrix",
    "preference_data",
    "preference_negatives",
    "preference_overlap",
    "preferred_passages",
]
