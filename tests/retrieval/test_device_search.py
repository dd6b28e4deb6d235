"""Searches follow the device of their queries, under emulation: arrays, shards and mining."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import tilefold
from tilefold import _native
from tilefold.arrays import BFLOAT16_BITS
from tilefold.mining import mine
from tilefold.placement import EmulatedArray, EmulatedPlacement
from tilefold.ragged_lists import Lists
from tilefold.retrieval import device_search
from tilefold.retrieval.corpus import open_corpus, save_index
from tilefold.retrieval.encode_shards import encode_shards

pytestmark = pytest.mark.skipif(
    _native.CUDA != "emulated", reason="needs a build with emulated CUDA (make test-cuda)"
)

DTYPES = ["float32", "float16", "bfloat16", "int8"]


def gaussian(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def as_dtype(x: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return x.astype(ml_dtypes.bfloat16).view(np.uint16).view(BFLOAT16_BITS)
    return (20 * x).round().astype(np.int8) if dtype == "int8" else x.astype(dtype)


def assert_same(found, expected) -> None:
    np.testing.assert_array_equal(found.ids, expected.ids)
    assert found.scores.tobytes() == expected.scores.tobytes()


@pytest.fixture(params=["on the device", "on the host"])
def place(request):
    """Returns documents where the search finds them."""
    return EmulatedArray if request.param == "on the device" else np.asarray


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 40])
def test_arrays_are_searched_where_the_queries_are(place, dtype, n):
    queries, documents = (as_dtype(gaussian(s, r, 24), dtype) for s, r in ((0, n), (1, 700)))
    expected = tilefold.search(queries, documents, 9)
    assert_same(tilefold.search(EmulatedArray(queries), place(documents), 9), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"allowed": np.arange(0, 700, 3)},
        {"exclude": [[i, i + 1, 600] for i in range(20)]},
        {"min_score": 0.5, "max_score": 4},
        {"metric": "cosine"},
    ],
    ids=lambda options: "-".join(options),
)
def test_options_are_those_of_the_host(place, options):
    queries, documents = gaussian(0, 20, 24), gaussian(1, 700, 24) + 0.2
    expected = tilefold.search(queries, documents, 9, **options)
    assert_same(tilefold.search(EmulatedArray(queries), place(documents), 9, **options), expected)


def test_documents_are_folded_in_parts(place, monkeypatch):
    monkeypatch.setattr(device_search, "_PART_BYTES", 64 * (5 * 24 + 32))
    queries, documents = gaussian(0, 20, 24), gaussian(1, 700, 24)
    seen = []
    found = tilefold.search(
        EmulatedArray(queries), place(documents), 9, progress=lambda *done: seen.append(done)
    )
    assert_same(found, tilefold.search(queries, documents, 9))
    assert seen == [(min(end, 700), 700) for end in range(64, 764, 64)]


def test_vectors_too_long_to_be_packed(place):
    dim = _native.MAX_PACKED_DIM + 1
    queries, documents = gaussian(0, 2, dim), gaussian(1, 5, dim)
    expected = tilefold.search(queries, documents, 3)
    assert_same(tilefold.search(EmulatedArray(queries), place(documents), 3), expected)


def test_rows_that_are_not_finite(place):
    queries, documents = gaussian(0, 20, 24), gaussian(1, 700, 24)
    documents[300, 2] = np.nan
    with pytest.raises(ValueError, match="search: row 300 of documents has a NaN"):
        tilefold.search(EmulatedArray(queries), place(documents), 9)
    options = {"nonfinite": "exclude", "return_certificate": True}
    found = tilefold.search(EmulatedArray(queries), place(documents), 9, **options)
    expected = tilefold.search(queries, documents, 9, **options)
    assert_same(found, expected)
    assert found.certificate.holds
    assert found.certificate.nonfinite_documents == 1


def test_an_empty_array_has_no_answers(place):
    found = tilefold.search(EmulatedArray(gaussian(0, 2, 24)), place(gaussian(1, 0, 24)), 3)
    assert (found.ids == -1).all()
    assert np.isneginf(found.scores).all()


def test_what_does_not_fit_names_the_way_out(place):
    queries, documents = EmulatedArray(gaussian(0, 2, 24)), place(gaussian(1, 9, 24))
    with pytest.raises(ValueError, match='metric "l2" is on the CPU alone, got queries on cuda:0'):
        tilefold.search(queries, documents, 3, metric="l2")
    with pytest.raises(ValueError, match="k must be at most 4096 on cuda:0, got 5000"):
        tilefold.search(queries, documents, 5000)
    with pytest.raises(ValueError, match="queries have dim 24 but documents have dim 23"):
        tilefold.search(queries, place(gaussian(1, 9, 23)), 3)
    with pytest.raises(ValueError, match=r"documents must have 2 dimensions \[rows, dim\], got 1"):
        tilefold.search(queries, place(gaussian(1, 9)), 3)


def test_queries_on_the_host_do_not_meet_documents_on_the_device():
    documents = EmulatedArray(gaussian(1, 9, 24))
    with pytest.raises(ValueError, match="documents are on cuda:0 and queries are on the host"):
        tilefold.search(gaussian(0, 2, 24), documents, 3)


@pytest.fixture
def shards(tmp_path):
    """Shards of every kind, and all their documents."""
    documents = gaussian(1, 3000, 24) + 0.1
    np.save(tmp_path / "0.npy", documents[:1100])
    index = tilefold.FlatIndex(24)
    index.add(documents[1100:2500], ids=np.arange(1100, 2500)[::-1])
    index.save(tmp_path / "1")
    return [tmp_path / "0.npy", tmp_path / "1", documents[2500:]]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_unit_vectors_of_any_dtype(place, dtype):
    queries, documents = (as_dtype(gaussian(s, r, 24), dtype) for s, r in ((0, 5), (1, 200)))
    expected = tilefold.search(queries, documents, 9, metric="cosine")
    found = tilefold.search(EmulatedArray(queries), place(documents), 9, metric="cosine")
    assert_same(found, expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda q: tilefold.range_search(q, gaussian(1, 9, 24), 0.5),
        lambda q: tilefold.FlatIndex(24).search(q, 3),
        lambda q: tilefold.FlatIndex(24, device="cuda").add(q),
        lambda q: tilefold.search_shards(q, [EmulatedArray(gaussian(1, 9, 24))], 3),
    ],
)
def test_what_takes_arrays_of_the_host_says_so(call):
    with pytest.raises(ValueError, match=r"must be on the host here, got cuda.*; move it with"):
        call(EmulatedArray(gaussian(0, 2, 24)))


@pytest.mark.parametrize("options", [{}, {"allowed": np.arange(0, 3000, 7)}, {"min_score": 1.0}])
def test_shards_are_searched_where_the_queries_are(shards, options):
    queries = gaussian(0, 20, 24)
    expected = tilefold.search_shards(queries, shards, 30, **options)
    found = tilefold.search_shards(EmulatedArray(queries), shards, 30, **options)
    assert_same(found, expected)
    limit = 60 << 20  # many chunks
    assert_same(
        tilefold.search_shards(EmulatedArray(queries), shards, 30, memory_limit=limit, **options),
        expected,
    )


def test_a_search_on_the_device_resumes(shards, tmp_path):
    queries, checkpoint = gaussian(0, 20, 24), tmp_path / "checkpoint"
    expected = tilefold.search_shards(queries, shards, 30)

    def stop(done: int, total: int) -> None:
        if done >= 2500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tilefold.search_shards(
            EmulatedArray(queries), shards, 30, checkpoint=checkpoint, progress=stop
        )
    assert checkpoint.exists()
    seen = []
    found = tilefold.search_shards(
        EmulatedArray(queries),
        shards,
        30,
        checkpoint=checkpoint,
        progress=lambda *done: seen.append(done),
    )
    assert_same(found, expected)
    assert seen[0][0] > 1100
    assert not checkpoint.exists()


def test_deep_ranks_are_searched_on_the_host(monkeypatch):
    monkeypatch.setattr(EmulatedPlacement, "max_k", 10)
    queries, documents = gaussian(0, 5, 24), gaussian(1, 400, 24)
    positives = Lists(np.arange(6), np.arange(5))
    expected = mine(queries, documents, positives, n_negatives=30)
    found = mine(EmulatedArray(queries), documents, positives, n_negatives=30)
    np.testing.assert_array_equal(found.negatives.indices, expected.negatives.indices)


def test_an_index_on_the_device_is_mined_where_it_is():
    index = tilefold.FlatIndex(24, device="cuda")
    index.add(gaussian(1, 400, 24))
    mine(gaussian(0, 5, 24), index, Lists(np.arange(6), np.arange(5)))
    assert len(index.residents._kept) == 1


@pytest.mark.parametrize(
    ("queries_placed", "documents_on"),
    [(True, "host"), (True, "device"), (True, "index"), (False, "device"), (False, "index")],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [
        {"relative_margin": 0.05, "range_min": 3, "range_max": 300},
        {"sampling": "random", "range_max": 60, "groups": np.arange(400) // 2},
    ],
    ids=["margin", "random"],
)
def test_negatives_are_those_of_the_host(queries_placed, documents_on, dtype, options):
    queries, documents = (as_dtype(gaussian(s, r, 24), dtype) for s, r in ((0, 30), (1, 400)))
    positives = Lists(np.arange(31), np.arange(30) * 3)
    expected = mine(queries, documents, positives, n_negatives=4, **options)
    placed = documents
    if documents_on == "device":
        placed = EmulatedArray(documents)
    if documents_on == "index":
        placed = tilefold.FlatIndex(24, device="cuda")
        placed.add(documents)
    found = mine(
        EmulatedArray(queries) if queries_placed else queries,
        placed,
        positives,
        n_negatives=4,
        batch_size=7,
        **options,
    )
    for own, other in itertools.zip_longest(found.negatives, expected.negatives):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.removed == expected.removed


@pytest.mark.parametrize("kind", ["shards", "index"])
def test_an_encoded_corpus_is_searched_on_a_device(kind, tmp_path):
    documents, queries = gaussian(1, 90, 24), gaussian(0, 5, 24)
    texts = [str(i) for i in range(90)]
    rows = dict(zip(texts, documents, strict=True))
    shards = encode_shards(
        lambda part: np.stack([rows[text] for text in part]),
        texts,
        texts,
        tmp_path / "shards",
        num_shards=3,
    )
    assert len(list(shards)) == 3
    folder = tmp_path / "shards"
    if kind == "index":
        folder = tmp_path / "index"
        save_index(folder, tmp_path / "shards")
    corpus = open_corpus(folder)
    expected = corpus.search(queries, 4)
    assert_same(corpus.search(queries, 4, placement=EmulatedPlacement()), expected)
    assert_same(expected, tilefold.search(queries, documents, 4))
