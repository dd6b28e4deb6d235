"""Range search: the hits and bits of the reference, for arrays and indexes, few hits and many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tilefold
from tilefold import reference
from tilefold.retrieval import range_search as module

Q, D = (
    np.random.default_rng(i).standard_normal((n, 24)).astype("f4") for i, n in ((0, 5), (1, 900))
)


def by_array(queries, documents, min_score, **options):
    return tilefold.range_search(queries, documents, min_score, **options)


def by_index(queries, documents, min_score, **options):
    """Over an index of several segments."""
    index = tilefold.FlatIndex(documents.shape[1])
    for rows in np.array_split(np.arange(len(documents)), 3):
        index.add(documents[rows], ids=rows)
    return index.range_search(queries, min_score, **options)


WAYS = pytest.mark.parametrize("way", [by_array, by_index])


def expected(queries, documents, low, high=np.inf, excluded=None, allowed=None):
    scores = reference.canonical_scores(queries, documents)
    hit = (scores >= np.reshape(np.float32(low), (-1, 1))) & (scores <= high)
    hit &= True if excluded is None else ~excluded
    hit &= True if allowed is None else allowed
    rows = [np.flatnonzero(one) for one in hit]
    rows = [r[np.lexsort((r, -s[r]))] for r, s in zip(rows, scores, strict=True)]
    none = np.empty(0, np.int64)
    return (
        np.cumsum([0, *map(len, rows)]),
        np.concatenate([none.astype("f4"), *(s[r] for r, s in zip(rows, scores, strict=True))]),
        np.concatenate([none, *rows]),
    )


def assert_same(found, wanted):
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found.scores.dtype == np.float32
    assert {found.ids.dtype, found.offsets.dtype} == {np.dtype(np.int64)}


@WAYS
@given(data=st.data())
def test_any_bound_finds_what_the_reference_finds(way, isa, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, m, dim = data.draw(st.sampled_from([1, 3, 20])), data.draw(st.integers(0, 300)), 8
    documents = rng.integers(-2, 3, (m, dim)).astype("f4")  # with ties, also at the bound
    queries = rng.integers(-2, 3, (n, dim)).astype("f4")
    low = rng.integers(-9, 10, n).astype("f4")
    assert_same(way(queries, documents, low), expected(queries, documents, low))


@WAYS
@pytest.mark.parametrize("low", [-np.inf, -3.0, 0.0, 5.0, 1e9, np.inf])
def test_from_no_hit_to_every_document(way, low, monkeypatch):
    monkeypatch.setattr(module, "_DEPTHS", (4, 32))
    monkeypatch.setattr(module, "_BLOCK", 64)
    monkeypatch.setattr(module, "_BUFFER_BYTES", 2 * 64 * module._HIT_BYTES)
    assert_same(way(Q, D, low), expected(Q, D, low))


@WAYS
def test_filters_are_those_of_search(way):
    rng = np.random.default_rng(2)
    excluded, allowed = rng.random((len(Q), len(D))) < 0.2, rng.random(len(D)) < 0.7
    lists = [np.flatnonzero(one) for one in excluded]
    found = way(Q, D, -1.0, max_score=6.0, exclude=lists, allowed=allowed)
    assert_same(found, expected(Q, D, -1.0, 6.0, excluded, allowed))


def test_hits_are_those_of_a_search_for_all_documents():
    found = tilefold.range_search(Q, D, 2.0)
    scores, ids = tilefold.search(Q, D, len(D), min_score=2.0)
    np.testing.assert_array_equal(found.ids, ids[ids >= 0])
    np.testing.assert_array_equal(found.scores, scores[ids >= 0])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads):
    assert_same(tilefold.range_search(Q, D, 0.5, num_threads=threads), expected(Q, D, 0.5))


def test_removed_and_nonfinite_documents_are_no_hits():
    documents = D.copy()
    documents[7, 3] = np.nan
    index = tilefold.FlatIndex(24)
    index.add(documents, nonfinite="exclude")
    index.remove(np.arange(0, 900, 2))
    left = np.zeros(len(D), bool)
    left[1::2] = True
    left[7] = False
    assert_same(index.range_search(Q, -2.0), expected(Q, D, -2.0, allowed=left))
    assert_same(
        tilefold.range_search(Q, documents, -2.0, nonfinite="exclude"),
        expected(Q, D, -2.0, allowed=np.arange(len(D)) != 7),
    )
    with pytest.raises(ValueError, match="range_search: row 7 of documents has a NaN"):
        tilefold.range_search(Q, documents, 0)


def test_a_query_that_is_not_finite_has_no_hits():
    queries = Q.copy()
    queries[1] = np.inf
    found = tilefold.range_search(queries, D, -np.inf, nonfinite="exclude")
    assert np.diff(found.offsets).tolist() == [900, 0, 900, 900, 900]


def test_a_single_query_gives_offsets_of_one():
    assert_same(tilefold.range_search(Q[0], D, 1.0), expected(Q[:1], D, 1.0))


def test_nothing_to_search_gives_no_hits():
    assert_same(tilefold.FlatIndex(24).range_search(Q, 0), expected(Q, D[:0], 0))
    assert_same(tilefold.range_search(Q[:0], D, 0), expected(Q[:0], D, 0))


def test_results_are_of_the_kind_of_the_queries():
    torch = pytest.importorskip("torch")
    found = tilefold.range_search(torch.from_numpy(Q), D, 1.0)
    assert all(isinstance(part, torch.Tensor) for part in found)
    assert_same(
        found._replace(**{k: v.numpy() for k, v in found._asdict().items()}), expected(Q, D, 1)
    )


def test_progress_ends_at_the_number_of_documents():
    seen = []
    index = tilefold.FlatIndex(24)
    index.add(D)
    index.range_search(Q, 1.0, progress=lambda done, total: seen.append((done, total)))
    tilefold.range_search(Q, D, 1.0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(900, 900), (900, 900)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"min_score": None}, TypeError, "min_score must be a number"),
        ({"min_score": np.nan}, ValueError, "min_score must not be NaN"),
        ({"min_score": [1.0, 2.0]}, ValueError, "min_score must be a number or have one per query"),
        ({"min_score": 0, "num_threads": 0}, ValueError, "num_threads must be 1 to 1024"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options, error, message):
    low = options.pop("min_score")
    with pytest.raises(error, match=f"^range_search: {message}"):
        tilefold.range_search(Q, D, low, **options)
    index = tilefold.FlatIndex(24)
    with pytest.raises(error, match=f"^FlatIndex.range_search: {message}"):
        index.range_search(Q, low, **options)


def test_queries_of_another_dim_are_refused():
    with pytest.raises(ValueError, match="queries have dim 3 but documents have dim 24"):
        tilefold.range_search(Q[:, :3], D, 0)
