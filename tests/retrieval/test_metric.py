"""L2 distances and cosines: the bits of the reference, for arrays and for indexes."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilefold
from tilefold import FlatIndex, reference
from tilefold.files import storage
from tilefold.files.tensors import CorruptedFolderError

METRICS = pytest.mark.parametrize("metric", ["l2", "cosine"])


def filled(vectors, metric, parts=1, **options):
    index = FlatIndex(vectors.shape[1], metric=metric)
    for part in np.array_split(vectors, parts):
        index.add(part, **options)
    return index


def by_array(queries, documents, k, metric, **options):
    return tilefold.search(queries, documents, k, metric=metric, **options)


def by_index(queries, documents, k, metric, **options):
    return filled(documents, metric, parts=3).search(queries, k, **options)


def expected(queries, documents, k, metric, **options):
    if metric == "cosine":
        queries, documents = map(reference.unit_vectors, (queries, documents))
        return reference.search(queries, documents, k, **options)
    return reference.nearest(queries, documents, k, **options)


def assert_same(found, truth):
    np.testing.assert_array_equal(found[1], truth[1])
    np.testing.assert_array_equal(found[0], truth[0])
    assert np.asarray(found[0]).tobytes() == truth[0].tobytes()


def drawn(rng, kind, shape):
    rows = rng.standard_normal(shape)
    if kind == "ties":
        rows = rng.integers(-1, 2, shape)
    elif kind == "equal":
        rows = np.ones(shape)
    elif kind == "near":  # distances far below the rounding of squared norms
        rows = 100 + 1e-5 * rows
    elif kind == "outlier":
        rows[: shape[0] // 2 : 7] *= 1e12
    elif kind == "magnitudes":
        rows = rows * 10.0 ** rng.uniform(-45, 17, (shape[0], 1))
    elif kind == "tiny":
        rows = rows * 1e-42
    with np.errstate(under="ignore"):
        return rows.astype(np.float32)


@METRICS
@pytest.mark.parametrize("way", [by_array, by_index])
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["random", "ties", "equal", "near", "outlier", "magnitudes", "tiny"]),
    kind_q=st.sampled_from([None, "random", "magnitudes", "tiny", "own"]),
    rows=st.sampled_from([0, 1, 40, 300]),
    dim=st.sampled_from([1, 7, 16, 33, 64]),
    k=st.sampled_from([1, 5, 50, 400]),
    threads=st.sampled_from([1, 3]),
)
@settings(max_examples=60)
def test_answers_are_those_of_the_reference(
    isa, way, metric, seed, kind, kind_q, rows, dim, k, threads
):
    rng = np.random.default_rng(seed)
    documents = drawn(rng, kind, (rows, dim))
    queries = documents[:9] if kind_q == "own" else drawn(rng, kind_q or kind, (9, dim))
    found = way(queries, documents, k, metric, num_threads=threads, return_certificate=True)
    assert_same(found, expected(queries, documents, k, metric))
    assert found.certificate.holds


@METRICS
def test_filters_leave_what_the_reference_leaves(metric):
    rng = np.random.default_rng(0)
    documents, queries = drawn(rng, "random", (300, 12)), drawn(rng, "random", (20, 12))
    allowed, excluded = rng.random(300) < 0.6, rng.random((20, 300)) < 0.3
    options = {"allowed": allowed, "exclude": [np.flatnonzero(row) for row in excluded]}
    if metric == "cosine":
        limits = {"max_score": np.float32(0.5), "min_score": np.float32(-0.1)}
        truth = expected(
            queries, documents, 30, metric, allowed=allowed, excluded=excluded, **limits
        )
    else:
        distances = reference.squared_distances(queries, documents)
        limits = {"max_score": np.sort(distances, axis=1)[:, 40]}  # equal to a distance
        within = distances <= limits["max_score"][:, None]
        truth = expected(queries, documents, 30, metric, valid=allowed & ~excluded & within)
    for way in (by_array, by_index):
        assert_same(way(queries, documents, 30, metric, **options, **limits), truth)


@pytest.mark.parametrize("kind", ["random", "ties", "equal", "near", "outlier"])
def test_every_document_within_a_distance_is_found(kind):
    rng = np.random.default_rng(1)
    documents, queries = drawn(rng, kind, (400, 20)), drawn(rng, kind, (15, 20))
    distances = reference.squared_distances(queries, documents)
    limit = np.sort(distances, axis=1)[:, 25]
    found = filled(documents, "l2", parts=2).range_search(
        queries, max_score=limit, return_certificate=True
    )
    truth, ids = reference.nearest(
        queries, documents, len(documents), valid=distances <= limit[:, None]
    )
    assert found.offsets.tolist() == np.cumsum([0, *(ids >= 0).sum(axis=1)]).tolist()
    assert_same(found[1:], (truth[ids >= 0], ids[ids >= 0]))
    assert found.certificate.holds


def test_every_document_of_at_least_a_cosine_is_found():
    rng = np.random.default_rng(2)
    documents, queries = drawn(rng, "random", (400, 20)), drawn(rng, "random", (15, 20))
    units = map(reference.unit_vectors, (queries, documents))
    found = filled(documents, "cosine").range_search(queries, 0.3)
    truth = reference.range_search(*units, 0.3)
    assert found.offsets.tolist() == truth[0].tolist()
    assert_same(found[1:], truth[1:])


def test_a_vector_has_distance_zero_to_itself_however_long_it_is():
    documents = drawn(np.random.default_rng(3), "near", (100, 64)) * np.float32(1e6)
    found = filled(documents, "l2").search(documents, 1)
    assert found.ids[:, 0].tolist() == [*range(100)]
    assert not found.scores.any()


def test_rows_of_zeros_have_cosine_zero():
    found = filled(np.float32([[0, 0], [1, 1], [-1, 0]]), "cosine").search(np.eye(2, 2, 0, "f4"), 3)
    assert found.ids[0].tolist() == [1, 0, 2]
    assert found.scores[0, 1] == 0
    assert (
        not filled(np.eye(2, dtype="f4"), "cosine").search(np.zeros((1, 2), "f4"), 2).scores.any()
    )


@METRICS
def test_rows_that_are_not_finite_are_refused_or_never_retrieved(metric):
    documents, queries = np.ones((3, 2), np.float32), np.float32([[1, 0], [np.inf, 0]])
    documents[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"search: row 1 of documents has a NaN"):
        by_array(queries[:1], documents, 2, metric)
    with pytest.raises(ValueError, match=r"FlatIndex.add: row 1 of vectors has a NaN"):
        filled(documents, metric)
    index = filled(documents, metric, nonfinite="exclude")
    with pytest.raises(ValueError, match=r"FlatIndex.search: row 1 of queries has a NaN"):
        index.search(queries, 2)
    found = index.search(queries, 3, nonfinite="exclude")
    assert found.ids.tolist() == [[0, 2, -1], [-1, -1, -1]]
    assert np.isinf(found.scores[1]).all()
    assert_same(by_array(queries, documents, 3, metric, nonfinite="exclude"), found)


@METRICS
@pytest.mark.parametrize("dtype", [np.float16, np.int8])
def test_every_dtype_is_searched(metric, dtype):
    rng = np.random.default_rng(4)
    documents, queries = (rng.integers(-9, 9, (n, 24)).astype(dtype) for n in (300, 20))
    for way in (by_array, by_index):
        assert_same(way(queries, documents, 7, metric), expected(queries, documents, 7, metric))


@METRICS
def test_edits_leave_an_index_that_answers_as_a_new_one(metric):
    rng = np.random.default_rng(5)
    documents = drawn(rng, "random", (90, 8))
    index = filled(documents, metric, parts=3)
    index.remove(range(20), keep=True)
    index.restore(range(10))
    changed = 50 * drawn(rng, "random", (5, 8))
    index.replace(changed, [40, 41, 42, 43, 44])
    documents[40:45] = changed
    index.merge(filled(1000 * documents, metric), id_offset=100)
    rows = np.concatenate([documents, 1000 * documents])
    ids = np.concatenate([np.arange(90), np.arange(100, 190)])
    left = np.r_[0:10, 20:180]
    truth = expected(rows[:30], rows[left], 25, metric, ids=ids[left])
    assert_same(index.search(rows[:30], 25), truth)
    copied = pickle.loads(pickle.dumps(index))
    assert_same(copied.search(rows[:30], 25), truth)


@METRICS
@pytest.mark.parametrize("mmap", [True, False])
def test_the_metric_is_saved_with_the_index(metric, mmap, tmp_path):
    documents = drawn(np.random.default_rng(6), "random", (60, 8))
    index = filled(documents, metric)
    index.remove([3], keep=True)
    index.save(tmp_path / "index")
    loaded = FlatIndex.load(tmp_path / "index", mmap=mmap)
    assert loaded.metric == metric
    loaded.restore(3)
    assert_same(loaded.search(documents, 5), expected(documents, documents, 5, metric))
    np.testing.assert_array_equal(
        loaded.reconstruct([3]), documents[3:4] if metric == "l2" else index_row(documents, 3)
    )


def index_row(documents, row):
    return reference.unit_vectors(documents)[row : row + 1]


def test_a_folder_without_a_metric_is_an_index_of_inner_products(tmp_path):
    filled(np.eye(3, dtype=np.float32), "ip").save(tmp_path / "index")
    manifest = json.loads(next((tmp_path / "index").glob("*.json")).read_text())
    assert "metric" not in manifest
    assert FlatIndex.load(tmp_path / "index").metric == "ip"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("metric", "dot", "metric must be"),
        ("metric", "ip", "has vectors of shape"),  # one column less
        ("exponent", 1000, "exponent must be -60 to 60, got 1000"),
        ("exponent", "3", "exponent must be an integer"),
        ("exponent", None, "no exponent"),
    ],
)
def test_a_folder_with_a_wrong_metric_is_refused(key, value, message, tmp_path):
    filled(np.eye(3, dtype=np.float32), "l2").save(tmp_path)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text()) | {key: value}
    manifest["checksum"] = storage._checksum(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorruptedFolderError, match=message):
        FlatIndex.load(tmp_path)


def test_a_removed_document_that_is_there_is_refused(tmp_path):
    index = filled(np.eye(3, dtype=np.float32), "ip")
    index.remove([1], keep=True)
    index._store.content = filled(np.eye(3, dtype=np.float32), "ip")._store.content
    index.save(tmp_path)
    with pytest.raises(CorruptedFolderError, match="both there and removed"):
        FlatIndex.load(tmp_path)


@pytest.mark.parametrize("ids", [[0, 0, 1], ["a", "a", "b"], [0, 1, 2]])
def test_vectors_that_were_refused_decide_nothing(ids):
    """The exponent of an index is that of the first vectors that it stores."""
    index, large = FlatIndex(3, metric="l2"), 1e10 * np.eye(3, dtype=np.float32)
    if ids == [0, 1, 2]:
        large[1, 1] = np.nan
    with pytest.raises(ValueError, match=r"FlatIndex\.add"):
        index.add(large, ids=ids)
    index.add(np.eye(3, dtype=np.float32))
    assert index._store.exponent == 0
    assert index.ids.tolist() == [0, 1, 2]


def test_an_unknown_metric_is_named():
    message = 'metric must be "ip", "l2" or "cosine", got \'dot\'; did you mean \'ip\''
    with pytest.raises(ValueError, match=f"FlatIndex: {message}"):
        FlatIndex(2, metric="dot")
    with pytest.raises(ValueError, match=f"search: {message}"):
        tilefold.search(np.eye(2, dtype="f4"), np.eye(2, dtype="f4"), 1, metric="dot")


@METRICS
def test_shards_take_inner_products_only(metric, tmp_path):
    documents = np.eye(3, dtype=np.float32)
    index = filled(documents, metric)
    index.save(tmp_path / "index")
    for shard in (index, tmp_path / "index"):
        with pytest.raises(ValueError, match=f"has metric '{metric}', and shards and mining"):
            tilefold.search_shards(documents, [shard], 2)


def test_what_l2_does_not_have_is_named():
    index = filled(np.eye(2, dtype=np.float32), "l2")
    queries = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match="takes max_score, the largest squared distance"):
        index.search(queries, 1, min_score=0)
    with pytest.raises(TypeError, match="max_score must be the largest squared distance"):
        index.range_search(queries)
    with pytest.raises(ValueError, match="copy=False is not possible with metric 'l2'"):
        index.add(queries, copy=False)
    for k in (0, 2**31):
        with pytest.raises(ValueError, match=r"FlatIndex.search: k must be at least 1"):
            index.search(queries, k)
    with pytest.raises(ValueError, match=r"add: row 1 of vectors has a norm of 2\^62 or more"):
        index.add(np.float32([[1, 0], [1e19, 0]]))
    with pytest.raises(ValueError, match=r"search: row 0 of queries has a norm of 2\^62 or more"):
        index.search(np.float32([[1e38, 0]]), 1)
    with pytest.raises(ValueError, match="other has metric 'cosine' but the index has 'l2'"):
        index.merge(filled(queries, "cosine"), id_offset=9)


def test_distances_of_torch_queries_are_tensors():
    torch = pytest.importorskip("torch")
    found = filled(np.eye(2, dtype=np.float32), "l2").search(torch.tensor([1.0, 0]), 2)
    assert found.scores.tolist() == [0, 2]
    assert isinstance(found.ids, torch.Tensor)


@pytest.mark.parametrize("seed", [1510, 2635, *range(5)])
def test_documents_nearer_than_the_rounding_of_scores_are_found(seed):
    """Distances differ by less than scores are rounded; the first two need the bound of that."""
    rng = np.random.default_rng(seed)
    dim, factor = int(rng.choice([2, 3, 8, 16, 33])), rng.uniform(0.9, 1.5)
    query = rng.standard_normal((1, dim)).astype("f4") * np.float32(2 ** rng.uniform(-1, 1))
    documents = np.repeat(np.float32(factor) * query, 400, axis=0)
    moves = rng.integers(-9, 10, documents.shape).astype("f4")
    documents = documents + moves * np.spacing(np.abs(documents))
    found = filled(documents, "l2").search(query, 5, return_certificate=True)
    assert_same(found, expected(query, documents, 5, "l2"))
    assert found.certificate.holds


@METRICS
def test_a_graph_says_where_the_metric_is(metric):
    with pytest.raises(ValueError, match=r'HnswIndex: metric must be "ip".*FlatIndex\(dim'):
        tilefold.HnswIndex(4, metric=metric)


@METRICS
@pytest.mark.parametrize("kind", ["tiny", "magnitudes"])
def test_flushing_subnormal_numbers_changes_no_bit(metric, kind):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    documents, queries = drawn(rng, kind, (300, 12)), drawn(rng, kind, (9, 12))
    truth = expected(queries, documents, 20, metric)
    limits = np.sort(reference.canonical_scores(queries, documents), axis=1)[:, 99]
    hits = reference.range_search(queries, documents, limits)
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush subnormal numbers")
    try:
        found = by_index(queries, documents, 20, metric)
        ours = tilefold.range_search(queries, documents, limits)
    finally:
        torch.set_flush_denormal(False)
    assert [a.tobytes() for a in found] == [a.tobytes() for a in truth]
    assert [a.tobytes() for a in ours] == [a.tobytes() for a in hits]


@pytest.mark.parametrize("way", [by_array, by_index])
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32])
def test_k_may_be_a_small_integer_of_numpy(way, kind):
    documents = drawn(np.random.default_rng(5), "random", (200, 8))
    k = min(250, np.iinfo(kind).max)
    found = way(documents[:3], documents, kind(k), "l2")
    assert_same(found, expected(documents[:3], documents, k, "l2"))
