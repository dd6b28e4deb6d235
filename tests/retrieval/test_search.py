"""search(): the bits of the reference, whatever the row, threads, batches, layout and data."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilefold
from tilefold import _native, reference
from tilefold.retrieval.packing import pack, pack_as
from tilefold.retrieval.running_search import RunningSearch
from tilefold.retrieval.search_options import SearchOptions

DIMS = [1, 7, 8, 15, 16, 17, 63, 64, 65, 384, 768]


def by_array(queries: Any, documents: np.ndarray, k: int, **options: Any) -> Any:
    """search(): few queries score every document, many go through the filter."""
    return tilefold.search(queries, documents, k, **options)


def by_index(queries: Any, documents: np.ndarray, k: int, **options: Any) -> Any:
    """FlatIndex: always through the filter, if there are enough documents."""
    index = tilefold.FlatIndex(documents.shape[1])
    index.add(documents)
    return index.search(queries, k, **options)


WAYS = pytest.mark.parametrize("way", [by_array, by_index])


def assert_same(found: Any, expected: Any) -> None:
    """The same bytes; the message shows where they differ."""
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    assert np.asarray(found[0]).tobytes() == np.asarray(expected[0]).tobytes()


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


def gaussian(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


# ---- data that hits branches ---------------------------------------------------------------------


def ties(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.integers(-1, 2, shape)


def near_ties(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Copies of one vector with one value moved by one unit in the last place."""
    vectors = np.repeat(rng.standard_normal((1, shape[1])), shape[0], axis=0).astype(np.float32)
    places = np.arange(shape[0]), rng.integers(0, shape[1], shape[0])
    vectors[places] = np.nextafter(vectors[places], rng.choice([-9, 9], shape[0]).astype("f4"))
    return vectors


