"""ConfidentSearch: shares, fallback and sets, against the parts that it is made of."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from known_embeddings import NoisyTask

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("bm25s", reason="bm25s is not installed: pip install tilefold[demo]")
from sklearn.exceptions import NotFittedError

from tilefold.confidence import (
    CalibratedConfidence,
    ConfidentSearch,
    ConformalSets,
    Margin,
    ProbeConfidence,
    TopProbability,
    best_threshold,
    fit_temperature,
)
from tilefold.evaluate import evaluate
from tilefold.ragged_lists import Lists
from tilefold.retrieval.bm25 import Bm25
from tilefold.retrieval.fusion import fuse


class WordedTask(NoisyTask):
    """A task in whose texts noise queries name their document, other queries another one.

    The last queries share no word with any document.
    """

    def __init__(self) -> None:
        super().__init__()
        names = {f"d{i}": f"about word{i}" for i in range(40)}
        for i, relevant in enumerate(self.relevant):
            named = f"word{relevant if self.is_noise[i] else (relevant + 1) % 40}"
            named = named if i < 230 else "nothing here"
            names[f"q{i}"] = f"query{i} {named}"
        self.model.vectors |= {new: self.model.vectors[old] for old, new in names.items()}
        self.documents = [names[text] for text in self.documents]
        self.queries = [names[text] for text in self.queries]


@pytest.fixture(scope="module")
def task() -> WordedTask:
    return WordedTask()


def searcher(task: WordedTask, **options) -> ConfidentSearch:
    return ConfidentSearch(task.model, task.documents, **options)


@pytest.fixture(scope="module")
def fitted(task) -> ConfidentSearch:
    return searcher(task).fit(*task.part(0, 160))


# ---- shares --------------------------------------------------------------------------------------


def test_every_part_is_fitted_on_its_own_share(task, fitted):
    first, second = fitted.estimator_rows_, fitted.calibration_rows_
    assert sorted([*first, *second]) == list(range(160))
    assert len(first) == len(second) == 80
    corpus = task.corpus()
    (some, own), (others, rest) = (
        ([task.queries[row] for row in rows], Lists.pack(task.relevant[rows, None].tolist()))
        for rows in (first, second)
    )
    assert fitted.temperature_ == fit_temperature(corpus, some, own)
    calibrated = CalibratedConfidence(TopProbability(fitted.temperature_))
    calibrated.fit(corpus, others, rest)
    queries = task.queries[160:]
    found = fitted.search(queries, 3).confidence
    np.testing.assert_allclose(found, calibrated.scores(corpus, queries), rtol=1e-6)
    sets = ConformalSets(fitted.temperature_).fit(corpus, others, rest)
    for one, other in zip(fitted.sets(queries), sets.sets(corpus, queries), strict=True):
        np.testing.assert_array_equal(one, other)


def test_seeds_choose_the_shares_and_equal_texts_stay_together(task):
    queries, relevant = task.part(0, 60)
    twice = [*queries, *queries], Lists.pack([*[[int(d)] for d in relevant.indices]] * 2)
    one, same, other = (searcher(task).fit(*twice, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.estimator_rows_, same.estimator_rows_)
    assert one.threshold_ == same.threshold_
    assert not np.array_equal(one.estimator_rows_, other.estimator_rows_)
    assert set(one.estimator_rows_ % 60).isdisjoint(one.calibration_rows_ % 60)


def test_queries_of_a_group_are_in_one_share_and_calibrate_sets_once(task):
    queries, relevant = task.part(0, 160)
    groups = [row // 2 for row in range(160)]
    search = searcher(task).fit(queries, relevant, groups=groups, seed=3)
    shares = [
        {groups[row] for row in rows}
        for rows in (search.estimator_rows_.tolist(), search.calibration_rows_.tolist())
    ]
    assert not shares[0] & shares[1]
    assert len(shares[0]) + len(shares[1]) == 80
    assert len(search.conformal_.nonconformities_) == len(shares[1])
    alone = searcher(task).fit(queries, relevant, seed=3)
    assert len(alone.conformal_.nonconformities_) == len(alone.calibration_rows_)
    for wrong in ([0] * 159, [0.5] * 160):
        with pytest.raises(ValueError, match=r"groups must be integers \[160\]"):
            searcher(task).fit(queries, relevant, groups=wrong)
    with pytest.raises(ValueError, match="expected 2 different queries or more, got 1"):
        searcher(task).fit(queries, relevant, groups=[0] * 160)


def test_an_estimator_that_needs_no_labels_and_one_that_does_can_be_used(task):
    for estimator in (Margin(), ProbeConfidence(top_scores=2)):
        found = searcher(task, estimator=estimator).fit(*task.part(0, 160), calibration="isotonic")
        confidence = found.search(task.queries[160:], 1).confidence
        noise = task.is_noise[160:]
        assert confidence[noise].mean() + 0.3 < confidence[~noise].mean()
    given = searcher(task, temperature=0.3)
    assert given.estimator.temperature_ == given.fit(*task.part(0, 160)).temperature_ == 0.3


# ---- fallback ------------------------------------------------------------------------------------


def test_falling_back_answers_what_dense_search_does_not(task, fitted):
    queries, relevant = task.part(160, 230)
    qrels = (relevant.offsets, relevant.indices, np.ones(70, np.int64))
    dense = evaluate(task.corpus().search(queries, 10).ids, qrels, ["RR@10"])["RR@10"].mean()
    found = fitted.search(queries, 10)
    assert evaluate(found.ids, qrels, ["RR@10"])["RR@10"].mean() > dense + 0.2
    assert fitted.threshold_.value > max(fitted.threshold_.dense, fitted.threshold_.fallback)
    assert found.fell_back[task.is_noise[160:230]].mean() > 0.8
    assert found.fell_back[~task.is_noise[160:230]].mean() < 0.2


@pytest.mark.parametrize("fallback", ["bm25", "fusion"])
@pytest.mark.parametrize("k", [1, 7, 60])
def test_rows_are_those_of_one_ranking_or_the_other(task, fallback, k):
    search = searcher(task, fallback=fallback).fit(*task.part(0, 160))
    queries = task.queries[150:]
    dense = task.corpus().search(queries, k)
    lexical = Bm25(task.documents).search(queries, max(k, 100), warn=False)
    other = lexical
    if fallback == "fusion":
        other = fuse([task.corpus().search(queries, max(k, 100)).ids, lexical.ids], k)
    for confidence in (None, 0, 0.5, 1):
        found = search.search(queries, k, confidence=confidence)
        limit = search.threshold_.confidence if confidence is None else confidence
        expected = (found.confidence < limit) & (lexical.ids[:, 0] >= 0)
        np.testing.assert_array_equal(found.fell_back, expected)
        for row, replaced in enumerate(expected):
            own = other if replaced else dense
            np.testing.assert_array_equal(found.ids[row], own.ids[row, :k])
            np.testing.assert_array_equal(found.scores[row], own.scores[row, :k])
    assert found.fell_back.any()
    assert not found.fell_back.all()  # the last queries have no word of the documents


def test_the_threshold_is_chosen_for_the_measure_on_the_calibration_share(task, fitted):
    rows = fitted.calibration_rows_
    queries, labels = [task.queries[row] for row in rows], task.relevant[rows]
    confidence = fitted.search(queries, 1).confidence
    qrels = (np.arange(81), labels, np.ones(80, np.int64))
    dense = task.corpus().search(queries, 10).ids
    lexical = Bm25(task.documents).search(queries, 10, warn=False).ids
    lexical = np.where(lexical[:, :1] < 0, dense, lexical)
    values = [evaluate(ids, qrels, ["RR@10"])["RR@10"] for ids in (dense, lexical)]
    assert fitted.threshold_ == best_threshold(confidence, *values)
    assert searcher(task).fit(*task.part(0, 160), measure="R@100").threshold_.dense == 1


def test_queries_without_a_relevant_document_count_as_wrong(task):
    queries, relevant = task.part(0, 160)
    labels = [[int(d)] if row % 4 else [] for row, d in enumerate(relevant.indices)]
    found = searcher(task).fit(queries, Lists.pack(labels), measure="AP")
    assert found.threshold_.dense < 0.8


def test_without_a_fallback_nothing_is_replaced(task):
    search = searcher(task, fallback=None).fit(*task.part(0, 160))
    assert search.threshold_ is None
    found = search.search(task.queries[160:], 4)
    assert not found.fell_back.any()
    np.testing.assert_array_equal(found.ids, task.corpus().search(task.queries[160:], 4).ids)
    with pytest.raises(ValueError, match=r"confidence=0\.5, but there is no fallback"):
        search.search(task.queries[:2], 1, confidence=0.5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_no_other_threshold_is_better(seed, n):
    rng = np.random.default_rng(seed)
    confidence = rng.integers(1, 6, n) / 6
    dense, fallback = rng.integers(0, 3, (2, n)) / 2
    found = best_threshold(confidence, dense, fallback)
    means = {
        limit: np.where(confidence < limit, fallback, dense).mean()
        for limit in [0, *(np.unique(confidence) + 1 / 12)]
    }
    assert found.value == pytest.approx(max(means.values()))
    assert found.value == np.where(confidence < found.confidence, fallback, dense).mean()
    fewest = min((confidence < limit).sum() for limit in means if means[limit] == found.value)
    assert (confidence < found.confidence).sum() == fewest
    assert (found.dense, found.fallback) == (dense.mean(), fallback.mean())


# ---- errors --------------------------------------------------------------------------------------


def test_nothing_is_answered_before_fit(task):
    search = searcher(task)
    with pytest.raises(NotFittedError, match=r"ConfidentSearch\.search: call fit first"):
        search.search(["q"], 1)
    with pytest.raises(NotFittedError, match=r"ConfidentSearch\.sets: call fit first"):
        search.sets(["q"])


def test_bad_arguments_are_errors(task, fitted):
    with pytest.raises(ValueError, match='fallback must be "bm25", "fusion" or None, got \'x\''):
        searcher(task, fallback="x")
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        fitted.search(task.queries[:1], 0)
    with pytest.raises(ValueError, match=r"confidence must be 0 to 1, got 1\.5"):
        fitted.search(task.queries[:1], 1, confidence=1.5)
    with pytest.raises(ValueError, match="got 3 queries and 2 lists"):
        searcher(task).fit(task.queries[:3], Lists.pack([[0], [1]]))
    with pytest.raises(ValueError, match="expected 2 different queries or more, got 1"):
        searcher(task).fit(task.queries[:1] * 3, Lists.pack([[0]] * 3))
    with pytest.raises(ValueError, match=r"Measure\.parse: cannot read 'quality'"):
        searcher(task).fit(*task.part(0, 20), measure="quality")
    with pytest.raises(ValueError, match="one shape"):
        best_threshold([0.1], [1, 2], [1, 2])
    with pytest.raises(ValueError, match="must be finite"):
        best_threshold([0.1], [np.nan], [1])


def test_titles_are_read_by_both_searches(task):
    titles = [f"title{i}" for i in range(40)]
    search = searcher(task, titles=titles).fit(*task.part(0, 160))
    task.model.vectors["the title7"] = task.model.vectors[task.documents[3]]
    found = search.search(["the title7"], 2, confidence=1)
    assert found.fell_back.tolist() == [True]
    assert found.ids.tolist() == [[7, -1]]
