"""SparseIndex: inner products of sparse vectors against a loop, ordered and padded as elsewhere."""

import importlib
import math

import numpy as np
import pytest

from tilefold.retrieval import sparse_index
from tilefold.retrieval.sparse_index import SparseIndex

sparse = pytest.importorskip("scipy.sparse", reason="not installed: pip install tilefold[analysis]")


def drawn(n: int, features: int, *, density: float = 0.2, signed: bool = False, seed: int = 0):
    """Small integers, so that there are many ties and, with signs, sums of exactly 0."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 4, (n, features)) * (rng.random((n, features)) < density)
    if signed:
        values *= rng.choice([-1, 1], (n, features))
    return values.astype(np.float32)


def by_loop(queries: np.ndarray, documents: np.ndarray, k: int):
    """Scores every document that shares a feature with the query, one after the other."""
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ids = np.full((len(queries), k), -1, np.int64)
    for row, query in enumerate(queries):
        found = [
            (-float(query.astype(float) @ document.astype(float)), place)
            for place, document in enumerate(documents)
            if ((query != 0) & (document != 0)).any()
        ]
        for rank, (score, place) in enumerate(sorted(found)[:k]):
            scores[row, rank], ids[row, rank] = -score, place
    return scores, ids


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix", "csc_array", "coo_array"])
def test_it_finds_what_a_loop_finds(signed, k, kind):
    documents, queries = drawn(40, 30, signed=signed), drawn(25, 30, signed=signed, seed=1)
    queries[3] = 0
    make = getattr(sparse, kind)
    found = SparseIndex(make(documents)).search(make(queries), k)
    scores, ids = by_loop(queries, documents, k)
    assert found.ids.tolist() == ids.tolist()
    assert found.scores.tolist() == scores.tolist()
    assert (found.scores.dtype, found.ids.dtype) == (np.float32, np.int64)


def test_documents_whose_products_cancel_are_found():
    """scipy leaves sums of 0 out of a product, although these documents share features."""
    documents = sparse.csr_array(np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]))
    found = SparseIndex(documents).search(sparse.csr_array(np.array([[1.0, -1.0]])), 3)
    assert found.ids.tolist() == [[0, 1, -1]]
    assert found.scores.tolist() == [[0, -1, -np.inf]]


def test_blocks_of_queries_do_not_change_the_answer(monkeypatch):
    documents, queries = (sparse.csr_array(drawn(n, 20, seed=n)) for n in (30, 17))
    whole = SparseIndex(documents).search(queries, 5)
    monkeypatch.setattr(sparse_index, "_CELLS", 70)
    done = []
    found = SparseIndex(documents).search(queries, 5, progress=lambda *n: done.append(n))
    assert found.ids.tolist() == whole.ids.tolist()
    assert found.scores.tolist() == whole.scores.tolist()
    assert done == [*((n, 17) for n in range(2, 17, 2)), (17, 17)]


def test_idf_is_lucenes_formula():
    documents = np.array([[1, 2, 0], [3, 0, 0], [1, 0, 0]], np.float32)
    index = SparseIndex(sparse.csr_array(documents), weighting="idf")
    found = index.search(sparse.csr_array(np.array([[1, 1, 1]], np.float32)), 3)
    idf = [math.log(1 + (3 - df + 0.5) / (df + 0.5)) for df in (3, 1)]
    expected = {0: idf[0] + 2 * idf[1], 1: 3 * idf[0], 2: idf[0]}
    assert found.ids[0].tolist() == sorted(expected, key=lambda place: -expected[place])
    np.testing.assert_allclose(found.scores[0], [expected[d] for d in found.ids[0]], rtol=1e-6)


def test_postings_are_the_documents_with_the_largest_weights():
    documents = drawn(50, 6, signed=True)
    index = SparseIndex(sparse.csr_array(documents))
    for feature in range(6):
        column = documents[:, feature]
        expected = sorted(np.flatnonzero(column).tolist(), key=lambda d: (-column[d], d))
        weights, ids = index.postings(feature, 50)
        assert ids.tolist() == expected + [-1] * (50 - len(expected))
        assert weights[: len(expected)].tolist() == column[expected].tolist()
        assert index.postings(feature, 2).ids.tolist() == ids[:2].tolist()
    assert np.isneginf(weights[len(expected) :]).all()


def test_costs_count_weights_that_are_not_zero():
    stored = sparse.csr_array((np.array([1.0, 0.0, 2.0]), [0, 1, 1], [0, 2, 3]), shape=(2, 4))
    index = SparseIndex(stored)
    assert (len(index), index.n_features, index.nnz, index.density) == (2, 4, 2, 2 / 8)
    assert index.nbytes == 2 * 4 + 2 * 4 + 5 * 4
    assert stored.nnz == 3  # what is passed stays as it is
    assert math.isnan(SparseIndex(sparse.csr_array((0, 4))).density)


def test_no_documents_and_no_queries():
    empty = SparseIndex(sparse.csr_array((0, 4)))
    assert empty.search(sparse.csr_array(np.ones((2, 4))), 2).ids.tolist() == [[-1, -1]] * 2
    some = SparseIndex(sparse.csr_array(np.ones((2, 4))))
    assert some.search(sparse.csr_array((0, 4)), 3).ids.shape == (0, 3)


def test_wrong_arguments_are_errors():
    index = SparseIndex(sparse.csr_array(np.eye(3)))
    one = sparse.csr_array(np.ones((1, 3)))
    with pytest.raises(ValueError, match="k must be at least 1"):
        index.search(one, 0)
    with pytest.raises(ValueError, match="queries have 2 features but the index has 3"):
        index.search(one[:, :2], 1)
    with pytest.raises(ValueError, match="queries must be finite"):
        index.search(one * np.inf, 1)
    with pytest.raises(TypeError, match=r"documents must be a matrix of scipy\.sparse"):
        SparseIndex(np.eye(3))
    with pytest.raises(ValueError, match="weighting must be None or 'idf', got 'bm25'"):
        SparseIndex(one, weighting="bm25")
    with pytest.raises(ValueError, match="feature must be 0 to 2, got 3"):
        index.postings(3, 1)


def test_without_scipy_it_says_what_to_install(monkeypatch):
    plain = importlib.import_module

    def without(name: str):
        if name.startswith("scipy"):
            raise ImportError("No module named 'scipy'")
        return plain(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ImportError, match=r"pip install \"tilefold\[analysis\]\""):
        SparseIndex(None)
