"""The fitted temperature against the one that drew the labels, and against a fine grid."""

import numpy as np
import pytest
from known_embeddings import KnownEmbeddings

pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
from scipy.special import log_softmax, softmax

from tilefold.confidence import EncodedCorpus, TopProbability, fit_temperature
from tilefold.ragged_lists import Lists


def drawn(n: int, temperature: float, seed: int = 0):
    """A corpus, queries, and relevant documents drawn from the softmax at a temperature."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n + 20, 8)).astype(np.float32)
    texts = [f"t{i}" for i in range(n + 20)]
    corpus = EncodedCorpus(KnownEmbeddings(dict(zip(texts, rows, strict=True))), texts[n:])
    probabilities = softmax(rows[:n].astype(np.float64) @ rows[n:].T / temperature, axis=1)
    labels = [[int(rng.choice(20, p=own))] for own in probabilities]
    return corpus, texts[:n], labels


@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_the_temperature_that_drew_the_labels_is_found(temperature):
    corpus, queries, labels = drawn(1500, temperature)
    found = fit_temperature(corpus, queries, Lists.pack(labels))
    assert found == pytest.approx(temperature, rel=0.1)


def test_no_other_temperature_is_more_likely():
    corpus, queries, labels = drawn(60, 1.5)
    labels = [own if row % 3 else [own[0], (own[0] + 1) % 20] for row, own in enumerate(labels)]
    found = fit_temperature(corpus, queries, Lists.pack(labels))
    scores = corpus.encode_queries(queries).astype(np.float64) @ corpus.vectors.T

    def loss(temperature):
        logs = log_softmax(scores / temperature, axis=1)
        return -np.mean([np.logaddexp.reduce(logs[row, own]) for row, own in enumerate(labels)])

    grid = found * np.logspace(-2, 2, 801)
    assert loss(found) <= min(map(loss, grid)) + 1e-9
    assert found == pytest.approx(grid[np.argmin([loss(each) for each in grid])], rel=0.01)


def test_queries_without_a_relevant_document_are_left_out():
    corpus, queries, labels = drawn(50, 1.0)
    whole = fit_temperature(corpus, queries, Lists.pack(labels))
    longer = [*queries, "t55"], Lists.pack([*labels, []])
    assert fit_temperature(corpus, *longer) == whole
    with pytest.raises(ValueError, match="none of the 50 queries has a relevant document"):
        fit_temperature(corpus, queries, Lists.pack([[]] * 50))


def test_perfect_rankings_have_no_best_temperature_and_warn():
    corpus, queries, _ = drawn(30, 1.0)
    firsts = Lists.pack(corpus.search(queries, 1).ids.tolist())
    with pytest.warns(UserWarning, match="fit_temperature: the likelihood has no maximum"):
        found = fit_temperature(corpus, queries, firsts)
    assert found > 0
    lasts = Lists.pack(corpus.search(queries, 20).ids[:, -1:].tolist())
    with pytest.warns(UserWarning, match="fit_temperature: the likelihood has no maximum"):
        assert fit_temperature(corpus, queries, lasts) > found


def test_documents_that_do_not_differ_are_an_error():
    model = KnownEmbeddings({"q": [1, 0], "a": [0, 1], "b": [0, 1]})
    with pytest.raises(ValueError, match="all documents of a query have the same score"):
        fit_temperature(EncodedCorpus(model, ["a", "b"]), ["q"], Lists.pack([[0]]))


def test_a_given_temperature_is_not_fitted():
    corpus, queries, labels = drawn(50, 1.0)
    given = TopProbability(0.25).fit(corpus, queries, Lists.pack(labels))
    assert given.temperature_ == given.temperature == 0.25
    fitted = TopProbability().fit(corpus, queries, Lists.pack(labels))
    assert fitted.temperature is None
    assert fitted.temperature_ == fit_temperature(corpus, queries, Lists.pack(labels))


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_temperatures_that_are_not_above_0_are_errors(temperature):
    with pytest.raises(ValueError, match="TopProbability: temperature must be above 0 or None"):
        TopProbability(temperature)


def test_labels_that_do_not_fit_are_errors():
    corpus, queries, labels = drawn(5, 1.0)
    with pytest.raises(ValueError, match="got 5 queries and 4 lists"):
        fit_temperature(corpus, queries, Lists.pack(labels[:4]))
    with pytest.raises(ValueError, match="got 0 queries and 0 lists"):
        fit_temperature(corpus, [], Lists.pack([]))
    with pytest.raises(ValueError, match="indices of documents, 0 to 19, got 20 for query 2"):
        fit_temperature(corpus, queries, Lists.pack([*labels[:2], [20], *labels[3:]]))
