"""Documents are ranked and scored by their best chunk, exactly."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tilefold.invar import listed_scores, search_chunks


@st.composite
def chunks_of_documents(draw):
    """Queries, chunks and owners; small integers, so that many scores are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(0, 3)), draw(st.integers(1, 60))
    queries, chunks = (rng.integers(-2, 3, (rows, 3)).astype(np.float32) for rows in (n, m))
    owners = rng.integers(0, draw(st.integers(1, 12)), m)
    return queries, chunks, np.sort(owners) if draw(st.booleans()) else owners


def best_of(own, owners) -> dict[int, float]:
    """The largest score of each document."""
    best: dict[int, float] = {}
    for owner, score in zip(owners.tolist(), own.tolist(), strict=True):
        best[owner] = max(best.get(owner, -np.inf), score)
    return best


@given(chunks_of_documents(), st.integers(1, 9))
def test_documents_are_ranked_by_their_best_chunk(given_chunks, k):
    queries, chunks, owners = given_chunks
    scores, ids = search_chunks(queries, chunks, owners, k)
    assert scores.shape == ids.shape == (len(queries), k)
    for row, own in enumerate(queries @ chunks.T):
        expected = sorted(best_of(own, owners).items(), key=lambda one: (-one[1], one[0]))[:k]
        padding = [(-1, -np.inf)] * (k - len(expected))
        found = list(zip(ids[row].tolist(), scores[row].tolist(), strict=True))
        assert found == expected + padding


def test_a_document_of_many_chunks_hides_none_behind_it():
    chunks = np.ones((500, 2), np.float32)
    chunks[-3:] = 0.5
    owners = np.array([0] * 497 + [1, 2, 3])
    scores, ids = search_chunks(chunks[:1], chunks, owners, 4)
    assert ids.tolist() == [[0, 1, 2, 3]]
    assert scores.tolist() == [[2, 1, 1, 1]]


@given(chunks_of_documents(), st.data())
def test_listed_documents_have_the_score_of_their_best_chunk(given_chunks, data):
    queries, chunks, owners = given_chunks
    k = data.draw(st.integers(0, 5))
    rng = np.random.default_rng(0)
    listed = rng.integers(-1, 15, (len(queries), k))
    found = listed_scores(queries, chunks, owners, listed)
    for row, own in enumerate(queries @ chunks.T):
        best = best_of(own, owners)
        assert found[row].tolist() == [best.get(document, -np.inf) for document in listed[row]]


def test_scores_of_a_search_are_those_of_the_listed_documents():
    rng = np.random.default_rng(3)
    queries, chunks = (rng.normal(size=(n, 48)).astype(np.float32) for n in (20, 200))
    owners = rng.integers(0, 50, 200)
    scores, ids = search_chunks(queries, chunks, owners, 60)
    np.testing.assert_array_equal(scores, listed_scores(queries, chunks, owners, ids))
    assert (ids == -1).any()


def test_arguments_are_checked():
    chunks = np.eye(2, dtype=np.float32)
    for call in (search_chunks, listed_scores):
        last = 1 if call is search_chunks else [[0], [1]]
        with pytest.raises(ValueError, match="expected 2 owners, one integer for each chunk"):
            call(chunks, chunks, np.array([0]), last)
        with pytest.raises(ValueError, match="owners must be 0 or more, got -1"):
            call(chunks, chunks, np.array([0, -1]), last)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        search_chunks(chunks, chunks, np.array([0, 1]), 0)
    with pytest.raises(ValueError, match=r"documents must be integers \[2, k\]"):
        listed_scores(chunks, chunks, np.array([0, 1]), [[0]])
    with pytest.raises(ValueError, match="documents must be -1 or more, got -2"):
        listed_scores(chunks, chunks, np.array([0, 1]), [[0], [-2]])
