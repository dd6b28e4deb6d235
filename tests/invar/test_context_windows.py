"""Context windows: chunks of documents, and search of documents by their best chunk."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tilefold.invar import Window, search_chunks
from tilefold.ragged_lists import Lists

TEXTS = st.lists(st.text("ab ", max_size=20), max_size=4)


@given(TEXTS, st.integers(1, 5), st.data())
def test_chunks_cover_every_word_in_order_and_none_repeats_an_end(documents, words, data):
    stride = data.draw(st.integers(1, words))
    texts, owners = Window(words, stride).chunks(documents)
    for row, document in enumerate(documents):
        own = [text.split() for text, owner in zip(texts, owners, strict=True) if owner == row]
        whole = document.split()
        joined = own[0] + [word for part in own[1:] for word in part[words - stride :]]
        assert joined == whole
        assert all(len(part) == words for part in own[:-1])
        assert len(own) == 1 or len(own[-1]) > words - stride


@given(TEXTS, st.integers(1, 5))
def test_truncation_keeps_the_first_words_of_each_document(documents, words):
    texts, owners = Window(words, truncate=True).chunks(documents)
    assert owners.tolist() == list(range(len(documents)))
    assert texts == [" ".join(text.split()[:words]) for text in documents]


@given(st.data())
def test_documents_are_ranked_by_their_best_chunk(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, m, k = (data.draw(st.integers(1, most)) for most in (3, 30, 7))
    # Small integers, so that many scores are equal.
    queries, chunks = (rng.integers(-2, 3, (rows, 3)).astype(np.float32) for rows in (n, m))
    owners = np.sort(rng.integers(0, 6, m))
    scores, ids = search_chunks(queries, chunks, owners, k)
    for row, own in enumerate(queries @ chunks.T):
        best: dict[int, float] = {}
        for owner, score in zip(owners.tolist(), own.tolist(), strict=True):
            best[owner] = max(best.get(owner, -np.inf), score)
        expected = sorted(best.items(), key=lambda one: (-one[1], one[0]))[:k]
        padding = [(-1, -np.inf)] * (k - len(expected))
        found = list(zip(ids[row].tolist(), scores[row].tolist(), strict=True))
        assert found == expected + padding


def test_answers_that_a_window_cuts_off_are_counted():
    documents = ["the hen sleeps in the red barn", "the fox runs"]
    positives = Lists.pack([[0], [0], [1], [1]])
    answers = [("red barn",), ("hen",), ("elephant",), ()]
    assert Window(3, truncate=True).n_lost(documents, positives, answers) == 1
    assert Window(6).n_lost(documents, positives, answers) == 1  # "red" and "barn" are apart
    assert Window(6, 3).n_lost(documents, positives, answers) == 0


def test_windows_name_themselves():
    names = [Window(8).name, Window(8, 4).name, Window(8, truncate=True).name]
    assert names == ["chunks of 8 words", "chunks of 8 words every 4", "first 8 words"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": 0}, "words must be 1 or more, got 0"),
        ({"words": 4, "stride": 5}, "stride must be 1 to 4, got 5"),
        ({"words": 4, "stride": 0}, "stride must be 1 to 4, got 0"),
        ({"words": 4, "stride": 2, "truncate": True}, "stride has no effect"),
    ],
)
def test_windows_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Window(**options)


def test_owners_and_k_are_checked():
    chunks = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match="expected 2 owners, got 1"):
        search_chunks(chunks, chunks, np.array([0]), 1)
    with pytest.raises(ValueError, match="k must be 1 or more"):
        search_chunks(chunks, chunks, np.array([0, 1]), 0)
