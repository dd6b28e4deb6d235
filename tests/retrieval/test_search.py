"""search(): the bits of the reference, whatever the data, and the certificate of an answer."""

import dataclasses
import hashlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from search_cases import DATA, WAYS, assert_same, by_array, by_index, gaussian, make

import tilefold
from tilefold import _native, reference
from tilefold.retrieval.packing import pack
from tilefold.retrieval.running_search import RunningSearch
from tilefold.retrieval.search_options import SearchOptions

DIMS = [1, 7, 8, 15, 16, 17, 63, 64, 65, 384, 768]
N_DOCUMENTS = 300


def assert_certified(found: Any, k: int, documents: int) -> None:
    certificate = found.certificate
    assert certificate.holds
    assert (certificate.gap > 0).all()
    np.testing.assert_array_equal(certificate.threshold, found.scores[:, -1])
    answered = (found.ids >= 0).sum(axis=1)
    assert (certificate.refined >= answered).all()
    assert (certificate.refined <= documents).all()
    everything = certificate.refined == documents
    assert np.isneginf(certificate.bound[everything]).all()
    assert np.isfinite(certificate.bound[~everything]).all()


# ---- data that hits branches ---------------------------------------------------------------------


def make_queries(kind: str, dim: int) -> np.ndarray:
    """Some of the same kind as the documents, some plain, some that are documents, one and zero."""
    queries = [make(kind, 8, dim, 1), gaussian(8, dim), make(kind, N_DOCUMENTS, dim)[-3:]]
    return np.concatenate([np.ones((1, dim), np.float32), *queries, np.zeros((1, dim), np.float32)])


@WAYS
@pytest.mark.parametrize("kind", DATA)
def test_answers_have_the_bits_of_the_reference(isa, way, kind):
    for dim in (3, 40):
        queries, documents = make_queries(kind, dim), make(kind, N_DOCUMENTS, dim)
        scores, ids = reference.search(queries, documents, N_DOCUMENTS + 2)
        for k in (1, 2, 10, 75, 76, N_DOCUMENTS - 1, N_DOCUMENTS, N_DOCUMENTS + 2):
            found = way(queries, documents, k, return_certificate=True)
            assert_same(found, (scores[:, :k], ids[:, :k]))
            assert_certified(found, k, N_DOCUMENTS)
            few = way(queries[:3], documents, k)
            assert_same(few, (scores[:3, :k], ids[:3, :k]))


@WAYS
@pytest.mark.parametrize("dim", DIMS)
def test_every_dim_is_searched(isa, way, dim):
    queries, documents = gaussian(17, dim, 1), gaussian(257, dim, 2)
    assert_same(way(queries, documents, 9), reference.search(queries, documents, 9))


@WAYS
@pytest.mark.parametrize("documents", range(0, 130, 10))
def test_every_number_of_documents_is_searched(isa, way, documents):
    """Few fill no block of 32; of many the last block is rarely full."""
    for more in (0, 1, 7):
        corpus, queries = gaussian(documents + more, 12, 1), gaussian(16, 12, 2)
        for k in (1, 5, 40):
            assert_same(way(queries, corpus, k), reference.search(queries, corpus, k))


@WAYS
@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 11, 12, 13, 15, 16, 17, 25, 127, 129, 300])
def test_every_number_of_queries_is_answered(isa, way, n):
    """Tiles hold 4 or 12 queries, groups up to 128."""
    queries, documents = gaussian(n, 20, 1), gaussian(150, 20, 2)
    for threads in (1, 3):
        found = way(queries, documents, 6, num_threads=threads)
        assert_same(found, reference.search(queries, documents, 6))


def test_half_precision_is_searched(isa):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        queries, documents = gaussian(20, 33, 1).astype(dtype), gaussian(400, 33, 2).astype(dtype)
        expected = reference.search(queries.astype("f4"), documents.astype("f4"), 7)
        assert_same(by_array(queries, documents, 7), expected)
        assert_same(by_index(queries, documents, 7), expected)
        assert_same(by_index(queries.astype("f4"), documents, 7), expected)


