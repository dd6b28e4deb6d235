"""Conformal sets: their definition by loops, and their coverage over many draws."""

import itertools

import numpy as np
import pytest
from known_embeddings import KnownEmbeddings, NoisyTask

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
from scipy.special import softmax
from scipy.stats import binom
from sklearn.exceptions import NotFittedError

from tilefold.confidence import ConformalSets, EncodedCorpus, document_distributions
from tilefold.ragged_lists import Lists

each_score = pytest.mark.parametrize("score", ["lac", "aps"])


@pytest.fixture(scope="module")
def task() -> NoisyTask:
    return NoisyTask()


def nonconformity(probabilities: np.ndarray, document: int, score: str) -> float:
    """Of one document: minus its probability, or the mass of all that are as probable."""
    own = probabilities[document]
    return -own if score == "lac" else probabilities[probabilities >= own].sum() - 1


@each_score
@pytest.mark.parametrize("numbers", [1, 1 << 22])
def test_sets_are_those_of_loops_over_documents(task, score, numbers, monkeypatch):
    monkeypatch.setattr(document_distributions, "NUMBERS_OF_TILE", numbers)
    corpus, (queries, relevant) = task.corpus(), task.part(0, 29)
    relevant = Lists.pack([sorted({int(own), (int(own) + 7) % 40}) for own in relevant.indices])
    sets = ConformalSets(0.2, score).fit(corpus, queries, relevant)
    rows = corpus.encode_queries(task.queries).astype(np.float64)
    table = softmax(rows @ corpus.vectors.T / 0.2, axis=1)
    scores = sorted(
        min(nonconformity(table[row], document, score) for document in relevant.of(row))
        for row in range(29)
    )
    np.testing.assert_allclose(sets.nonconformities_, scores, rtol=1e-4, atol=1e-6)
    for coverage, place in [(0.5, 15), (0.8, 24), (0.9, 27), (0.95, 29), (1 / 30, 1)]:
        assert sets.threshold(coverage) == sets.nonconformities_[place - 1]
        found = sets.sets(corpus, task.queries[29:45], coverage=coverage)
        for row in range(16):
            limit = sets.threshold(coverage) + 1e-6
            expected = [d for d in range(40) if nonconformity(table[29 + row], d, score) <= limit]
            assert found.of(row).tolist() == expected


@each_score
def test_a_relevant_document_is_in_the_set_as_often_as_asked(score):
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(25, 4)).astype(np.float32)
    names = [f"d{i}" for i in range(25)]
    n, new, draws = 39, 40, 60
    covered = []
    for _ in range(draws):
        rows = rng.normal(size=(n + new, 4)).astype(np.float32)
        # Labels do not follow the model's probabilities: the guarantee does not need it.
        labels = softmax(1.5 * rows @ documents[:, [1, 0, 2, 3]].T, axis=1)
        relevant = [sorted(set(rng.choice(25, 2, p=own / own.sum()).tolist())) for own in labels]
        queries = [f"q{i}" for i in range(n + new)]
        vectors = dict(zip([*names, *queries], [*documents, *rows], strict=True))
        corpus = EncodedCorpus(KnownEmbeddings(vectors), names)
        sets = ConformalSets(1.0, score).fit(corpus, queries[:n], Lists.pack(relevant[:n]))
        found = sets.sets(corpus, queries[n:], coverage=0.8)
        covered += [
            bool(set(found.of(row).tolist()) & set(relevant[n + row])) for row in range(new)
        ]
    # Without ties the coverage is exactly 32 / 40. Queries of a draw share their threshold, whose
    # coverage has a beta distribution: a deviation of 0.063 each.
    assert np.mean(covered) == pytest.approx(0.8, abs=4 * 0.09 / np.sqrt(draws))
    assert binom.cdf(sum(covered), len(covered), 0.7) > 0.99


def test_easy_queries_have_smaller_sets(task):
    corpus = task.corpus()
    sets = ConformalSets(0.2, "aps").fit(corpus, *task.part(0, 160))
    sizes = np.diff(sets.sets(corpus, task.queries[160:], coverage=0.7).offsets)
    assert sizes[~task.is_noise[160:]].mean() < sizes[task.is_noise[160:]].mean()


def test_sets_grow_with_the_coverage(task):
    corpus = task.corpus()
    for score in ("lac", "aps"):
        sets = ConformalSets(0.2, score).fit(corpus, *task.part(0, 60))
        found = [sets.sets(corpus, task.queries[60:70], coverage=c) for c in (0.5, 0.7, 0.9)]
        for smaller, larger in itertools.pairwise(found):
            for row in range(10):
                assert set(smaller.of(row)) <= set(larger.of(row))


def test_documents_of_one_probability_are_in_a_set_together():
    model = KnownEmbeddings({"q": [1, 0], "a": [1, 0], "b": [1, 0], "c": [0, 1]})
    corpus = EncodedCorpus(model, ["c", "a", "b"])
    for score in ("lac", "aps"):
        sets = ConformalSets(0.5, score).fit(corpus, ["q"], Lists.pack([[1]]))
        assert sets.sets(corpus, ["q"], coverage=0.5).of(0).tolist() == [1, 2]


def test_queries_without_a_relevant_document_are_left_out(task):
    corpus, (queries, relevant) = task.corpus(), task.part(0, 20)
    one = ConformalSets(0.2).fit(corpus, queries, relevant)
    own = [relevant.of(row).tolist() for row in range(20)]
    other = ConformalSets(0.2).fit(corpus, ["q50", *queries], Lists.pack([[], *own]))
    np.testing.assert_allclose(one.nonconformities_, other.nonconformities_, rtol=1e-6)
    with pytest.raises(ValueError, match="none of the 1 queries has a relevant document"):
        ConformalSets(0.2).fit(corpus, ["q0"], Lists.pack([[]]))


def test_a_coverage_that_takes_more_queries_is_an_error_with_their_number(task):
    corpus = task.corpus()
    sets = ConformalSets(0.2).fit(corpus, *task.part(0, 8))
    message = "coverage 0.9 takes 9 labelled queries with a relevant document, got 8"
    with pytest.raises(ValueError, match=message):
        sets.sets(corpus, ["q20"])
    nine = ConformalSets(0.2).fit(corpus, *task.part(0, 9))
    assert nine.threshold(0.9) == nine.nonconformities_[-1]
    with pytest.raises(ValueError, match=r"coverage 0\.95 takes 19 labelled queries"):
        nine.threshold(0.95)
    nineteen = ConformalSets(0.2).fit(corpus, *task.part(0, 19))
    assert nineteen.threshold(0.95) == nineteen.nonconformities_[-1]


def test_bad_arguments_are_errors(task):
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        ConformalSets(0)
    with pytest.raises(ValueError, match='score must be "lac" or "aps", got \'raps\''):
        ConformalSets(1.0, "raps")
    with pytest.raises(NotFittedError, match="call fit first"):
        ConformalSets(1.0).sets(task.corpus(), ["q0"])
    sets = ConformalSets(1.0).fit(task.corpus(), *task.part(0, 9))
    for coverage in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="coverage must be above 0 and below 1"):
            sets.threshold(coverage)
