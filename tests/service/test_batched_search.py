"""Batches of searches have the bits of each search alone."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from service_client import DIM, HashEncoder, random_vectors, saved_index

from tilefold.service import open_served
from tilefold.service.batched_search import SearchWork, answer_batch


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexes")
    encoder = HashEncoder().query_encoder()
    metrics = ("ip", "cosine", "l2")
    return [
        open_served(saved_index(folder / metric, 300, i, metric=metric), encoder=encoder)
        for i, metric in enumerate(metrics)
    ]


def alone(work: SearchWork):
    """What `FlatIndex.search` answers for one request."""
    encoder = work.served.encoder
    vectors = encoder.encode(work.texts) if work.vectors is None else work.vectors
    return work.served.index.search(
        vectors,
        min(work.k, len(work.served.index)),
        allowed=work.allowed,
        exclude=work.exclude,
        min_score=work.min_score,
    )


def assert_same(found, expected):
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert found.ids.tobytes() == expected.ids.tobytes()


@st.composite
def a_work(draw, indexes):
    served = draw(st.sampled_from(indexes))
    n = draw(st.integers(1, 4))
    ids = st.integers(0, 320)
    ids_of_a_query = st.lists(ids, max_size=5).map(lambda found: np.array(found, np.int64))
    has_texts = draw(st.booleans())
    texts = draw(st.lists(st.text("abc", min_size=1), min_size=n, max_size=n))
    return SearchWork(
        served,
        draw(st.sampled_from([1, 2, 10, 299, 300, 1000])),
        texts if has_texts else (),
        None if has_texts else random_vectors(n, draw(st.integers(0, 50))),
        draw(st.none() | st.lists(ids_of_a_query, min_size=n, max_size=n)),
        draw(st.none() | st.lists(ids, max_size=9).map(lambda v: np.unique(np.array(v, np.int64)))),
        None if served.index.metric == "l2" else draw(st.none() | st.floats(-1, 1, width=32)),
    )


@given(data=st.data())
@settings(max_examples=60)
def test_a_batch_answers_each_request_as_if_it_were_alone(indexes, data):
    works = data.draw(st.lists(a_work(indexes), min_size=1, max_size=12))
    for work, found in zip(works, answer_batch(works), strict=True):
        assert_same(found, alone(work))


def test_texts_of_a_batch_are_one_call_of_the_encoder(tmp_path):
    encoder = HashEncoder()
    served = open_served(saved_index(tmp_path / "index"), encoder=encoder.query_encoder())
    works = [SearchWork(served, k, [f"text {k}"] * k) for k in (1, 2, 3)]
    found = answer_batch(works)
    assert [len(call) for call in encoder.calls] == [6]
    assert [one.ids.shape for one in found] == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize("text", ["broken", "nan"])
def test_a_text_that_cannot_be_searched_fails_alone(indexes, text):
    served = indexes[0]
    works = [SearchWork(served, 3, [query]) for query in ("one", text, "two")]
    works.append(SearchWork(served, 3, vectors=random_vectors(1)))
    found = answer_batch(works)
    assert isinstance(found[1], ValueError)
    for i in (0, 2, 3):
        assert_same(found[i], alone(works[i]))


def test_an_empty_index_has_no_results(tmp_path):
    served = open_served(saved_index(tmp_path / "index", rows=0))
    (found,) = answer_batch([SearchWork(served, 5, vectors=random_vectors(2))])
    assert found.ids.shape == found.scores.shape == (2, 0)
    assert served.index.dim == DIM
