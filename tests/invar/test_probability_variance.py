"""Variance over interventions of the probabilities of all documents."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tilefold.invar import (
    EncodedInterventions,
    Interventions,
    Window,
    ranking_patterns,
    view_probabilities,
)
from tilefold.invar.interventions import probability_variance
from tilefold.losses import invariance_loss

DOCUMENTS = ["a b c d e", "f g", "", "h i j k l m n", "o"] * 3
QUERIES = ["p q", "r", "s t u", "v", "w"]
PRODUCT = Interventions(
    QUERIES, [[f"{query} x", f"y {query}"] for query in QUERIES], [None, Window(2), Window(3)]
)


class DrawsEmbeddings:
    """A retriever with a random embedding of each text, the same in every call."""

    def encode_queries(self, texts: Sequence[str], prompts=None, **options) -> np.ndarray:
        """Embeddings of queries."""
        return self._drawn(texts)

    def encode_documents(self, texts: Sequence[str], titles=None, **options) -> np.ndarray:
        """Embeddings of documents."""
        return self._drawn(texts)

    def _drawn(self, texts: Sequence[str]) -> np.ndarray:
        rows = [np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]
        return np.array(rows, np.float32).reshape(-1, 8)


def scores_of_all(product: Interventions) -> np.ndarray:
    """Scores of all documents under every intervention, ``[S, n, m]``, by loops."""
    model = DrawsEmbeddings()
    table = np.zeros((len(product), len(QUERIES), len(DOCUMENTS)))
    for place, each in enumerate(product):
        queries = model.encode_queries(product.queries(each)).astype(np.float64)
        for row, text in enumerate(DOCUMENTS):
            pieces = [text] if each.window is None else each.window.chunks([text]).texts
            own = queries @ model.encode_documents(pieces).T
            table[place, :, row] = own.max(1)
    return table


def encoded(product: Interventions = PRODUCT) -> EncodedInterventions:
    return EncodedInterventions(DrawsEmbeddings(), product, DOCUMENTS)


@pytest.mark.parametrize("numbers", [1, 9 * 2 * 4, 1 << 22])
@pytest.mark.parametrize("queries", [2, 5, 1024])
def test_variances_are_those_of_the_whole_table_in_tiles_of_any_size(monkeypatch, numbers, queries):
    monkeypatch.setattr(probability_variance, "NUMBERS_OF_TILE", numbers)
    monkeypatch.setattr(probability_variance, "QUERIES_OF_BLOCK", queries)
    selections = [[0, 3, 6], [0, 1, 2], range(9), [4]]
    found = encoded().probability_variances(0.7, selections)
    probabilities = view_probabilities(scores_of_all(PRODUCT), 0.7)
    expected = [ranking_patterns(probabilities[list(own)], 1).uncertainty for own in selections]
    assert found.shape == (4, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-15)
    assert (found[:3] > 1e-3).all()
    assert not found[3].any()


def test_by_default_one_variance_is_over_all_interventions():
    found = encoded().probability_variances(0.7)
    assert found.shape == (1, 5)
    assert found.tolist() == encoded().probability_variances(0.7, [range(9)]).tolist()


def test_variances_over_wordings_are_those_of_the_invariance_loss():
    model = DrawsEmbeddings()
    queries = torch.from_numpy(np.stack([model.encode_queries(own) for own in PRODUCT.wordings]))
    documents = torch.from_numpy(model.encode_documents(DOCUMENTS))
    loss = invariance_loss(queries, documents, temperature=0.7)
    found = encoded().probability_variances(0.7, [[0, 3, 6]])[0]
    np.testing.assert_allclose(found, loss.variance.numpy(), rtol=1e-5)


def test_a_tile_bounds_the_memory_whatever_the_number_of_documents(monkeypatch):
    sizes = []
    original = probability_variance._scores

    def spied(views, begin, end):
        found = original(views, begin, end)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(probability_variance, "_scores", spied)
    monkeypatch.setattr(probability_variance, "NUMBERS_OF_TILE", 100)
    encoded().probability_variances(0.7)
    assert max(sizes) <= 100
    assert len(sizes) == 2 * 8  # fifteen documents, two of them in a tile; twice


def test_no_documents_have_no_variance():
    nothing = EncodedInterventions(DrawsEmbeddings(), PRODUCT, [])
    assert nothing.probability_variances(1.0).tolist() == [[0.0] * 5]


def test_bad_arguments_are_errors():
    whole = encoded()
    with pytest.raises(ValueError, match="probability_variances: temperature must be above 0"):
        whole.probability_variances(0.0)
    with pytest.raises(ValueError, match=r"one or more places, 0 to 8, got \[\]"):
        whole.probability_variances(1.0, [[0], []])
    with pytest.raises(ValueError, match=r"0 to 8, got \[9\]"):
        whole.probability_variances(1.0, [[9]])
    with pytest.raises(ValueError, match=r"interventions have ks \[None, 2\]; make them without"):
        encoded(Interventions(QUERIES, ks=[None, 2])).probability_variances(1.0)


def test_scores_that_are_not_finite_are_errors():
    class Infinite(DrawsEmbeddings):
        def encode_documents(self, texts: Sequence[str], titles=None, **options) -> np.ndarray:
            return np.full((len(texts), 8), np.inf, np.float32)

    whole = EncodedInterventions(Infinite(), Interventions(QUERIES), DOCUMENTS)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match="scores of documents must be finite"),
    ):
        whole.probability_variances(1.0)
