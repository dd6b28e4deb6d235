"""paired_test() and holm(): against plain enumeration, against SciPy, and under the null."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold.evaluate import bootstrap, holm, paired_test, significance


def by_enumeration(differences: list[float]) -> float:
    """The two-sided p-value in exact arithmetic: differences are multiples of 1/8."""
    eighths = [round(8 * difference) for difference in differences]
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, eighths, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(eighths))
    ]
    return sum(total >= abs(sum(eighths)) for total in sums) / len(sums)


EIGHTHS = st.lists(st.integers(-8, 8).map(lambda value: value / 8), min_size=1, max_size=9)


@given(EIGHTHS)
def test_few_queries_are_enumerated(differences: list[float]):
    found = paired_test(differences, np.zeros(len(differences)))
    assert found.p_value == by_enumeration(differences)
    assert found.difference == pytest.approx(np.mean(differences))
    assert found.n == len(differences)


def test_equal_sums_count_as_equal_in_spite_of_rounding():
    # 0.1 + 0.2 - 0.3 is not 0 in binary, and neither are the other signs' sums alike.
    assert paired_test([0.1, 0.2, -0.3], [0, 0, 0]).p_value == 1
    differences = np.array([1, 2, 3, 4, 5, 6, 7]) / 10
    assert paired_test(differences, np.zeros(7)).p_value == 2 / 128


def test_swapping_the_systems_changes_the_sign_only():
    rng = np.random.default_rng(5)
    a, b = rng.random(50), rng.random(50)
    forward, backward = paired_test(a, b), paired_test(b, a)
    assert forward.difference == -backward.difference
    assert forward.p_value == backward.p_value


def test_drawn_signs_approach_all_of_them():
    rng = np.random.default_rng(1)
    a, b = rng.random(12), rng.random(12) - 0.2
    exact = paired_test(a, b).p_value
    drawn = paired_test(a, b, resamples=4095).p_value
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4095))


def test_no_p_value_is_zero_and_more_resamples_allow_smaller_ones():
    ones, zeros = np.ones(40), np.zeros(40)
    assert paired_test(ones, zeros).p_value == 1 / 10_001
    assert paired_test(ones, zeros, resamples=99).p_value == 1 / 100


def test_systems_that_are_alike_do_not_differ():
    values = np.random.default_rng(2).random(100)
    assert paired_test(values, values) == (0, 1, 100)


def test_queries_that_one_system_lacks_are_left_out_of_both():
    a, b = [0.5, math.nan, 0.75, 1.0], [0.25, 0.5, math.nan, 0.5]
    assert paired_test(a, b) == paired_test([0.5, 1.0], [0.25, 0.5])
    nothing = paired_test([math.nan], [1.0])
    assert math.isnan(nothing.p_value)
    assert math.isnan(nothing.difference)
    assert nothing.n == 0


def test_the_seed_decides_which_signs_are_drawn():
    rng = np.random.default_rng(3)
    a, b = rng.random(60), rng.random(60)
    assert paired_test(a, b) == paired_test(a, b)
    assert paired_test(a, b, seed=1) != paired_test(a, b)


def test_blocks_of_signs_count_every_resample(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(significance, "_CELLS", 100)
    a = np.arange(1, 8) / 8
    assert paired_test(a, np.zeros(7)).p_value == 2 / 128
    assert paired_test(np.ones(40), np.zeros(40), resamples=999).p_value == 1 / 1000


def test_p_values_are_uniform_where_there_is_no_difference():
    rng = np.random.default_rng(4)
    p = [
        paired_test(*rng.normal(size=(2, 30)), resamples=499, seed=seed).p_value
        for seed in range(1000)
    ]
    for level in (0.05, 0.25, 0.5, 0.75):
        error = 3 * math.sqrt(level * (1 - level) / len(p))
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=error)


def test_scipy_finds_the_same_p_value():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    rng = np.random.default_rng(6)
    a, b = rng.random(11), rng.random(11) + 0.1
    found = stats.permutation_test(
        (a, b),
        lambda x, y, axis: (x - y).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert paired_test(a, b).p_value == pytest.approx(found.pvalue, abs=1e-12)


def test_the_bootstrap_of_differences_agrees_with_the_test():
    rng = np.random.default_rng(7)
    b, noise = rng.random(200), rng.normal(0, 0.2, 200)
    for shift, differs in ((0.1, True), (0.01, False)):
        a = b + noise - noise.mean() + shift
        low, high = bootstrap(a - b)[1:]
        assert (low > 0 or high < 0) == differs
        assert (paired_test(a, b).p_value < 0.05) == differs


@pytest.mark.parametrize(
    ("a", "b", "options", "complaint"),
    [
        ([1.0], [1.0, 2.0], {}, r"shapes \(1,\) and \(2,\)"),
        ([[1.0]], [[1.0]], {}, r"must be \[n\]"),
        ([1.0], [1.0], {"resamples": 0}, "at least 1, got 0"),
    ],
)
def test_wrong_arguments_of_a_paired_test_are_errors(a, b, options, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        paired_test(a, b, **options)


# ---- Holm ----------------------------------------------------------------------------------------


def test_holm_multiplies_by_the_comparisons_left_and_never_falls():
    # by hand: 0.01 * 4, then max(0.04, 0.0125 * 3), then 0.03 * 2, then max(0.06, 0.04 * 1)
    assert holm([0.03, 0.01, 0.04, 0.0125]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.04])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float]):
    """The procedure as published: stop at the first p above level / (comparisons left)."""
    level = 0.05
    rejected = set()
    for step, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        if p[index] * (len(p) - step) > level:
            break
        rejected.add(index)
    adjusted = holm(p)
    assert set(np.flatnonzero(adjusted <= level)) == rejected
    assert (adjusted >= p).all()
    assert (adjusted <= 1).all()


@pytest.mark.parametrize("p", [[0.5, math.nan], [1.5], [-0.1], [[0.5]]])
def test_what_is_no_list_of_probabilities_is_an_error(p):
    with pytest.raises(ValueError, match="holm: p_values must"):
        holm(p)
