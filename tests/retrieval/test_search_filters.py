"""Filters of search: what the reference leaves, for documents allowed, excluded or in a window."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import WAYS, assert_same, gaussian, make

import tilefold
from tilefold import reference


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
