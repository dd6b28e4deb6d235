"""CalibratedConfidence: maps scores of an estimator to probabilities of being right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.exceptions import NotFittedError
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from ..ragged_lists import Lists
from .confidence_estimator import ConfidenceEstimator, checked_labels, first_is_relevant
from .encoded_corpus import EncodedCorpus

Calibration = Literal["platt", "isotonic"]
FloatArray = NDArray[np.float64]
_OP = "CalibratedConfidence"


class CalibratedConfidence:
    """Confidence is the probability that the first document is relevant, by a calibrated estimator.

    Args:
        estimator: fitted already, on other queries than those of `fit` here.
        calibration: "platt" for a sigmoid with Platt's smoothed targets, which keeps the order of
            scores (or reverses it, if certain queries are wrong more often); "isotonic" for a step
            function that rises, which needs more queries and gives equal probabilities to many.

    Attributes:
        calibrator_: `PlattScaling`, or scikit-learn's `IsotonicRegression`, after `fit`.

    Raises:
        ValueError: an unknown calibration.

    Source: Platt, Probabilistic Outputs for Support Vector Machines (1999); Zadrozny and Elkan,
    Transforming Classifier Scores into Accurate Multiclass Probability Estimates (KDD 2002).

    Example:
        >>> from tilefold.confidence import Margin
        >>> from tilefold.models import BiEncoder, minilm
        >>> texts = ["bills are due", "cats sleep", "dogs bark"]
        >>> corpus = EncodedCorpus(BiEncoder(minilm()), texts, progress=False)
        >>> calibrated = CalibratedConfidence(Margin())
        >>> queries = ["cats", "an invoice", "green", "a tree"]
        >>> _ = calibrated.fit(corpus, queries, Lists.pack([[1], [0], [], []]))
        >>> sure, unsure = calibrated.scores(corpus, ["dogs", "leaves"])
        >>> bool(1 > sure > 0.5 > unsure > 0)
        True
    """

    def __init__(self, estimator: ConfidenceEstimator, calibration: Calibration = "platt") -> None:
        if calibration not in ("platt", "isotonic"):
            raise ValueError(
                f'{_OP}: calibration must be "platt" or "isotonic", got {calibration!r}'
            )
        self.estimator, self.calibration = estimator, calibration
        self.calibrator_: Any = None

    def fit(self, corpus: EncodedCorpus, queries: Sequence[str], relevant: Lists) -> Self:
        """Fits the calibration; the estimator stays as it is.

        Args:
            corpus: the retriever and its documents.
            queries: n texts that neither the retriever nor the estimator was trained on.
            relevant: documents of each query; an empty list where no document is relevant.

        Raises:
            ValueError: the first document is relevant for all queries, or for none.
        """
        op = f"{_OP}.fit"
        right = first_is_relevant(corpus, queries, checked_labels(op, corpus, queries, relevant))
        if right.all() or not right.any():
            raise ValueError(
                f"{op}: the first document is relevant for {right.sum()} of {len(right)} queries; "
                "calibration needs queries of both kinds"
            )
        scores = self.estimator.scores(corpus, queries)
        if self.calibration == "platt":
            self.calibrator_ = PlattScaling().fit(scores, right)
        else:
            isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            self.calibrator_ = isotonic.fit(scores, right.astype(np.float64))
        return self

    def scores(self, corpus: EncodedCorpus, queries: Sequence[str]) -> FloatArray:
        """Computes the probability that the first document is relevant for each query, ``[n]``.

        Args:
            corpus: the retriever and its documents.
            queries: n texts.

        Raises:
            NotFittedError: the calibration is not fitted.
        """
        if self.calibrator_ is None:
            raise NotFittedError(f"{_OP}.scores: call fit first")
        if not len(queries):
            return np.zeros(0)
        found: FloatArray = self.calibrator_.predict(self.estimator.scores(corpus, queries))
        return found


class PlattScaling:
    """A sigmoid of one score, fitted by maximum likelihood to smoothed targets.

    The targets are ``(N+ + 1) / (N+ + 2)`` for the N+ right and ``1 / (N- + 2)`` for the N- wrong
    ones, so the slope is finite where scores separate them, too.

    Attributes:
        slope_, intercept_: of the logit as a function of the score.

    Source: Platt, Probabilistic Outputs for Support Vector Machines (1999), section 2.2.

    Example:
        >>> platt = PlattScaling().fit(np.array([3.0, 2.0, 1.0]), np.array([True, True, False]))
        >>> bool(platt.predict(np.array([3.0]))[0] > 0.5)
        True
    """

    slope_: float
    intercept_: float

    def fit(self, scores: FloatArray, right: NDArray[np.bool_]) -> Self:
        """Fits the sigmoid.

        Args:
            scores: ``[n]``.
            right: ``[n]`` of both kinds.
        """
        n_right, n_wrong = int(right.sum()), int((~right).sum())
        targets = np.where(right, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
        center, scale = scores.mean(), scores.std() or 1.0
        # A target t is a right query of weight t and a wrong one of weight 1 - t.
        fitted = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
            np.tile((scores - center) / scale, 2)[:, None],
            np.repeat([1, 0], len(scores)),
            sample_weight=np.concatenate([targets, 1 - targets]),
        )
        self.slope_ = float(fitted.coef_[0, 0] / scale)
        self.intercept_ = float(fitted.intercept_[0] - self.slope_ * center)
        return self

    def predict(self, scores: FloatArray) -> FloatArray:
        """Computes probabilities of being right, ``[n]``."""
        found: FloatArray = expit(self.slope_ * scores + self.intercept_)
        return found
