"""Range search: every hit of the reference and its bits, whatever the way, row and threads."""

import inspect
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilefold
from tilefold import reference
from tilefold.retrieval import running_range


def assert_same(found, expected):
    for name, ours, theirs in zip(("offsets", "scores", "ids"), found[:3], expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
        assert np.asarray(ours).dtype == theirs.dtype
        assert np.asarray(ours).tobytes() == theirs.tobytes(), name


def by_array(queries, documents, min_score, **options):
    return tilefold.range_search(queries, documents, min_score, **options)


def filled(documents, parts=1):
    index = tilefold.FlatIndex(documents.shape[1])
    for part in np.array_split(documents, parts):
        index.add(part)
    return index


def by_index(queries, documents, min_score, **options):
    return filled(documents).range_search(queries, min_score, **options)


def by_shards(queries, documents, min_score, **options):
    shards = np.array_split(documents, 3)
    return tilefold.range_search_shards(queries, shards, min_score, **options)


WAYS = pytest.mark.parametrize("way", [by_array, by_index, by_shards])


@pytest.fixture
def small_levels(monkeypatch):
    """Levels, chunks and buffers so small that few documents go through all of them."""
    monkeypatch.setattr(running_range, "LEVELS", (2, 8, 64))
    monkeypatch.setattr(running_range, "_CHUNK_ROWS", 64)
    monkeypatch.setattr(running_range, "BUFFER_SLOTS", 128)


def drawn_vectors(rng, kind, shape):
    if kind == "ties":
        return rng.integers(-1, 2, shape).astype(np.float32)
    if kind == "equal":
        return np.ones(shape, np.float32)
    if kind == "magnitudes":  # from subnormals to scores beyond fp32
        with np.errstate(over="ignore", under="ignore"):
            return (
                rng.standard_normal(shape) * 10.0 ** rng.uniform(-45, 37, (shape[0], 1))
            ).astype(np.float32)
    return rng.standard_normal(shape).astype(np.float32)


@WAYS
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["ties", "equal", "magnitudes", "random"]),
    rows=st.sampled_from([0, 1, 31, 64, 65, 300]),
    dim=st.sampled_from([1, 7, 16, 33]),
    n=st.sampled_from([0, 1, 3, 40]),
    quantile=st.sampled_from([0, 0.5, 0.99, None]),
    filtered=st.booleans(),
)
@settings(max_examples=40)
def test_hits_are_those_of_the_reference(
    isa, small_levels, way, seed, kind, rows, dim, n, quantile, filtered
):
    rng = np.random.default_rng(seed)
    documents = drawn_vectors(rng, kind, (rows, dim))
    queries = drawn_vectors(rng, kind, (n, dim))
    scores = reference.canonical_scores(queries, documents)
    limits = np.full(n, -np.inf, np.float32)
    if quantile is not None and scores.size:  # thresholds equal to scores that documents have
        limits = np.sort(scores, axis=1)[:, int(quantile * (rows - 1))]
    options, expected = {}, {}
    if filtered:
        allowed, excluded = rng.random(rows) < 0.7, rng.random((n, rows)) < 0.2
        high = np.float32(scores.max(initial=0) / 2)
        lists = [np.flatnonzero(row) for row in excluded]
        options = {"allowed": allowed, "exclude": lists, "max_score": high}
        expected = {"allowed": allowed, "excluded": excluded, "max_score": high}
    found = way(queries, documents, limits, return_certificate=True, num_threads=2, **options)
    assert_same(found, reference.range_search(queries, documents, limits, **expected))
    assert found.certificate.holds


@WAYS
def test_the_number_of_threads_and_of_queries_changes_no_bit(way):
    rng = np.random.default_rng(0)
    documents = rng.standard_normal((2000, 48)).astype(np.float32)
    queries = rng.standard_normal((50, 48)).astype(np.float32)
    expected = reference.range_search(queries, documents, 8.0)
    assert 0 < len(expected[1]) < documents.shape[0] * 50 / 4
    for threads in (1, 3):
        assert_same(way(queries, documents, 8.0, num_threads=threads), expected)
    one = [way(query, documents, 8.0) for query in queries]
    np.testing.assert_array_equal(np.concatenate([found.ids for found in one]), expected[2])
    assert [found.offsets.tolist() for found in one] == [
        [0, count] for count in np.diff(expected[0])
    ]


@pytest.mark.parametrize("dtype", [np.float16, np.int8])
def test_every_dtype_is_searched(dtype):
    rng = np.random.default_rng(1)
    documents, queries = (rng.integers(-9, 9, (n, 24)).astype(dtype) for n in (500, 20))
    assert_same(by_index(queries, documents, 300), reference.range_search(queries, documents, 300))


