"""FlatIndex with cosine and Euclidean metrics: the reference's bits, near duplicates included."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilefold
from tilefold import reference
from tilefold.mining import mine
from tilefold.retrieval import euclidean

DIM = 24
Q, D = (
    np.random.default_rng(i).standard_normal((n, DIM)).astype("f4") for i, n in ((0, 6), (1, 700))
)


def scores_of(metric, queries, documents):
    if metric == "l2":
        return reference.negative_squared_distances(queries, documents)
    return reference.canonical_scores(*map(reference.normalized, (queries, documents)))


def expected(scores, k):
    n, m = scores.shape
    best, ids = np.full((n, k), -np.inf, "f4"), np.full((n, k), -1)
    for i in range(n):
        rows = np.lexsort((np.arange(m), -scores[i]))[:k]
        best[i, : len(rows)], ids[i, : len(rows)] = scores[i, rows], rows
    return best, ids


def index_of(metric, documents, parts=3):
    index = tilefold.FlatIndex(documents.shape[1], metric)
    for rows in np.array_split(np.arange(len(documents)), parts):
        index.add(documents[rows], ids=rows)
    return index


def assert_same(found, wanted):
    np.testing.assert_array_equal(found[1], wanted[1])
    np.testing.assert_array_equal(found[0], wanted[0])


METRICS = pytest.mark.parametrize("metric", ["cosine", "l2"])


def gaussian(rng, shape):
    return rng.standard_normal(shape)


def lattice(rng, shape):
    """Many equal distances."""
    return rng.integers(-1, 2, shape)


def far_from_zero(rng, shape):
    """Distances are a small difference of large squared lengths."""
    return rng.standard_normal(shape) + 1e4


def near_duplicates(rng, shape):
    """Documents closer to each other than fp32 can tell from inner products."""
    center = rng.standard_normal((1, shape[1]))
    return center * (1 + 1e-6 * rng.integers(-3, 4, shape))


def of_any_size(rng, shape):
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-30, 15, (shape[0], 1))


KINDS = [gaussian, lattice, far_from_zero, near_duplicates, of_any_size]


@METRICS
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), k=st.sampled_from([1, 3, 20, 300]))
def test_any_search_answers_as_the_reference(metric, kind, isa, seed, k):
    rng = np.random.default_rng(seed)
    documents = kind(rng, (int(rng.integers(0, 250)), 20)).astype("f4")
    queries = np.concatenate([kind(rng, (2, 20)).astype("f4"), documents[:2]])
    scores = scores_of(metric, queries, documents)
    index = index_of(metric, documents)
    assert_same(index.search(queries, k), expected(scores, k))
    low = (
        np.quantile(scores, 0.7, axis=1).astype("f4") if len(documents) else np.zeros(len(queries))
    )
    found = index.range_search(queries, low)
    hits = [np.flatnonzero(s >= b) for s, b in zip(scores, low.astype("f4"), strict=True)]
    hits = [rows[np.lexsort((rows, -s[rows]))] for rows, s in zip(hits, scores, strict=True)]
    np.testing.assert_array_equal(found.ids, np.concatenate([np.empty(0), *hits]))
    np.testing.assert_array_equal(np.diff(found.offsets), [len(rows) for rows in hits])


def test_candidates_that_do_not_suffice_are_searched_again(monkeypatch):
    """100 documents at nearly one distance: inner products order them wrongly."""
    calls = []
    within = euclidean.EuclideanSearch._within
    monkeypatch.setattr(
        euclidean.EuclideanSearch,
        "_within",
        lambda self, *arguments: calls.append(len(arguments[0])) or within(self, *arguments),
    )
    documents = near_duplicates(np.random.default_rng(5), (100, 20)).astype("f4")
    found = index_of("l2", documents).search(documents[:4], 3)
    assert calls == [4]
    assert_same(found, expected(scores_of("l2", documents[:4], documents), 3))
    calls.clear()
    index_of("l2", D).search(Q, 3)
    assert not calls


@METRICS
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(metric, threads):
    found = index_of(metric, D).search(Q, 9, num_threads=threads)
    assert_same(found, expected(scores_of(metric, Q, D), 9))


@METRICS
def test_documents_are_filtered(metric):
    allowed = np.random.default_rng(3).random(len(D)) < 0.4
    scores = scores_of(metric, Q, D)
    scores[:, ~allowed] = -np.inf
    scores[2, 5:30] = -np.inf
    exclude = [[] if i != 2 else [*range(5, 30)] for i in range(len(Q))]
    found = index_of(metric, D).search(Q, 9, allowed=allowed, exclude=exclude)
    assert_same(found, expected(scores, 9))


@METRICS
def test_a_lowest_score_is_in_the_units_of_the_metric(metric):
    scores = scores_of(metric, Q, D)
    low = np.sort(scores, axis=1)[:, -4]
    found = index_of(metric, D).search(Q, 9, min_score=low)
    assert (found.ids >= 0).sum(1).tolist() == [4] * len(Q)
    np.testing.assert_array_equal(found.scores[:, :4], expected(scores, 4)[0])
    high = np.sort(scores, axis=1)[:, -2]
    ranged = index_of(metric, D).range_search(Q, low, max_score=high)
    np.testing.assert_array_equal(np.diff(ranged.offsets), [3] * len(Q))


@METRICS
def test_vectors_of_every_dtype_are_scored_as_float32(metric):
    for dtype in ("f2", "i1"):
        documents = (D * 20).astype(dtype)
        index = index_of(metric, documents)
        assert index.dtype == "float32"
        assert_same(index.search(Q, 5), expected(scores_of(metric, Q, documents.astype("f4")), 5))


@METRICS
def test_it_is_saved_loaded_and_pickled_with_its_metric(metric, tmp_path):
    index = index_of(metric, D)
    index.remove([3, 4])
    index.save(tmp_path / "index")
    for again in (tilefold.FlatIndex.load(tmp_path / "index"), pickle.loads(pickle.dumps(index))):
        assert again.metric == metric
        assert (again.dim, repr(again)) == (DIM, repr(index))
        assert_same(again.search(Q, 5), index.search(Q, 5))
        again.add(D[3:5], ids=[3, 4])
        assert_same(again.search(Q, 5), expected(scores_of(metric, Q, D), 5))


def test_reconstruct_gives_the_vectors():
    assert index_of("l2", D).reconstruct([5, 6]).tobytes() == D[5:7].tobytes()
    unit = index_of("cosine", D).reconstruct([5, 6])
    assert unit.tobytes() == reference.normalized(D[5:7]).tobytes()


def test_zeros_have_no_direction():
    index = index_of("cosine", np.zeros((3, 4), "f4"), parts=1)
    found = index.search(np.eye(1, 4, dtype="f4"), 2)
    assert found.scores.tolist() == [[0, 0]]
    assert found.ids.tolist() == [[0, 1]]


@METRICS
def test_rows_that_are_not_finite_are_refused_or_left_out(metric):
    documents = D.copy()
    documents[11, 2] = np.inf
    index = tilefold.FlatIndex(DIM, metric)
    with pytest.raises(ValueError, match="row 11 of vectors has a NaN"):
        index.add(documents)
    index.add(documents, nonfinite="exclude")
    scores = scores_of(metric, Q, D)
    scores[:, 11] = -np.inf
    assert_same(index.search(Q, 5), expected(scores, 5))
    queries = Q.copy()
    queries[1, 0] = np.nan
    found = index.search(queries, 5, nonfinite="exclude")
    assert (found.ids[1] == -1).all()
    assert_same((found.scores[2:], found.ids[2:]), expected(scores[2:], 5))


def test_vectors_too_long_for_squared_lengths_are_refused():
    index = tilefold.FlatIndex(2, "l2")
    with pytest.raises(ValueError, match='row 1 of vectors is too long for metric="l2"'):
        index.add(np.float32([[1, 1], [1e20, 0]]))
    assert len(index) == 0


def test_what_does_not_go_with_a_metric_is_refused():
    index = index_of("l2", D)
    with pytest.raises(ValueError, match="metric must be one of ip, cosine, l2, got 'dot'"):
        tilefold.FlatIndex(3, "dot")
    with pytest.raises(ValueError, match="max_score does not go with"):
        index.search(Q, 3, max_score=1.0)
    with pytest.raises(ValueError, match="return_certificate does not go with"):
        index.search(Q, 3, return_certificate=True)
    with pytest.raises(ValueError, match='metric="l2", expected "ip"'):
        tilefold.search_shards(Q, [index], 3)
    with pytest.raises(ValueError, match='must have metric="ip", got "l2"'):
        mine(Q, index, [[0]] * len(Q), n_negatives=1)
    with pytest.raises(ValueError, match="queries have dim 3 but documents have dim 24"):
        index.search(Q[:, :3], 3)


@METRICS
def test_an_empty_index_answers_with_padding(metric):
    found = tilefold.FlatIndex(DIM, metric).search(Q, 2)
    assert (found.ids == -1).all()
    assert np.isneginf(found.scores).all()
