"""Calibration against direct maximum likelihood, and its effect on the calibration error."""

import numpy as np
import pytest
from known_embeddings import NoisyTask

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.exceptions import NotFittedError
from sklearn.isotonic import IsotonicRegression

from tilefold.confidence import (
    CalibratedConfidence,
    Margin,
    PlattScaling,
    TopProbability,
    first_is_relevant,
)
from tilefold.evaluate import expected_calibration_error
from tilefold.ragged_lists import Lists


@pytest.fixture(scope="module")
def task() -> NoisyTask:
    return NoisyTask(n=600)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("separated", [False, True])
def test_platt_scaling_is_the_most_likely_sigmoid_of_smoothed_targets(scale, separated):
    rng = np.random.default_rng(0)
    right = np.arange(40) < 26
    scores = scale * (5 + rng.normal(size=40) + (9 if separated else 1.5) * right)
    targets = np.where(right, 27 / 28, 1 / 16)

    def loss(parameters):
        logits = parameters[0] * (scores / scale - 5) + parameters[1]
        return (np.logaddexp(0, logits) - targets * logits).sum()

    best = minimize(loss, [0.0, 0.0], method="BFGS", options={"gtol": 1e-8})
    found = PlattScaling().fit(scores, right)
    assert found.slope_ * scale == pytest.approx(best.x[0], rel=1e-3)
    expected = expit(best.x[0] * (scores / scale - 5) + best.x[1])
    np.testing.assert_allclose(found.predict(scores), expected, atol=1e-4)


def test_platt_scaling_of_equal_scores_is_their_accuracy():
    found = PlattScaling().fit(np.full(10, 3.0), np.arange(10) < 5)
    np.testing.assert_allclose(found.predict(np.array([3.0])), 0.5, atol=1e-6)


@pytest.mark.parametrize("calibration", ["platt", "isotonic"])
def test_calibrated_probabilities_are_nearer_to_accuracies(task, calibration):
    corpus = task.corpus()
    estimator = TopProbability(0.02)  # far too certain
    calibrated = CalibratedConfidence(estimator, calibration).fit(corpus, *task.part(0, 300))
    queries, relevant = task.part(300, 600)
    right = first_is_relevant(corpus, queries, relevant)
    before, after = estimator.scores(corpus, queries), calibrated.scores(corpus, queries)
    assert expected_calibration_error(before, right) > 0.2
    assert expected_calibration_error(after, right) < 0.1
    order = np.argsort(before)
    assert (np.diff(after[order]) >= 0).all()


def test_isotonic_calibration_is_that_of_scikit_learn(task):
    corpus, (queries, relevant) = task.corpus(), task.part(0, 100)
    calibrated = CalibratedConfidence(Margin(), "isotonic").fit(corpus, queries, relevant)
    scores = Margin().scores(corpus, queries)
    right = first_is_relevant(corpus, queries, relevant)
    expected = IsotonicRegression().fit(scores, right).predict(scores)
    np.testing.assert_allclose(calibrated.scores(corpus, queries), expected, atol=1e-12)
    # Scores outside of those that were fitted have the probability of the nearest one.
    outside = calibrated.calibrator_.predict(np.array([-1.0, 1e3]))
    assert outside.tolist() == [expected.min(), expected.max()]


def test_calibration_needs_both_kinds_of_queries_and_a_fit(task):
    corpus, queries = task.corpus(), task.queries[:5]
    calibrated = CalibratedConfidence(Margin())
    with pytest.raises(NotFittedError, match="call fit first"):
        calibrated.scores(corpus, queries)
    with pytest.raises(ValueError, match="relevant for 0 of 5 queries; calibration needs"):
        calibrated.fit(corpus, queries, Lists.pack([[]] * 5))
    firsts = Lists.pack(corpus.search(queries, 1).ids.tolist())
    with pytest.raises(ValueError, match="relevant for 5 of 5 queries"):
        calibrated.fit(corpus, queries, firsts)
    with pytest.raises(ValueError, match='must be "platt" or "isotonic", got \'sigmoid\''):
        CalibratedConfidence(Margin(), "sigmoid")
    assert len(calibrated.fit(corpus, *task.part(0, 50)).scores(corpus, [])) == 0