def clusters(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    centres = rng.standard_normal((3, shape[1]))
    return centres[rng.integers(0, 3, shape[0])] + 1e-6 * rng.standard_normal(shape)


def one_outlier(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    vectors = rng.standard_normal(shape)
    vectors[shape[0] // 2 : shape[0] // 2 + 1] *= 1e30  # none of no rows
    return vectors


def outlier_dimension(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    vectors = rng.standard_normal(shape)
    vectors[:, shape[1] // 2] *= 1000
    return vectors


def rising(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.linspace(-1, 1, shape[0])[:, None] * np.abs(rng.standard_normal(shape[1]))


def mixed(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Magnitudes from subnormals to numbers whose products overflow fp32, upwards and downwards."""
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-45, 37, (shape[0], 1))


def cancelling(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Values that cancel: their sum is nothing but the rounding of fp64."""
    vectors = rng.uniform(1, 2, shape) * 10.0 ** rng.integers(-3, 12, shape)
    vectors[:, 1::2] = -vectors[:, : shape[1] // 2 * 2 : 2]
    return vectors


DATA: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "random": lambda rng, shape: rng.standard_normal(shape),
    "ties": ties,
    "near-ties": near_ties,
    "clusters": clusters,
    "cancelling": cancelling,
    "duplicates": lambda rng, shape: rng.standard_normal((5, shape[1]))[
        rng.integers(0, 5, shape[0])
    ],
    "all equal": lambda rng, shape: np.ones(shape),
    "rising": rising,
    "falling": lambda rng, shape: rising(rng, shape)[::-1],
    "one outlier": one_outlier,
    "an outlier dimension": outlier_dimension,
    "mixed magnitudes": mixed,
    "huge": lambda rng, shape: rng.standard_normal(shape) * 1e30,
    "overflowing": lambda rng, shape: rng.standard_normal(shape) * 1e38,
    "subnormal": lambda rng, shape: rng.standard_normal(shape) * 1e-41,
    "underflowing": lambda rng, shape: rng.standard_normal(shape) * 1e-23,
    "zero": lambda rng, shape: np.zeros(shape),
    "mostly zero": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.01),
    "signed zeros": lambda rng, shape: rng.choice([-0.0, 0.0, 1e-30, -1e-30], shape),
    "negative": lambda rng, shape: -np.abs(rng.standard_normal(shape)),
}
N_DOCUMENTS = 300


def make(kind: str, n: int, dim: int, seed: int = 0) -> np.ndarray:
    vectors = DATA[kind](np.random.default_rng([seed, dim]), (n, dim))
    return np.clip(vectors, -3.4e38, 3.4e38).astype(np.float32)


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


# ---- filters -------------------------------------------------------------------------------------


def excluded_matrix(lists: list[list[int]], documents: int) -> np.ndarray:
    matrix = np.zeros((len(lists), documents), np.bool_)
    for row, ids in zip(matrix, lists, strict=True):
        row[[i for i in ids if i < documents]] = True
    return matrix


@st.composite
def filters(draw: st.DrawFn, n: int, documents: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of search, and what they mean for the reference."""
    options: dict[str, Any] = {}
    meaning: dict[str, Any] = {}
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    if draw(st.booleans()):
        mask = rng.random(documents) < draw(st.sampled_from([0, 0.02, 0.5, 1]))
        more = np.concatenate([mask, [True, False]])
        ids = np.flatnonzero(mask)
        unsorted = rng.permutation(np.concatenate([ids, ids, [documents + 7]]))
        options["allowed"] = draw(st.sampled_from([mask, more, ids, unsorted, unsorted.tolist()]))
        meaning["allowed"] = mask
    if draw(st.booleans()):
        most = draw(st.sampled_from([0, 3, documents, 3 * documents]))
        sizes = rng.integers(0, most, n, endpoint=True)
        lists = [rng.integers(0, documents + 3, size).tolist() for size in sizes]
        offsets = np.cumsum([0, *map(len, lists)])
        csr = offsets, np.array([i for ids in lists for i in ids], np.int64)
        arrays = [np.array(ids, np.int32) for ids in lists]
        options["exclude"] = draw(st.sampled_from([lists, arrays, csr]))
        meaning["excluded"] = excluded_matrix(lists, documents)
    levels = [-np.inf, -1.0, 0.0, 0.5, 3.0, np.inf]  # exact in fp32
    for name in ("min_score", "max_score"):
        if draw(st.booleans()):
            window: Any = draw(st.sampled_from(levels))
            if draw(st.booleans()):
                window = rng.choice(levels, n)
            options[name] = window
            meaning[name] = np.float32(window)
    return options, meaning


@WAYS
@settings(max_examples=60)
@given(data=st.data())
def test_any_filters_leave_what_the_reference_leaves(isa, way, data):
    kind = data.draw(st.sampled_from(["random", "ties", "near-ties", "mixed magnitudes", "zero"]))
    n, m, dim = data.draw(st.sampled_from([(3, 50, 4), (17, 200, 9), (40, 33, 5), (2, 700, 8)]))
    k = data.draw(st.sampled_from([1, 4, 20, m]))
    queries, documents = make(kind, n, dim, 1), make(kind, m, dim)
    options, meaning = data.draw(filters(n, m))
    expected = reference.search(queries, documents, k, **meaning)
    found = way(queries, documents, k, return_certificate=True, **options)
    assert_same(found, expected)
    assert found.certificate.holds


@WAYS
def test_windows_include_their_ends(isa, way):
    documents = np.arange(200, dtype=np.float32)[:, None]
    queries = np.ones((20, 1), np.float32)
    low, high = np.arange(20.0), np.arange(20.0) + 3
    found = way(queries, documents, 5, min_score=low, max_score=high)
    np.testing.assert_array_equal(found.scores[:, :4], high[:, None] - np.arange(4))
    assert (found.ids[:, 4] == -1).all()
    at = way(queries, documents, 5, min_score=7, max_score=7)
    np.testing.assert_array_equal(at.ids, [[7, -1, -1, -1, -1]] * 20)
    between = way(queries, documents, 5, min_score=7.25, max_score=7.75)
    assert (between.ids == -1).all()
    assert (way(queries, documents, 5, min_score=8, max_score=7).ids == -1).all()


@WAYS
def test_a_window_below_a_crowd_finds_what_lies_in_it(isa, way):
    """Thousands of documents just above max_score must neither enter nor raise the threshold."""
    documents = make("near-ties", 5000, 16)
    documents[::700] *= np.float32(0.999)
    queries = np.repeat(documents[1:2], 16, axis=0)
    scores = reference.canonical_scores(queries[:1], documents)[0]
    for most in (np.sort(scores)[8], scores.max(), np.nextafter(scores.max(), np.float32(0))):
        expected = reference.search(queries, documents, 10, max_score=most)
        found = way(queries, documents, 10, max_score=most, return_certificate=True)
        assert_same(found, expected)
        assert found.certificate.holds


@WAYS
def test_everything_excluded_leaves_padding(isa, way):
    queries, documents = gaussian(16, 8), gaussian(100, 8)
    everything = [list(range(100))] * 16
    for options in (
        {"allowed": []},
        {"allowed": np.zeros(100, np.bool_)},
        {"allowed": [100, 2**62]},
        {"exclude": everything},
        {"min_score": np.inf},
        {"max_score": -np.inf},
    ):
        found = way(queries, documents, 3, return_certificate=True, **options)
        assert (found.ids == -1).all()
        assert np.isneginf(found.scores).all()
        assert found.certificate.holds


BAD_FILTERS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"allowed": np.ones(39, np.bool_)}, ValueError, "at least 40 entries, got 39"),
    ({"allowed": np.ones((40, 1), np.bool_)}, ValueError, "1 dimension, got 2"),
    ({"allowed": [1, -1]}, ValueError, "allowed must not be negative, got -1"),
    ({"allowed": [0.5]}, TypeError, "allowed must be integers"),
    ({"allowed": np.uint64([2**63])}, ValueError, "allowed must be below 2.63"),
    ({"allowed": 3}, TypeError, "allowed"),
    ({"exclude": [[1]]}, ValueError, "a list of 2 id lists, one per query.*got list of 1"),
    ({"exclude": [[1], [-2]]}, ValueError, r"exclude\[1\] must not be negative, got -2"),
    ({"exclude": [[1], None]}, TypeError, r"exclude\[1\]"),
    ({"exclude": (np.array([0, 2, 1]), np.array([1]))}, ValueError, "must rise from 0"),
    ({"exclude": (np.array([1, 1, 1]), np.array([1]))}, ValueError, "must rise from 0"),
    ({"exclude": (np.array([0, 1, 1]), np.array([1, 2]))}, ValueError, "number of ids, 2"),
    ({"exclude": 5}, ValueError, "exclude must be a list of 2 id lists"),
    ({"min_score": np.nan}, ValueError, "min_score must not be NaN"),
    ({"max_score": [0, np.nan]}, ValueError, "max_score must not be NaN"),
    ({"max_score": [1, 2, 3]}, ValueError, r"have one per query, 2; got shape \(3,\)"),
    ({"min_score": "high"}, TypeError, "min_score must be a number"),
    ({"k": 0}, ValueError, "k must be at least 1 .*got 0"),
    ({"k": -3}, ValueError, "k must be at least 1 .*got -3"),
    ({"k": 2**31}, ValueError, "below 2.31"),
    ({"k": 1.0}, TypeError, "k must be an integer, got float"),
    ({"k": None}, TypeError, "k must be an integer, got NoneType"),
    ({"num_threads": 0}, ValueError, "num_threads must be 1 to 1024, got 0"),
    ({"num_threads": 1025}, ValueError, "num_threads must be 1 to 1024, got 1025"),
    ({"num_threads": 1.5}, TypeError, "num_threads must be an integer, got float"),
    ({"nonfinite": "ignore"}, ValueError, "error.* or .*exclude.*, got 'ignore'"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_FILTERS)
def test_wrong_options_are_refused_by_name(options, error, message):
    options = {"k": 2} | options
    index = tilefold.FlatIndex(5)
    index.add(gaussian(40, 5))
    with pytest.raises(error, match=f"^search: .*{message}"):
        tilefold.search(gaussian(2, 5), gaussian(40, 5), **options)
    with pytest.raises(error, match=f"^FlatIndex.search: .*{message}"):
        index.search(gaussian(2, 5), **options)


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


# ---- the answer is a function of the inputs alone ------------------------------------------------

SHAPES = st.tuples(
    st.integers(0, 40), st.integers(0, 400), st.integers(1, 20), st.sampled_from(sorted(DATA))
)


@WAYS
@settings(max_examples=30)
@given(shape=SHAPES, k=st.integers(1, 50), j=st.integers(1, 50))
def test_fewer_answers_are_the_first_of_more(way, shape, k, j):
    n, m, dim, kind = shape
    queries, documents = make(kind, n, dim, 1), make(kind, m, dim)
    more, fewer = (way(queries, documents, size) for size in (max(k, j), min(k, j)))
    assert_same(fewer, [part[:, : min(k, j)] for part in more])


@WAYS
@settings(max_examples=30)
@given(shape=SHAPES, batch=st.integers(1, 20))
def test_batches_give_the_answers_of_the_whole(way, shape, batch):
    n, m, dim, kind = shape
    queries, documents = make(kind, n, dim, 1), make(kind, m, dim)
    whole = way(queries, documents, 7)
    for start in range(0, n, batch):
        part = slice(start, start + batch)
        assert_same(way(queries[part], documents, 7), [answer[part] for answer in whole])


@settings(max_examples=40)
@given(shape=SHAPES, seed=st.integers(0, 99), parts=st.integers(1, 5))
def test_the_order_of_documents_does_not_matter(shape, seed, parts):
    """Nor do the pieces in which they are added."""
    n, m, dim, kind = shape
    rng = np.random.default_rng(seed)
    queries, documents = make(kind, n, dim, 1), make(kind, m, dim)
    names = rng.permutation(3 * m)[:m]
    order = rng.permutation(m)
    index = tilefold.FlatIndex(dim)
    for rows in np.array_split(order, parts):
        index.add(documents[rows], ids=names[rows])
    assert_same(index.search(queries, 9), reference.search(queries, documents, 9, ids=names))


@WAYS
@settings(max_examples=25)
@given(shape=SHAPES)
def test_the_number_of_threads_does_not_matter_for_small_corpora(way, shape):
    n, m, dim, kind = shape
    queries, documents = make(kind, n, dim, 1), make(kind, m, dim)
    one = way(queries, documents, 7, num_threads=1)
    for threads in (2, 5):
        assert_same(way(queries, documents, 7, num_threads=threads), one)


@WAYS
@pytest.mark.parametrize("kind", ["random", "clusters", "all equal", "mixed magnitudes", "ties"])
@pytest.mark.parametrize("n", [1, 20, 90], ids=["by ranges", "by ranges, packed", "by groups"])
def test_the_number_of_threads_does_not_matter(isa, way, kind, n):
    """Enough work for the threads to share, by ranges of documents or by groups of queries."""
    queries, documents = make(kind, n, 24, 1), make(kind, 100_000 // min(n, 8), 24)
    one = way(queries, documents, 20, num_threads=1)
    scores, ids = reference.search(queries[:1], documents, 20)
    assert_same([answer[:1] for answer in one], (scores, ids))
    for threads in (2, 5):
        found = way(queries, documents, 20, num_threads=threads, return_certificate=True)
        assert_same(found, one)
        assert found.certificate.holds


def test_documents_packed_by_one_row_are_searched_by_another(table, monkeypatch):
    """As happens to an index that moves to another machine."""
    queries, documents = gaussian(20, 48, 1), outlier_dimension(np.random.default_rng(2), (900, 48))
    documents = documents.astype(np.float32)
    expected = reference.search(queries, documents, 8)
    supported = [name for name, row in table.items() if row["supported"]]
    for packer in supported:
        for rotated, direction in ((False, None), (True, None), (True, queries[0])):
            if direction is not None:
                direction = direction / np.linalg.norm(direction)
            monkeypatch.setenv("TILEFOLD_ISA", packer)
            packed, *_ = pack_as(documents, rotated, direction)
            for searcher in supported:
                monkeypatch.setenv("TILEFOLD_ISA", searcher)
                running = RunningSearch(
                    queries, 8, SearchOptions(op="test", return_certificate=True)
                )
                running.fold(documents, packed=packed)
                assert_same(running.result(), expected)
                assert running.result().certificate.holds


SAME_BYTES = """
import hashlib, json, sys
import numpy as np
import tilefold
from tilefold import _native
digest = hashlib.sha256()
rng = np.random.default_rng(0)
cases = [(1, 50, 3, 1), (17, 3000, 10, 1e-20), (64, 9000, 100, 1), (384, 700, 10, 1e30)]
for dim, m, k, scale in cases:
    documents = (rng.standard_normal((m, dim)) * scale).astype(np.float32)
    documents[::7] = documents[0]
    queries = rng.standard_normal((512, dim)).astype(np.float32)
    index = tilefold.FlatIndex(dim)
    index.add(documents)
    answers = set()
    for threads in (1, 2):
        for batch in (1, 512):
            found = [index.search(queries[i:i + batch], k, num_threads=threads)
                     for i in range(0, 64 if batch == 1 else 512, batch)]
            one = hashlib.sha256()
            for part in zip(*found):
                one.update(np.concatenate(part)[:64].tobytes())
            answers.add(one.digest())
    assert len(answers) == 1, "threads or batches changed bits"
    digest.update(answers.pop())
    found = tilefold.search(queries, documents, k)
    digest.update(found.scores.tobytes() + found.ids.tobytes())
in_use = [row["name"] for row in _native.rows() if row["in_use"]]
json.dump({"in_use": in_use, "digest": digest.hexdigest()}, sys.stdout)
"""


def inherited_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TILEFOLD_")}
    return kept | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


def process(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with the imports of this one and none of our variables."""
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        env=inherited_environment() | environment,
        capture_output=True,
        text=True,
    )


def test_every_row_gives_the_same_bytes(table):
    """And TILEFOLD_ISA selects what it says."""
    digests = {}
    for name, row in table.items():
        if row["supported"]:
            child = process(SAME_BYTES, TILEFOLD_ISA=name)
            assert child.returncode == 0, child.stderr
            answer = json.loads(child.stdout)
            assert answer["in_use"] == [name]
            digests[name] = answer["digest"]
    assert len(set(digests.values())) == 1, digests
    if len(digests) == 1:
        pytest.skip("this machine can run one row only, so there is nothing to compare")


IN_USE = "from tilefold import _native; print(*[r['name'] for r in _native.rows() if r['in_use']])"
USE = "import numpy as np, tilefold; x = np.ones((1, 2), 'f4'); tilefold.search(x, x, 1)"


def test_the_best_supported_row_is_in_use_unless_another_is_named(table):
    best = next(name for name, row in table.items() if row["supported"])
    for unnamed in ({}, {"TILEFOLD_ISA": ""}):
        assert process(IN_USE, **unnamed).stdout.split() == [best]
    assert process(IN_USE, TILEFOLD_ISA="scalar").stdout.split() == ["scalar"]


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx2 ", "scalar,avx2"])
def test_an_unknown_row_is_an_error_that_names_the_choices(table, name):
    child = process(USE, TILEFOLD_ISA=name)
    message = child.stderr.strip().splitlines()[-1]
    assert message == f"ValueError: TILEFOLD_ISA: expected one of {', '.join(table)}; got '{name}'"


def test_a_row_that_the_machine_lacks_is_an_error_that_says_so(table):
    lacking = [row for row in table.values() if not row["supported"]]
    if not lacking:
        pytest.skip("this machine can run every row that is compiled")
    for row in lacking:
        message = process(USE, TILEFOLD_ISA=row["name"]).stderr.strip().splitlines()[-1]
        assert f"TILEFOLD_ISA: this machine cannot run the row '{row['name']}'" in message
        assert row["needs"] in message


@pytest.mark.parametrize("kind", ["subnormal", "underflowing", "mixed magnitudes"])
def test_flush_to_zero_changes_no_bit(isa, kind):
    """A caller's floating-point mode (torch can set it) must not reach the kernels."""
    torch: Any = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.set_flush_denormal(False):
        pytest.skip("this machine has no flush-to-zero mode")
    documents = make(kind, 9000, 16)
    queries = np.concatenate([make(kind, 20, 16, 1), gaussian(20, 16)])
    expected = reference.search(queries, documents, 10)
    try:
        for way in (by_array, by_index):
            for part in (slice(0, 1), slice(12, 28), slice(0, 40)):
                for threads in (1, 2):
                    torch.set_flush_denormal(True)
                    found = way(queries[part], documents, 10, num_threads=threads)
                    torch.set_flush_denormal(False)
                    assert_same(found, [answer[part] for answer in expected])
    finally:
        torch.set_flush_denormal(False)


def test_calls_at_the_same_time_do_not_disturb_each_other(isa):
    queries, documents = gaussian(64, 32, 1), gaussian(4000, 32, 2)
    expected = [reference.search(queries, documents, k) for k in (1, 5, 9, 13)]
    found: list[Any] = [None] * 8

    def work(i: int) -> None:
        for _ in range(3):
            found[i] = tilefold.search(queries, documents, (1, 5, 9, 13)[i % 4], num_threads=3)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, answer in enumerate(found):
        assert_same(answer, expected[i % 4])


# ---- a long search stays answerable --------------------------------------------------------------


def endless(rows: int, dim: int) -> np.ndarray:
    """A corpus that takes long to search and no memory: one row many times."""
    return np.broadcast_to(gaussian(1, dim), (rows, dim))


LONG_SEARCH = """
import sys
import numpy as np
import tilefold
n, dim, k, threads = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
documents = np.broadcast_to(rng.standard_normal((1, dim)).astype(np.float32), (10**9, dim))
queries = rng.standard_normal((n, dim)).astype(np.float32)
print("searching", flush=True)
tilefold.search(queries, documents, k, num_threads=threads)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent as on POSIX")
@pytest.mark.parametrize(
    ("n", "dim", "k", "threads"),
    [(1, 8, 1, 1), (4, 32, 10, 2), (200, 64, 10, 2), (200, 16, 1000, 1), (16, 40_000, 5, 2)],
)
def test_ctrl_c_stops_a_search_within_a_second(n, dim, k, threads):
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", LONG_SEARCH, *map(str, (n, dim, k, threads))],
        env=inherited_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "searching"
        time.sleep(0.4)
        assert child.poll() is None
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=10)
        took = time.monotonic() - begin
    finally:
        child.kill()
        child.communicate()
    assert errors.strip().endswith("KeyboardInterrupt")
    assert took < 1


@pytest.mark.parametrize(("n", "threads"), [(1, 1), (2, 3), (40, 1), (40, 2)])
def test_progress_rises_to_the_whole(n, threads):
    calls: list[tuple[int, int]] = []
    queries, documents = gaussian(n, 64), endless(400_000 if n > 9 else 2_000_000, 64)
    begin = time.monotonic()
    tilefold.search(
        queries, documents, 3, num_threads=threads, progress=lambda *done: calls.append(done)
    )
    took = time.monotonic() - begin
    done, total = zip(*calls, strict=True)
    assert set(total) == {len(documents)}
    assert list(done) == sorted(done)
    assert done[0] >= 0
    assert done[-1] == len(documents)
    assert len(done) > 3 * took, "a few times a second"
    assert all(type(count) is int for count in done)


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_is_called_on_the_calling_thread(threads):
    callers = set()
    tilefold.search(
        gaussian(2, 64),
        endless(300_000, 64),
        3,
        num_threads=threads,
        progress=lambda *_: callers.add(threading.get_ident()),
    )
    assert callers == {threading.get_ident()}


@WAYS
@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_progress_stops_the_search(way, threads):
    class EnoughError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise EnoughError(done)

    documents = endless(300_000, 64)
    with pytest.raises(EnoughError):
        way(gaussian(40, 64), documents, 3, num_threads=threads, progress=stop)
    queries = gaussian(2, 64)
    assert_same(way(queries, documents[:99], 3), reference.search(queries, documents[:99], 3))


def test_a_search_may_be_nested_in_the_progress_of_another():
    inner = []

    def look(done: int, total: int) -> None:
        inner.append(tilefold.search(gaussian(1, 8), gaussian(50, 8), 2, num_threads=2).ids[0, 0])

    tilefold.search(gaussian(2, 64), endless(200_000, 64), 3, num_threads=2, progress=look)
    assert len(set(inner)) == 1


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