def test_a_query_may_have_more_hits_than_any_level():
    rng = np.random.default_rng(2)
    documents = rng.standard_normal((2 * running_range.LEVELS[-1] + 100, 4)).astype(np.float32)
    queries = np.float32([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 9, 0]])
    limits = np.float32([-np.inf, 0, 30])
    found = by_index(queries, documents, limits)
    assert np.diff(found.offsets)[0] == len(documents)
    assert_same(found, reference.range_search(queries, documents, limits))


def test_removed_documents_and_added_segments_are_respected():
    rng = np.random.default_rng(3)
    documents = rng.standard_normal((400, 16)).astype(np.float32)
    index = filled(documents, parts=4)
    gone = np.arange(0, 400, 3)
    index.remove(gone)
    left = np.setdiff1d(np.arange(400), gone)
    expected = reference.range_search(documents[:30], documents[left], 2.0, ids=left)
    assert_same(index.range_search(documents[:30], 2.0), expected)


def test_a_mapped_index_gives_the_same_hits(tmp_path):
    rng = np.random.default_rng(4)
    documents = rng.standard_normal((300, 16)).astype(np.float32)
    filled(documents).save(tmp_path / "index")
    expected = reference.range_search(documents[:20], documents, 2.0)
    loaded = tilefold.FlatIndex.load(tmp_path / "index")
    assert_same(loaded.range_search(documents[:20], 2.0), expected)
    found = tilefold.range_search_shards(documents[:20], [tmp_path / "index"], 2.0)
    assert_same(found, expected)


@WAYS
def test_rows_that_are_not_finite_have_no_hits(way):
    documents = np.eye(4, dtype=np.float32)
    documents[2, 0] = np.nan
    queries = np.ones((2, 4), np.float32)
    queries[0, 1] = np.inf
    with pytest.raises(ValueError, match="NaN or an infinity"):
        by_array(queries, documents, -1.0)
    shards = tilefold.FlatIndex(4)
    shards.add(documents, nonfinite="exclude")
    ways = {by_index: shards.range_search}
    found = (
        ways[way](queries, -1.0, nonfinite="exclude")
        if way in ways
        else way(queries, documents, -1.0, nonfinite="exclude")
    )
    assert found.offsets.tolist() == [0, 0, 3]
    assert found.ids.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("limit", "error", "message"),
    [
        (None, TypeError, "min_score must be a number or an array, got None"),
        ("high", TypeError, "min_score must be a number"),
        ([1.0], ValueError, "min_score must be a number or have one per query, 2"),
        (np.nan, ValueError, "min_score must not be NaN"),
    ],
)
@pytest.mark.parametrize("op", ["range_search", "FlatIndex.range_search", "range_search_shards"])
def test_a_wrong_threshold_is_named_with_its_operation(op, limit, error, message):
    ways = {"range_search": by_array, "FlatIndex.range_search": by_index}
    with pytest.raises(error, match=f"{op}: {message}"):
        ways.get(op, by_shards)(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), limit)


def test_memory_is_bounded_by_the_hits_and_not_by_the_score_matrix():
    rng = np.random.default_rng(5)
    documents = rng.standard_normal((40_000, 8)).astype(np.float32)
    queries = rng.standard_normal((2000, 8)).astype(np.float32)
    index = filled(documents)
    tracemalloc.start()  # sees what NumPy allocates
    found = index.range_search(queries, 14.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    matrix = 4 * len(documents) * len(queries)
    assert 0 < len(found.ids) < matrix / 4 / 100
    assert peak < 4 * 12 * running_range.BUFFER_SLOTS + 40 * len(found.ids)
    assert peak < matrix / 8


def test_torch_queries_give_tensors():
    torch = pytest.importorskip("torch")
    found = by_array(torch.eye(2), torch.eye(2), 1.0)
    assert all(isinstance(array, torch.Tensor) for array in found)
    assert found.ids.tolist() == [0, 1]


def test_progress_reaches_the_end():
    calls = []
    documents = np.eye(70, dtype=np.float32)
    by_array(documents, documents, 1.0, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (70, 70)


def test_range_searches_share_the_options_of_search():
    known = inspect.signature(tilefold.search).parameters
    for op in (
        tilefold.range_search,
        tilefold.FlatIndex.range_search,
        tilefold.range_search_shards,
    ):
        for name, parameter in inspect.signature(op).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and name != "memory_limit":
                assert parameter.default == known[name].default, name
