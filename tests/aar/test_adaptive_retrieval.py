"""Adaptive Retrieval: thresholds against trying every one, and no look at the test split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")

from tilefold.aar.baselines import (
    AnsweredQuestions,
    adaptive_retrieval,
    popularity_threshold,
    popularity_thresholds,
)

ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12
)


def right_answers(rows, threshold) -> int:
    return sum(retrieval if pop < threshold else parametric for pop, parametric, retrieval in rows)


@given(ROWS)
def test_a_threshold_is_the_smallest_of_the_best(rows):
    found = popularity_threshold(*zip(*rows, strict=True))
    every = [*sorted({pop for pop, _, _ in rows}), np.inf]
    best = max(right_answers(rows, threshold) for threshold in every)
    assert found == min(t for t in every if right_answers(rows, t) == best)


@given(ROWS, st.integers(1, 5))
def test_a_threshold_of_bins_is_the_best_edge_of_equal_bins_of_log_popularity(rows, n_bins):
    found = popularity_threshold(*zip(*rows, strict=True), n_bins=n_bins)
    logs = np.log(np.maximum([pop for pop, _, _ in rows], 1))
    width = (logs.max() - logs.min()) / n_bins
    edges = [float(min(pop for pop, _, _ in rows)), np.inf]
    edges += [float(np.exp(logs.min() + i * width)) for i in range(1, n_bins)]
    assert right_answers(rows, found) in {
        max(right_answers(rows, edge) for edge in edges),
        # rounding may put an edge on the other side of a whole number
        max(right_answers(rows, edge + e) for edge in edges for e in (-1e-9, 1e-9)),
    }
    assert any(found == pytest.approx(edge, rel=1e-9, abs=1e-9) for edge in edges)


def split(ids, **changes) -> AnsweredQuestions:
    n = len(ids)
    rng = np.random.default_rng(len(ids[0]) + n)
    columns = {
        "relations": [f"P{i % 3}" for i in range(n)],
        "popularity": rng.integers(0, 1000, n),
        "parametric": rng.integers(0, 2, n),
        "retrieval": rng.integers(0, 2, n),
    }
    return AnsweredQuestions(ids, **{**columns, **changes})


DEVELOPMENT = split([f"dev {i}" for i in range(60)])


def test_each_relation_has_its_own_threshold_and_new_ones_that_of_all():
    test = split([f"test {i}" for i in range(40)], relations=["P0", "P1", "P2", "P9"] * 10)
    found = adaptive_retrieval(DEVELOPMENT, test)
    columns = ("popularity", "parametric", "retrieval")
    for relation in ("P0", "P1", "P2"):
        own = [i for i in range(60) if DEVELOPMENT.relations[i] == relation]
        alone = [getattr(DEVELOPMENT, name)[own] for name in columns]
        assert found.thresholds[relation] == popularity_threshold(*alone)
    assert found.default == popularity_threshold(*(getattr(DEVELOPMENT, n) for n in columns))
    for i, relation in enumerate(test.relations):
        retrieves = test.popularity[i] < found.thresholds.get(relation, found.default)
        assert found.retrieves[i] == retrieves
        assert found.values[i] == (test.retrieval[i] if retrieves else test.parametric[i])
    assert 0 < found.retrieves.sum() < 40
    assert popularity_thresholds(DEVELOPMENT) == found.thresholds


def test_thresholds_depend_on_the_development_split_alone():
    ids = [f"test {i}" for i in range(30)]
    one = adaptive_retrieval(DEVELOPMENT, split(ids))
    other = adaptive_retrieval(
        DEVELOPMENT, split(ids, parametric=np.ones(30), retrieval=np.zeros(30))
    )
    assert (one.thresholds, one.default) == (other.thresholds, other.default)
    assert (one.retrieves == other.retrieves).all()


def test_a_question_in_both_splits_is_refused():
    with pytest.raises(ValueError, match=r"1 questions are in both splits, such as 'dev 7'"):
        adaptive_retrieval(DEVELOPMENT, split(["dev 7", "test 1"]))


def test_a_popularity_at_the_threshold_is_answered_without_retrieval():
    development = AnsweredQuestions(["0", "1"], ["P1"] * 2, [5, 9], [0, 1], [1, 0])
    test = AnsweredQuestions(["2", "3"], ["P1"] * 2, [8.9, 9], [0, 1], [1, 0])
    found = adaptive_retrieval(development, test)
    assert found.thresholds == {"P1": 9.0}
    assert found.retrieves.tolist() == [True, False]


def test_the_extremes_are_never_and_always():
    assert popularity_threshold([5, 9], [1, 1], [0, 0]) == 5  # none is below
    assert popularity_threshold([5, 9], [0, 0], [1, 1]) == np.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relations": ["P1"]}, "relations of 2 questions, got 1"),
        ({"popularity": [1]}, r"popularity must be \[2\], got shape \(1,\)"),
        ({"popularity": [1, -1]}, "popularity must be finite and at least 0"),
        ({"parametric": [0, np.nan]}, "parametric must be finite"),
        ({"ids": ["a", "a"]}, "an id occurs twice"),
    ],
)
def test_bad_splits_are_named(changes, message):
    columns = {"ids": ["a", "b"], "relations": ["P1"] * 2, "popularity": [1, 2]}
    columns |= {"parametric": [0, 1], "retrieval": [1, 0]}
    with pytest.raises(ValueError, match=message):
        AnsweredQuestions(**{**columns, **changes})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([1, 2], [0], [1, 0]), r"parametric must be \[2\], got shape \(1,\)"),
        (([np.nan, 2], [0, 1], [1, 0]), "popularity must be finite"),
    ],
)
def test_columns_of_a_threshold_are_checked(columns, message):
    with pytest.raises(ValueError, match=f"^popularity_threshold: {message}"):
        popularity_threshold(*columns)


def test_an_empty_development_split_is_refused():
    empty = AnsweredQuestions([], [], [], [], [])
    with pytest.raises(ValueError, match="development split is empty"):
        adaptive_retrieval(empty, DEVELOPMENT)
    with pytest.raises(ValueError, match="n_bins must be at least 1, got 0"):
        adaptive_retrieval(DEVELOPMENT, empty, n_bins=0)
