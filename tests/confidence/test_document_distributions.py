"""Distributions in tiles of documents against softmaxes of the whole table."""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")

from tilefold.confidence import document_distributions
from tilefold.confidence.document_distributions import (
    View,
    log_likelihoods,
    mean_distribution,
    probability_blocks,
    probability_variances,
)
from tilefold.ragged_lists import Lists

RNG = np.random.default_rng(0)
VIEWS = [
    View(
        RNG.normal(size=(5, 6)).astype(np.float32),
        RNG.normal(size=(13, 6)).astype(np.float32),
        temperature,
    )
    for temperature in (0.5, 1.0, 2.0)
]


def softmaxes(views) -> np.ndarray:
    """Probabilities ``[S, n, m]`` by loops."""
    table = []
    for queries, documents, temperature in views:
        rows = []
        for query in queries.astype(np.float64):
            scores = [float(query @ row) / temperature for row in documents.astype(np.float64)]
            powers = [np.exp(score - max(scores)) for score in scores]
            rows.append([power / sum(powers) for power in powers])
        table.append(rows)
    return np.array(table)


@pytest.fixture(params=[1, 40, 1 << 22], ids="numbers={}".format)
def _numbers(request, monkeypatch):
    monkeypatch.setattr(document_distributions, "NUMBERS_OF_TILE", request.param)


@pytest.fixture(params=[2, 1024], ids="queries={}".format)
def _queries(request, monkeypatch):
    monkeypatch.setattr(document_distributions, "QUERIES_OF_BLOCK", request.param)


in_tiles = pytest.mark.usefixtures("_numbers", "_queries")


@in_tiles
def test_the_mean_distribution_is_that_of_the_whole_table():
    found, table = mean_distribution(VIEWS), softmaxes(VIEWS)
    mean = table.mean(0)
    np.testing.assert_allclose(found.top_probability, mean.max(1), rtol=1e-5)
    np.testing.assert_array_equal(found.top_document, mean.argmax(1))
    np.testing.assert_allclose(found.entropy, -(mean * np.log(mean)).sum(1), rtol=1e-5)
    each = -(table * np.log(table)).sum(2).mean(0)
    np.testing.assert_allclose(found.expected_entropy, each, rtol=1e-5)
    gaps = (table * np.log(table / mean)).sum(2).mean(0)  # mean KL divergence from the mean
    np.testing.assert_allclose(found.mutual_information, gaps, rtol=1e-4, atol=1e-7)
    for row, firsts in enumerate(table.argmax(2).T):
        most = Counter(firsts.tolist()).most_common(1)[0][1]
        assert found.disagreement[row] == pytest.approx(1 - most / 3)


@in_tiles
def test_variances_are_those_of_the_whole_table():
    expected = softmaxes(VIEWS).var(0).sum(1)
    np.testing.assert_allclose(probability_variances(VIEWS), expected, rtol=1e-4)
    assert not probability_variances(VIEWS[:1]).any()


@in_tiles
def test_likelihoods_are_those_of_the_whole_table():
    relevant = Lists.pack([[3], [0, 12], [5], [1, 2, 3], [12]])
    temperatures = [0.25, 1.0, 8.0]
    found = log_likelihoods(VIEWS[0], relevant, temperatures)
    for own, temperature in zip(found, temperatures, strict=True):
        (table,) = softmaxes([VIEWS[0]._replace(temperature=temperature)])
        expected = [np.log(table[row][relevant.of(row)].sum()) for row in range(5)]
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-6)


@in_tiles
def test_blocks_of_queries_have_the_whole_distribution():
    parts = list(probability_blocks(VIEWS[1]))
    assert [row for rows, _ in parts for row in range(5)[rows]] == list(range(5))
    found = np.concatenate([block for _, block in parts])
    np.testing.assert_allclose(found, softmaxes(VIEWS[1:2])[0], rtol=1e-5)


def test_of_equal_probabilities_the_first_document_counts_in_tiles_too(monkeypatch):
    view = View(np.ones((2, 1), np.float32), np.ones((5, 1), np.float32), 1.0)
    for numbers in (1, 4, 100):
        monkeypatch.setattr(document_distributions, "NUMBERS_OF_TILE", numbers)
        found = mean_distribution([view, view])
        assert found.top_document.tolist() == [0, 0]
        np.testing.assert_allclose(found.top_probability, 0.2)
        assert not found.disagreement.any()


def test_huge_scores_and_certain_distributions_are_finite():
    view = View(np.float32([[1e4, 0]]), np.eye(2, dtype=np.float32), 1e-3)
    found = mean_distribution([view])
    assert found.top_probability.tolist() == [1]
    assert found.entropy.tolist() == [0]
    assert log_likelihoods(view, Lists.pack([[0]]), [1e-3, 1.0]).tolist() == [[0], [0]]


def test_a_tile_bounds_the_memory_whatever_the_number_of_documents(monkeypatch):
    sizes, original = [], document_distributions._finite

    def spied(scores):
        sizes.append(scores.size)
        return original(scores)

    monkeypatch.setattr(document_distributions, "_finite", spied)
    monkeypatch.setattr(document_distributions, "NUMBERS_OF_TILE", 60)
    mean_distribution(VIEWS)
    probability_variances(VIEWS)
    log_likelihoods(VIEWS[0], Lists.pack([[0]] * 5), [1.0] * 4)
    assert max(sizes) <= 60


def test_no_queries_have_no_distributions():
    nothing = VIEWS[0]._replace(queries=VIEWS[0].queries[:0])
    assert all(len(column) == 0 for column in mean_distribution([nothing]))
    assert len(probability_variances([nothing])) == 0
    assert list(probability_blocks(nothing)) == []


def test_numbers_that_are_not_finite_are_errors():
    wrong = VIEWS[0]._replace(queries=np.full((1, 6), np.nan, np.float32))
    for summarise in (mean_distribution, probability_variances):
        with pytest.raises(ValueError, match="scores of documents must be finite"):
            summarise([wrong])
    with pytest.raises(ValueError, match="scores of documents must be finite"):
        next(probability_blocks(wrong))