def test_bytes_are_searched(isa):
    rng = np.random.default_rng(1)
    queries, documents = (rng.integers(-128, 128, (n, 65)).astype(np.int8) for n in (20, 400))
    queries[:2], documents[:2], documents[9] = -128, -128, 0
    for way in (by_array, by_index):
        for k in (1, 7, 100):
            assert_same(way(queries, documents, k), reference.search(queries, documents, k))


@pytest.mark.parametrize("k", [10, 100])
@pytest.mark.parametrize(
    "kind", ["all equal", "zero", "near-ties", "clusters", "duplicates", "rising"]
)
def test_answers_are_right_when_nearly_everything_is_a_candidate(isa, kind, k):
    """More documents than any list of candidates holds stay within each other's bounds."""
    queries, documents = make(kind, 3, 16, 1) + gaussian(3, 16), make(kind, 20_000, 16)
    expected = reference.search(queries, documents, k)
    found = by_index(queries, documents, k, return_certificate=True)
    assert_same(found, expected)
    assert_certified(found, k, 20_000)
    assert_same(by_array(queries, documents, k), expected)


@pytest.mark.parametrize("order", ["rising", "falling", "any"])
def test_the_smallest_ids_win_ties_wherever_they_are(isa, order):
    documents = np.ones((20_000, 8), np.float32)
    ids = np.arange(5, 20_005)
    index = tilefold.FlatIndex(8)
    orders = {"rising": ids, "falling": ids[::-1], "any": np.random.default_rng(1).permutation(ids)}
    index.add(documents, ids=orders[order])
    for k in (1, 10, 300):
        for threads in (1, 4):
            found = index.search(documents[:2], k, num_threads=threads)
            np.testing.assert_array_equal(found.ids, [ids[:k]] * 2)


def test_scores_that_overflow_are_ordered_like_others(isa):
    """Infinite scores tie, whichever their sign; the documents' bounds are infinite as well."""
    documents = np.float32([[1], [-3e38], [-3e38], [2], [3e38]] * 30)
    queries = np.float32([[3e38], [-3e38], [1e-30]] * 6)
    for k in (1, 2, 29, 30, 31, 60, 61, 89, 90, 91, 149, 150):
        for way in (by_array, by_index):
            assert_same(way(queries, documents, k), reference.search(queries, documents, k))


def test_more_queries_than_any_group_holds_are_answered(isa):
    queries, documents = gaussian(4321, 4, 1), gaussian(150, 4, 2)
    expected = reference.search(queries, documents, 3)
    assert_same(by_array(queries, documents, 3), expected)
    assert_same(by_index(queries, documents, 3), expected)


@pytest.mark.parametrize("more", [0, 1, 9])
def test_vectors_too_long_to_be_packed_are_scored_directly(isa, more):
    dim = _native.MAX_PACKED_DIM + more
    queries, documents = gaussian(16, dim, 1), gaussian(45, dim, 2)
    for way in (by_array, by_index):
        found = way(queries, documents, 3, return_certificate=True)
        assert_same(found, reference.search(queries, documents, 3))
        assert_certified(found, 3, 45)
        if more:
            assert (found.certificate.refined == 45).all()


def test_the_filter_spares_most_documents(isa):
    """Or the answer would be right, but slow."""
    queries, documents = gaussian(32, 128, 1), gaussian(6000, 128, 2)
    found = by_index(queries, documents, 10, return_certificate=True)
    assert (found.certificate.refined < 600).all()
    few = by_array(queries[:2], documents, 10, return_certificate=True)
    assert (few.certificate.refined == 6000).all()


