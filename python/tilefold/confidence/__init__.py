"""Confidence of dense retrieval: how certain it is that the first document is relevant.

Estimators give each query a number that is larger where retrieval is more certain,
`CalibratedConfidence` turns it into a probability, and `ConfidentSearch` uses it to fall back to
lexical search; `ConformalSets` gives sets of documents with a guarantee.
"""

from __future__ import annotations

try:
    import scipy as scipy
    import sklearn as sklearn
    import torch as torch
except ImportError as error:
    raise ImportError(
        f"tilefold.confidence needs torch, scikit-learn and scipy ({error}): "
        'pip install "tilefold[analysis]"'
    ) from error

from .active_dropout import active_dropout
from .calibrated_confidence import CalibratedConfidence, PlattScaling
from .confidence_estimator import ConfidenceEstimator, LabelledEstimator, first_is_relevant
from .confident_search import ConfidentResult, ConfidentSearch
from .conformal_sets import ConformalSets
from .document_distributions import MeanDistribution
from .dropout_confidence import DropoutConfidence
from .encoded_corpus import EncodedCorpus
from .ensemble_confidence import EnsembleConfidence
from .fallback_threshold import FallbackThreshold, best_threshold
from .gaussian_confidence import GaussianConfidence
from .probe_confidence import ProbeConfidence
from .rewrite_confidence import RewriteConfidence
from .score_margin import Margin
from .softmax_temperature import fit_temperature
from .top_probability import TopProbability

__all__ = [
    "CalibratedConfidence",
    "ConfidenceEstimator",
    "ConfidentResult",
    "ConfidentSearch",
    "ConformalSets",
    "DropoutConfidence",
    "EncodedCorpus",
    "EnsembleConfidence",
    "FallbackThreshold",
    "GaussianConfidence",
    "LabelledEstimator",
    "Margin",
    "MeanDistribution",
    "PlattScaling",
    "ProbeConfidence",
    "RewriteConfidence",
    "TopProbability",
    "active_dropout",
    "best_threshold",
    "first_is_relevant",
    "fit_temperature",
]
