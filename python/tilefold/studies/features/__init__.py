"""The study of features: what sparse autoencoders of embeddings keep, and what features mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..study import Study, SummaryTable
from .feature_result import FeatureResult
from .feature_settings import FeatureSettings
from .feature_study import run_features

if TYPE_CHECKING:
    from ...report import Section

__all__ = ["FEATURES", "FeatureResult", "FeatureSettings", "run_features"]


# Reports need matplotlib: they are imported when one is made.
def _summary(result: FeatureResult) -> list[SummaryTable]:
    from .feature_summary import summarise_features

    return summarise_features(result)


def _sections(result: FeatureResult) -> list[Section]:
    from .feature_report import feature_sections

    return feature_sections(result)


FEATURES: Study[FeatureSettings, FeatureResult] = Study(
    "features",
    "write embeddings as sparse features, and search by these alone",
    FeatureSettings,
    FeatureResult,
    run_features,
    _summary,
    _sections,
)