def misleading(dim: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Documents whose codes promise more than they hold, and a few better ones that look worse.

    All codes of the crowd err by half a step in the direction of the query, which the middle of
    bounds does not expect. The codes of the few are exact, between what the crowd holds and what it
    promises. The query is zero where the largest value sets the step. The opposite of each document
    follows, so that documents have no mean.
    """
    promised, held, few = 100, 99.51, 99.65
    queries = np.ones((3, dim), np.float32)
    queries[:, 0] = 0
    crowd = np.full((2000, dim), held)
    crowd[:, 0] = 127
    rare = np.full((5, dim), promised)
    rare[:, 0] = 127
    documents = np.float32([*crowd, *(rare * (few / promised))])
    return queries, np.concatenate([documents, -documents])


@WAYS
@pytest.mark.parametrize("n", [1, 3, 600])
@pytest.mark.parametrize("threads", [1, 2])
def test_codes_that_mislead_cost_time_not_exactness(isa, way, n, threads):
    queries, documents = misleading()
    queries = np.resize(queries, (n, queries.shape[1]))
    found = way(queries, documents, 5, num_threads=threads, return_certificate=True)
    assert_same(found, reference.search(queries, documents, 5))
    assert set(found.ids.ravel()) == set(range(2000, 2005))
    assert_certified(found, 5, 4010)


@WAYS
def test_codes_that_mislead_may_be_filtered(isa, way):
    queries, documents = misleading()
    allowed = np.isin(np.arange(4010), np.arange(5, 2003))
    excluded = np.zeros((3, 4010), np.bool_)
    excluded[0, [2001, 3]] = excluded[1, 2004] = True
    crowd = reference.search(queries, documents[:1], 1)[0][:, 0]
    for ours, truth in (
        ({"exclude": [[2001, 3], [2004], []]}, {"excluded": excluded}),
        ({"allowed": allowed}, {"allowed": allowed}),
        ({"max_score": crowd}, {"max_score": crowd}),
        ({"min_score": crowd + 1}, {"min_score": crowd + 1}),
    ):
        found = way(queries, documents, 4, **ours)
        assert_same(found, reference.search(queries, documents, 4, **truth))


@pytest.mark.parametrize("seed", [73, 80, 183, 240, 253, 267])
def test_norms_whose_product_underflows_on_its_way_lose_no_document(isa, seed):
    """A query of norm 1e-43, documents of norm 1e-42 to 1e31: in fp32, (dim + 64) 2^-24 times the
    norm of the query is zero, but times the norm of a document, too, it is a bound that matters."""
    rng = np.random.default_rng(seed)
    query = np.float32(rng.standard_normal((1, 4)) * 2.0**-144)
    exponents = np.arange(-140.0, 116, 16)[:, None]
    documents = np.float32(rng.standard_normal((16, 4)) * 2.0**exponents)
    found = by_index(query, documents, 4, max_score=0.5, return_certificate=True)
    assert_same(found, reference.search(query, documents, 4, max_score=0.5))
    assert found.certificate.holds


@pytest.mark.parametrize("lie", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dim", [8, 64])
def test_bounds_that_scores_contradict_are_not_believed(isa, dim, lie):
    """Every score met is held against its bounds; wrong ones cost a search without them."""
    queries, documents = gaussian(20, dim, 1), gaussian(2000, dim, 2)
    packed, _ = pack(documents)
    bounds = packed.bounds.copy()
    bounds.reshape(-1, 4, 32)[:, 0] *= lie  # scales
    bounds.reshape(-1, 4, 32)[:, 1:] *= 1e-3  # norms and radii
    running = RunningSearch(queries, 7, SearchOptions(op="search", return_certificate=True))
    running.fold(documents, packed=dataclasses.replace(packed, bounds=bounds))
    found = running.result()
    assert_same(found, reference.search(queries, documents, 7))
    assert found.certificate.holds


def test_nothing_to_search_gives_padding(isa):
    none, some = np.empty((0, 6), np.float32), gaussian(3, 6)
    for way in (by_array, by_index):
        found = way(some, none, 2, return_certificate=True)
        assert_same(found, (np.full((3, 2), -np.inf, "f4"), np.full((3, 2), -1)))
        assert found.certificate.holds
        assert way(none, some, 2).ids.shape == (0, 2)
        assert way(none, none, 2).scores.shape == (0, 2)
        assert way(some[0], none, 2).ids.tolist() == [-1, -1]


# ---- values that are not finite ------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("n", [3, 20])
def test_rows_that_are_not_finite_are_never_retrieved(isa, way, n):
    if way is by_index:
        pytest.skip("an index settles this when documents are added: see below")
    queries, documents = gaussian(n, 10, 1), gaussian(500, 10, 2)
    bad = np.zeros(500, np.bool_)
    bad[[0, 31, 32, 77, 499]] = True
    expected = reference.search(queries, documents, 450, allowed=~bad)
    documents[bad, 3] = [np.nan, np.inf, -np.inf, np.nan, np.inf]
    with pytest.raises(ValueError, match=r"search: row 0 of documents has a NaN or an infinity"):
        way(queries, documents, 450)
    for k in (5, 450):
        found = way(queries, documents, k, nonfinite="exclude", return_certificate=True)
        assert_same(found, (expected[0][:, :k], expected[1][:, :k]))
        assert found.certificate.nonfinite_documents == 5
        assert found.certificate.holds


def test_an_index_may_hold_rows_that_are_not_finite(isa):
    queries, documents = gaussian(5, 10, 1), gaussian(300, 10, 2)
    expected = reference.search(queries, documents, 4, allowed=np.arange(300) != 41)
    documents[41, 0] = np.inf
    index = tilefold.FlatIndex(10)
    with pytest.raises(ValueError, match="row 41 of vectors"):
        index.add(documents)
    assert len(index) == 0
    index.add(documents, nonfinite="exclude")
    assert_same(index.search(queries, 4), expected)


@WAYS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_queries_that_are_not_finite_are_answered_with_padding(isa, way, bad):
    queries, documents = gaussian(20, 10, 1), gaussian(500, 10, 2)
    scores, ids = reference.search(queries, documents, 5)
    scores[[3, 19]], ids[[3, 19]] = -np.inf, -1
    queries[[3, 19], [0, 9]] = bad
    with pytest.raises(ValueError, match=r"search: row 3 of queries has a NaN or an infinity"):
        way(queries, documents, 5)
    found = way(queries, documents, 5, nonfinite="exclude", return_certificate=True)
    assert_same(found, (scores, ids))
    assert found.certificate.nonfinite_queries == 2
    assert found.certificate.holds
    assert way(queries[3], documents, 5, nonfinite="exclude").ids.tolist() == [-1] * 5


# ---- the certificate -----------------------------------------------------------------------------


def test_a_certificate_rests_on_what_was_left_out(isa):
    """Bound, threshold and gap, against the scores of everything."""
    queries, documents = gaussian(30, 40, 1), gaussian(3000, 40, 2)
    found = by_index(queries, documents, 10, return_certificate=True)
    certificate = found.certificate
    scores = np.sort(reference.canonical_scores(queries, documents), axis=1)[:, ::-1]
    np.testing.assert_array_equal(certificate.threshold, scores[:, 9])
    # The bound of the best document left out is no lower than its score, which ranks at most
    # `refined` + 1.
    for query, refined in enumerate(certificate.refined):
        assert certificate.bound[query] >= scores[query, refined]
    np.testing.assert_array_equal(certificate.gap, certificate.threshold - certificate.bound)
    assert (certificate.gap > 0).all()


def test_a_minimal_score_is_the_threshold_of_a_certificate(isa):
    queries, documents = gaussian(20, 40, 1), gaussian(3000, 40, 2)
    least = reference.search(queries, documents, 3)[0][:, 2]
    found = by_index(queries, documents, 10, min_score=least, return_certificate=True)
    np.testing.assert_array_equal(found.certificate.threshold, least)
    assert found.certificate.holds
    assert (found.ids[:, 2] >= 0).all()
    assert (found.ids[:, 3] == -1).all()


def test_a_result_without_a_certificate_has_two_parts():
    scores, ids = tilefold.search(gaussian(2, 3), gaussian(9, 3), 4)
    assert scores.dtype == np.float32
    assert ids.dtype == np.int64
    assert scores.shape == ids.shape == (2, 4)
    single = tilefold.search(gaussian(2, 3)[0], gaussian(9, 3), 4, return_certificate=True)
    assert single.scores.shape == single.ids.shape == (4,)
    assert single.certificate.holds
    assert hashlib.sha256(single.scores).digest() == hashlib.sha256(scores[0]).digest()
