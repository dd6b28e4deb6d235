"""Calibration error and risk against loops over bins and over all orders of ties."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tilefold.evaluate import expected_calibration_error, risk_coverage


@st.composite
def judged(draw, most: int = 30):
    """Confidences, many of them equal or at borders of bins, and whether they are right."""
    n = draw(st.integers(1, most))
    levels = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3, 0.55, 0.7, 0.999, 1.0]) | st.floats(0, 1)
    sure = draw(st.lists(levels, min_size=n, max_size=n))
    right = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return np.array(sure), np.array(right)


@given(judged(), st.integers(1, 12))
def test_the_error_is_that_of_a_loop_over_bins(pair, bins):
    sure, right = pair
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = (sure > low) & (sure <= high) if number else sure <= high
        if inside.any():
            gap = abs(sure[inside].mean() - right[inside].mean())
            total += inside.sum() / len(sure) * gap
    assert expected_calibration_error(sure, right, bins=bins) == pytest.approx(total, abs=1e-12)


def test_bins_of_equal_mass_have_as_many_queries_each():
    rng = np.random.default_rng(0)
    sure, right = rng.random(60) ** 4, rng.random(60) < 0.5
    order = np.argsort(sure)
    groups = order.reshape(6, 10)
    expected = np.mean([abs(sure[own].mean() - right[own].mean()) for own in groups])
    found = expected_calibration_error(sure, right, bins=6, equal_mass=True)
    assert found == pytest.approx(expected)
    assert found != pytest.approx(expected_calibration_error(sure, right, bins=6))


@given(judged(), st.integers(1, 12), st.booleans(), st.integers(0, 1000))
def test_the_order_of_queries_changes_nothing(pair, bins, equal_mass, seed):
    sure, right = pair
    order = np.random.default_rng(seed).permutation(len(sure))
    options = {"bins": bins, "equal_mass": equal_mass}
    here = expected_calibration_error(sure, right, **options)
    there = expected_calibration_error(sure[order], right[order], **options)
    assert here == pytest.approx(there, abs=1e-12)
    one, other = risk_coverage(sure, right), risk_coverage(sure[order], right[order])
    np.testing.assert_allclose(one.risk, other.risk, atol=1e-12)


@given(judged(most=6))
@settings(max_examples=50)
def test_risks_are_means_over_all_orders_of_ties(pair):
    sure, right = pair
    curves = [
        np.cumsum(~right[list(order)]) / np.arange(1, len(sure) + 1)
        for order in itertools.permutations(range(len(sure)))
        if (np.diff(sure[list(order)]) <= 0).all()
    ]
    found = risk_coverage(sure, right)
    np.testing.assert_allclose(found.risk, np.mean(curves, 0), atol=1e-12)
    assert found.area == pytest.approx(np.mean(curves))
    np.testing.assert_allclose(found.coverage, np.arange(1, len(sure) + 1) / len(sure))


def test_a_perfect_confidence_has_the_lowest_area_and_a_constant_one_the_mean_risk():
    right = np.array([True, False, True, False, False, True])
    best = risk_coverage(right.astype(float), right)
    assert best.risk[:3].tolist() == [0, 0, 0]
    assert best.area < risk_coverage(np.zeros(6), right).area == pytest.approx(0.5)
    np.testing.assert_allclose(risk_coverage(np.zeros(6), right).risk, 0.5)


def test_graded_values_are_means():
    assert risk_coverage([2.0, 1.0], [0.5, 0.0]).risk.tolist() == [0.5, 0.75]
    assert expected_calibration_error([0.5, 0.5], [0.75, 0.25]) == 0


@pytest.mark.parametrize("measure", [expected_calibration_error, risk_coverage])
def test_bad_arguments_are_errors_that_name_the_measure(measure):
    name = measure.__name__
    with pytest.raises(ValueError, match=rf"{name}: .* one shape \[n\] .* got \(2,\) and \(1,\)"):
        measure([0.5, 0.5], [1])
    with pytest.raises(ValueError, match=rf"{name}: .* got \(0,\) and \(0,\)"):
        measure([], [])
    with pytest.raises(ValueError, match=f"{name}: confidence must be finite, got nan"):
        measure([0.5, np.nan], [1, 0])
    with pytest.raises(ValueError, match=f"{name}: correct must be 0 to 1, got nan"):
        measure([0.5, 0.5], [1, np.nan])
    with pytest.raises(ValueError, match=f"{name}: correct must be 0 to 1, got 2"):
        measure([0.5, 0.5], [1, 2])


def test_the_error_takes_probabilities_and_one_bin_or_more():
    with pytest.raises(ValueError, match=r"confidence must be 0 to 1, got -1 to 0\.5"):
        expected_calibration_error([-1, 0.5], [1, 0])
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        expected_calibration_error([0.5], [1], bins=0)
