"""search_shards: the answer of one search over everything, in bounded memory, and resumable."""

import errno
import itertools
import json
import mmap
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import tilefold
from tilefold import FlatIndex, reference, search, search_shards
from tilefold.files.done_once import read_checked, write_checked
from tilefold.retrieval import shards as shard_search

DIM = 24
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
}
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")


def vectors(n: int, dim: int = DIM, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return (40 * rows if dtype == "int8" else rows).astype(DTYPES[dtype])


CORPUS, QUERIES = vectors(2000), vectors(6, seed=1)


def split(documents: np.ndarray, parts: int) -> list[np.ndarray]:
    """Parts of different sizes."""
    cuts = np.linspace(0, 1, parts + 1) ** 1.5 * len(documents)
    return [documents[int(a) : int(b)] for a, b in itertools.pairwise(cuts)]


def assert_same(found, expected) -> None:
    for mine, truth in zip(found, expected, strict=True):
        assert (mine.shape, mine.dtype) == (truth.shape, truth.dtype)
        assert np.ascontiguousarray(mine).tobytes() == np.ascontiguousarray(truth).tobytes()


# What becomes a shard: (documents, ids or None for the default, a path to write to) -> a shard.


def as_array(documents, ids, path):
    return documents


def as_npy(documents, ids, path):
    np.save(path.with_suffix(".npy"), documents)
    return path.with_suffix(".npy")


def as_safetensors(documents, ids, path):
    safetensors.numpy.save_file({"vectors": documents}, path.with_suffix(".safetensors"))
    return str(path.with_suffix(".safetensors"))


def as_safetensors_with_ids(documents, ids, path):
    tensors = {"embeddings": documents, "ids": ids}
    safetensors.numpy.save_file(tensors, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def as_index(documents, ids, path):
    index = FlatIndex(documents.shape[1])
    for rows in np.array_split(np.arange(len(ids)), [len(ids) * 9 // 10]):
        index.add(documents[rows], ids[rows])
    return index


def as_saved_index(documents, ids, path):
    as_index(documents, ids, path).save(path)
    return path


NUMBERED = [as_array, as_npy, as_safetensors]  # by their place in the corpus
NAMED = [as_safetensors_with_ids, as_index, as_saved_index]  # by ids of their own


def make(kinds, documents: np.ndarray, parts: int, folder: Path) -> list:
    """Shards of the given kinds in turn, whose ids are the row numbers of the corpus."""
    shards, begin = [], 0
    for number, part in enumerate(split(documents, parts)):
        ids = np.arange(begin, begin + len(part))
        shards.append(kinds[number % len(kinds)](part, ids, folder / f"shard-{number}"))
        begin += len(part)
    return shards


# ---- the same bytes as one search ----------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("kind", NUMBERED + NAMED)
def test_shards_give_the_bytes_of_one_search(kind, parts, tmp_path):
    shards = make([kind], CORPUS, parts, tmp_path)
    for k in (1, 20, 2001):
        assert_same(search_shards(QUERIES, shards, k), reference.search(QUERIES, CORPUS, k))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("kind", NUMBERED + NAMED)
def test_shards_of_every_dtype_give_the_bytes_of_one_search(kind, dtype, tmp_path):
    if (kind, dtype) == (as_npy, "bfloat16"):
        pytest.skip("a .npy file cannot hold bfloat16")
    documents, queries = vectors(1000, dtype=dtype), vectors(4, seed=1, dtype=dtype)
    shards = make([kind], documents, 3, tmp_path)
    assert_same(search_shards(queries, shards, 9), reference.search(queries, documents, 9))


@pytest.mark.parametrize("parts", [2, 7, 13])
def test_shards_of_all_kinds_mix(parts, tmp_path):
    shards = make(NUMBERED + NAMED, CORPUS, parts, tmp_path)
    assert_same(search_shards(QUERIES, shards, 20), reference.search(QUERIES, CORPUS, 20))


def test_shards_of_several_dtypes_mix(tmp_path):
    parts = [vectors(300, seed=i, dtype=dtype) for i, dtype in enumerate(DTYPES) if dtype != "int8"]
    shards = [as_safetensors(part, None, tmp_path / str(i)) for i, part in enumerate(parts)]
    everything = np.vstack([part.astype(np.float32) for part in parts])
    assert_same(search_shards(QUERIES, shards, 20), reference.search(QUERIES, everything, 20))


@given(st.data())
def test_any_split_with_any_ids_gives_the_bytes_of_one_search(data):
    """Small integers as vectors: scores tie all the time, and ids decide."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    sizes = data.draw(st.lists(st.integers(0, 150), min_size=1, max_size=6))
    documents = rng.integers(-1, 2, (sum(sizes), 3)).astype(np.float32)
    ids = rng.permutation(10 * sum(sizes) + 1)[: sum(sizes)]
    queries = rng.integers(-1, 2, (3, 3)).astype(np.float32)
    k = data.draw(st.integers(1, 40))
    cuts = np.cumsum(sizes)[:-1]
    shards = [
        as_index(part, names, None)
        for part, names in zip(np.split(documents, cuts), np.split(ids, cuts), strict=True)
    ]
    expected = reference.search(queries, documents, k, ids=ids)
    assert_same(search_shards(queries, shards, k), expected)
    assert_same(search_shards(queries, shards[::-1], k), expected)


def test_filters_go_by_the_ids_of_the_corpus(tmp_path):
    shards = make(NUMBERED + NAMED, CORPUS, 7, tmp_path)
    allowed = np.random.default_rng(0).permutation(2000)[:600]
    excluded = [allowed[i::7] for i in range(6)]
    options = {"min_score": np.linspace(-2, 1, 6), "max_score": 6.5, "exclude": excluded}
    mask = np.isin(np.arange(2000), allowed)
    for form in (allowed, mask):
        found = search_shards(QUERIES, shards, 20, allowed=form, **options)
        assert_same(found, search(QUERIES, CORPUS, 20, allowed=form, **options))
    out = np.array([np.isin(np.arange(2000), row) for row in excluded])
    truth = reference.search(
        QUERIES,
        CORPUS,
        20,
        allowed=mask,
        excluded=out,
        min_score=np.linspace(-2, 1, 6).astype(np.float32),
        max_score=6.5,
    )
    assert_same(found, truth)


def test_removed_documents_of_an_index_are_not_found(tmp_path):
    index = as_index(CORPUS[500:], np.arange(500, 2000), None)
    index.remove(np.arange(600, 1500))
    index.save(tmp_path / "index")
    kept = np.r_[0:600, 1500:2000]
    truth = reference.search(QUERIES, CORPUS[kept], 20, ids=kept)
    for shard in (index, tmp_path / "index"):
        assert_same(search_shards(QUERIES, [CORPUS[:500], shard], 20), truth)


@pytest.mark.parametrize("kind", [as_array, as_npy, as_safetensors, as_index, as_saved_index])
def test_rows_that_are_not_finite_are_an_error_that_names_the_shard(kind, tmp_path):
    bad = CORPUS.copy()
    bad[1234, 5] = np.nan
    if kind in (as_index, as_saved_index):
        with pytest.raises(ValueError, match="row 734 of vectors"):
            kind(bad[500:], np.arange(1500), tmp_path / "bad")
        return
    shards = [CORPUS[:500], kind(bad[500:], None, tmp_path / "bad")]
    name = "shards[1]" if kind is as_array else str(shards[1])
    with pytest.raises(ValueError, match=r"row 734 of .* has a NaN") as caught:
        search_shards(QUERIES, shards, 3)
    assert name in str(caught.value)
    kept = np.delete(np.arange(2000), 1234)
    found = search_shards(QUERIES, shards, 20, nonfinite="exclude", return_certificate=True)
    assert_same(found[:2], reference.search(QUERIES, CORPUS[kept], 20, ids=kept))
    assert found.certificate.nonfinite_documents == 1


def test_a_single_query_and_tensors_come_back_as_they_went_in():
    found = search_shards(QUERIES[0], [CORPUS[:9], CORPUS[9:]], 5)
    assert_same([a[None] for a in found], reference.search(QUERIES[:1], CORPUS, 5))
    torch = pytest.importorskip("torch")
    parts = [torch.tensor(CORPUS[:9]), torch.tensor(CORPUS[9:])]
    found = search_shards(torch.tensor(QUERIES), parts, 5)
    assert isinstance(found.ids, torch.Tensor)
    assert_same([a.numpy() for a in found], reference.search(QUERIES, CORPUS, 5))


@pytest.mark.parametrize("kind", NUMBERED + NAMED)
def test_empty_shards_are_fine(kind, tmp_path):
    nothing = np.empty((0, DIM), np.float32)
    shards = []
    for number, part in enumerate([nothing, CORPUS[:700], nothing, CORPUS[700:], nothing]):
        ids = np.arange(len(part)) + (700 if number == 3 else 0)
        shards.append(kind(part, ids, tmp_path / str(number)))
    assert_same(search_shards(QUERIES, shards, 20), reference.search(QUERIES, CORPUS, 20))


def test_no_shards_give_padding():
    found = search_shards(QUERIES, [], 3)
    assert (found.ids == -1).all()
    assert np.isneginf(found.scores).all()
    assert search_shards(QUERIES[:0], [CORPUS], 3).ids.shape == (0, 3)


def test_shards_without_ids_are_numbered_on_after_those_with_ids():
    index = as_index(CORPUS[:10], np.arange(100, 110), None)
    found = search_shards(QUERIES, [index, CORPUS[10:20], CORPUS[20:30]], 30)
    ids = np.arange(100, 130)
    assert_same(found, reference.search(QUERIES, CORPUS[:30], 30, ids=ids))


def test_npy_files_of_the_other_byte_order_are_read(tmp_path):
    shards = make([lambda part, *rest: as_npy(part.astype(">f4"), *rest)], CORPUS, 3, tmp_path)
    assert_same(search_shards(QUERIES, shards, 20), reference.search(QUERIES, CORPUS, 20))


def test_a_file_in_fortran_order_is_refused_with_the_way_out(tmp_path):
    shards = make([lambda part, *rest: as_npy(np.asfortranarray(part), *rest)], CORPUS, 1, tmp_path)
    with pytest.raises(ValueError, match=r"Fortran order.*np\.ascontiguousarray"):
        search_shards(QUERIES, shards, 20)


@pytest.mark.parametrize("kind", [as_array, as_npy, as_safetensors])
def test_float64_shards_are_rounded_with_a_warning(kind, tmp_path):
    exact = np.random.default_rng(0).standard_normal((2000, DIM))
    shards = make([kind], exact, 3, tmp_path)
    with pytest.warns(tilefold.PrecisionWarning) as warned:
        found = search_shards(QUERIES, shards, 20)
    assert len(warned) <= len(shards)
    assert {w.filename for w in warned} == {__file__}
    assert_same(found, reference.search(QUERIES, exact.astype(np.float32), 20))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_ids_of_every_integer_dtype_are_read(dtype, tmp_path):
    ids = np.random.default_rng(0).permutation(100).astype(dtype)
    shard = as_safetensors_with_ids(CORPUS[:100], ids, tmp_path / "shard")
    truth = reference.search(QUERIES, CORPUS[:100], 20, ids=ids.astype(np.int64))
    assert_same(search_shards(QUERIES, [shard], 20), truth)


def test_other_tensors_of_a_shard_do_not_matter(tmp_path):
    path = tmp_path / "shard.safetensors"
    others = {"counts": np.ones(3, np.uint16), "weights": np.ones(3), "texts": np.ones(9, np.uint8)}
    safetensors.numpy.save_file({"vectors": CORPUS, **others}, path, metadata={"model": "mine"})
    assert_same(search_shards(QUERIES, [path], 20), reference.search(QUERIES, CORPUS, 20))


# ---- shards that cannot be searched --------------------------------------------------------------


@pytest.mark.parametrize("kind", NUMBERED + NAMED)
@pytest.mark.parametrize("rows", [0, 5])
def test_a_shard_of_another_dim_is_named(kind, rows, tmp_path):
    shard = kind(vectors(rows, 7), np.arange(rows), tmp_path / "bad")
    name = str(shard) if isinstance(shard, (str, Path)) else "shards[1]"
    with pytest.raises(ValueError, match=r"queries have dim 24 but .* has dim 7") as caught:
        search_shards(QUERIES, [CORPUS, shard], 3)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors", "a", "a.bin"])
def test_an_absent_shard_is_named(name, tmp_path):
    for path in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(FileNotFoundError, match=f"search_shards: {tmp_path / name}"):
            search_shards(QUERIES, [CORPUS, path], 3)


@pytest.mark.parametrize("name", ["a.bin", "a", "a.npz", "folder", "folder.npy"])
def test_a_shard_of_an_unknown_kind_is_named(name, tmp_path):
    if name.startswith("folder"):
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("what is this?")
    with pytest.raises(ValueError, match=r"is no \.npy, .safetensors or saved index") as caught:
        search_shards(QUERIES, [tmp_path / name], 3)
    assert str(tmp_path / name) in str(caught.value)


def spoil(path: Path, kind: str) -> None:
    """Makes a good shard bad."""
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "garbage":
        path.write_bytes(b"this is no array at all, but long enough to look at")
    elif kind == "truncated":
        os.truncate(path, path.stat().st_size - 1)
    elif kind == "truncated header":
        os.truncate(path, 20)
    elif kind == "an archive":
        with open(path, "wb") as file:
            np.savez(file, vectors=CORPUS)
    else:
        np.save(path, np.array([{"a": 1}]), allow_pickle=True)
        path.with_suffix(".npy").rename(path)


SPOILED = ["empty", "garbage", "truncated", "truncated header", "an archive", "a pickle"]


@pytest.mark.parametrize("spoiled", SPOILED)
@pytest.mark.parametrize("kind", [as_npy, as_safetensors])
def test_a_file_that_is_not_whole_is_named(kind, spoiled, tmp_path):
    path = Path(kind(CORPUS, None, tmp_path / "bad"))
    if spoiled == "a pickle" and kind is as_safetensors:
        pytest.skip("no such thing")
    spoil(path, spoiled)
    with pytest.raises(ValueError, match=str(path)):
        search_shards(QUERIES, [CORPUS, path], 3)


def test_a_truncated_index_is_named(tmp_path):
    as_saved_index(CORPUS, np.arange(2000), tmp_path / "bad")
    path = max((tmp_path / "bad").glob("*.safetensors"), key=lambda p: p.stat().st_size)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ValueError, match=str(path)):
        search_shards(QUERIES, [CORPUS, tmp_path / "bad"], 3)


@pytest.mark.parametrize(
    ("shard", "error"),
    [
        (np.ones(DIM, np.float32), ValueError),
        (np.ones((2, 2, DIM), np.float32), ValueError),
        (np.float32(1), (TypeError, ValueError)),
        (np.ones((2, DIM), np.int32), TypeError),
        (np.ones((2, DIM), np.uint16), TypeError),
        (np.ones((2, DIM), np.complex64), TypeError),
    ],
    ids=["1-D", "3-D", "0-D", "int32", "uint16", "complex"],
)
@pytest.mark.parametrize("kind", [as_array, as_npy, as_safetensors])
def test_an_array_that_holds_no_vectors_is_named(kind, shard, error, tmp_path):
    if kind is as_safetensors and shard.dtype.kind == "c":
        pytest.skip("no such thing")
    bad = kind(np.asarray(shard), None, tmp_path / "bad")
    name = "shards[1]" if kind is as_array else str(bad)
    with pytest.raises(error, match="search_shards: ") as caught:
        search_shards(QUERIES, [CORPUS, bad], 3)
    assert name in str(caught.value)


def test_one_dimensional_bfloat16_is_no_shard(tmp_path):
    bad = as_safetensors(np.ones(DIM, ml_dtypes.bfloat16), None, tmp_path / "bad")
    with pytest.raises(ValueError, match=r"search_shards: .*bad\.safetensors"):
        search_shards(QUERIES, [bad], 3)


def test_a_file_without_vectors_says_what_it_has(tmp_path):
    safetensors.numpy.save_file({"weights": CORPUS}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors has no tensor named vectors.*weights"):
        search_shards(QUERIES, [tmp_path / "a.safetensors"], 3)


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        (np.arange(99), ValueError),
        (np.arange(100.0), TypeError),
        (np.arange(-1, 99), ValueError),
        (np.arange(100)[:, None], ValueError),
        (np.r_[0:99, 5], ValueError),
    ],
    ids=["too few", "floats", "negative", "2-D", "repeated"],
)
def test_wrong_ids_of_a_shard_are_an_error(ids, error, tmp_path):
    shard = as_safetensors_with_ids(CORPUS[:100], ids, tmp_path / "bad")
    with pytest.raises(error, match="search_shards: "):
        search_shards(QUERIES, [shard], 3)


@pytest.mark.parametrize("twice", [5, 1999])
def test_an_id_in_two_shards_is_named(twice, tmp_path):
    index = as_index(CORPUS[:100], np.r_[3000:3099, twice], None)
    with pytest.raises(
        ValueError, match=f"search_shards: id {twice} is in the shards more than once"
    ):
        search_shards(QUERIES, [CORPUS, index], 3)
    with pytest.raises(ValueError, match="is in the shards more than once"):
        search_shards(QUERIES, [index, CORPUS, index], 3)


def test_an_id_removed_from_one_shard_may_be_in_another():
    index = as_index(CORPUS[:1000], np.arange(1000), None)
    index.remove(np.arange(100, 1000))
    other = as_index(CORPUS[100:300], np.arange(100, 300), None)
    found = search_shards(QUERIES, [index, other], 20)
    assert_same(found, reference.search(QUERIES, CORPUS[:300], 20))


def test_the_largest_id_leaves_no_number_for_the_next_shard():
    index = as_index(CORPUS[:10], np.r_[0:9, 2**63 - 1], None)
    ids = np.r_[0:9, 2**63 - 1]
    truth = reference.search(QUERIES, CORPUS[:10], 20, ids=ids)
    assert_same(search_shards(QUERIES, [index], 20), truth)
    with pytest.raises(ValueError, match="search_shards: "):
        search_shards(QUERIES, [index, CORPUS], 3)


@pytest.mark.parametrize("shards", ["a.npy", Path("a.npy"), CORPUS, FlatIndex(DIM), None, 3])
def test_what_is_no_list_of_shards_is_refused(shards):
    with pytest.raises(TypeError, match="search_shards: shards must be a list of shards, got"):
        search_shards(QUERIES, shards, 3)


@pytest.mark.parametrize("shard", [None, 3, b"a.npy", {"vectors": CORPUS}])
def test_what_is_no_shard_is_named(shard):
    with pytest.raises(TypeError, match=r"search_shards: shards\[1\] must be"):
        search_shards(QUERIES, [CORPUS, shard], 3)


def test_int8_shards_want_int8_queries():
    with pytest.raises((TypeError, ValueError), match="int8"):
        search_shards(QUERIES, [CORPUS, vectors(5, dtype="int8")], 3)


# ---- memory --------------------------------------------------------------------------------------


def test_searching_a_memory_map_does_not_change_it(tmp_path):
    """A private map holds what its owner wrote to it, and nobody else does."""
    np.save(tmp_path / "a.npy", CORPUS)
    private = np.load(tmp_path / "a.npy", mmap_mode="c")
    private[:] = -CORPUS
    truth = reference.search(QUERIES, -CORPUS, 20)
    for shard in (private, FlatIndex(DIM)):
        if isinstance(shard, FlatIndex):
            shard.add(private, copy=False)
        assert_same(search_shards(QUERIES, [shard], 20), truth)
        assert_same(search_shards(QUERIES, [shard], 20), truth)
    np.testing.assert_array_equal(private, -CORPUS)
    anonymous = mmap.mmap(-1, CORPUS.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(anonymous, np.float32).reshape(CORPUS.shape)
    array[:] = CORPUS
    search_shards(QUERIES, [array], 20)
    np.testing.assert_array_equal(array, CORPUS)


@pytest.mark.parametrize("limit", [0, -1, 1, 1 << 20])
def test_too_little_memory_says_how_much_is_needed(limit):
    with pytest.raises(ValueError, match="search_shards: memory_limit must be at least") as caught:
        search_shards(QUERIES, [CORPUS], 3, memory_limit=limit)
    needed = int(str(caught.value).split("at least ")[1].split()[0])
    expected = reference.search(QUERIES, CORPUS, 3)
    assert_same(search_shards(QUERIES, [CORPUS], 3, memory_limit=needed), expected)
    with pytest.raises(ValueError, match="memory_limit"):
        search_shards(QUERIES, [CORPUS], 3, memory_limit=needed - 1)


@pytest.mark.parametrize("limit", ["1G", None, [1 << 30]])
def test_a_limit_that_is_no_number_is_refused(limit):
    with pytest.raises(TypeError, match="search_shards: memory_limit"):
        search_shards(QUERIES, [CORPUS], 3, memory_limit=limit)


MEASURE = """
import json, sys, warnings
import numpy as np, tilefold

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

warnings.simplefilter("ignore")
a = json.loads(sys.argv[1])
queries = np.random.default_rng(1).standard_normal((a["n"], a["dim"])).astype(np.float32)
tilefold.search(queries[:20], queries[:20], 1, num_threads=a["threads"])
open("/proc/self/clear_refs", "w").write("5")  # forgets the peak so far
before = peak()
tilefold.search_shards(
    queries, a["shards"], a["k"], memory_limit=a["limit"], num_threads=a["threads"]
)
print(peak() - before)
"""


def write_corpus(folder: Path, kind: str, rows: int, dim: int) -> list[str]:
    """Two shards of `rows` documents together."""
    paths = []
    for number in range(2):
        documents = np.random.default_rng(number).standard_normal((rows // 2, dim), np.float32)
        ids = np.arange(number, rows, 2)  # interleaved
        path = folder / f"{kind}-{number}"
        if kind == "float64":
            paths.append(as_npy(documents.astype(np.float64), None, path))
        else:
            write = {"npy": as_npy, "ids": as_safetensors_with_ids, "index": as_saved_index}[kind]
            paths.append(write(documents, ids, path))
    return [str(path) for path in paths]


@needs_proc
@pytest.mark.parametrize(
    ("kind", "rows", "dim", "n", "k", "threads", "limit"),
    [
        ("npy", 400_000, 128, 4, 10, 2, 48),
        pytest.param("npy", 600_000, 256, 64, 100, 2, 128, marks=pytest.mark.slow),
        pytest.param("npy", 1_000_000, 64, 31, 1000, 2, 80, marks=pytest.mark.slow),
        pytest.param("npy", 1_000_000, 64, 128, 1000, 16, 64, marks=pytest.mark.slow),
        pytest.param("npy", 400_000, 64, 2048, 1000, 16, 64, marks=pytest.mark.slow),
        pytest.param("index", 400_000, 128, 4, 10, 2, 48, marks=pytest.mark.slow),
        pytest.param("index", 3_000_000, 8, 4, 10, 2, 48, marks=pytest.mark.slow),
        pytest.param("ids", 2_000_000, 16, 4, 10, 2, 40, marks=pytest.mark.slow),
        pytest.param("float64", 200_000, 128, 4, 10, 2, 48, marks=pytest.mark.slow),
    ],
)
def test_memory_stays_below_the_limit(kind, rows, dim, n, k, threads, limit, tmp_path):
    """The corpus has several times as many bytes as the limit; pages that are mapped count.

    Where the call says that it needs more than the limit, it gets hardly more than that.
    """
    try:
        shards = write_corpus(tmp_path, kind, rows, dim)
        case = {"shards": shards, "dim": dim, "n": n, "k": k, "threads": threads}
        queries = np.zeros((n, dim), np.float32)
        limit <<= 20
        try:
            search_shards(queries, [queries], k, memory_limit=limit, num_threads=threads)
        except ValueError as error:
            limit = 11 * int(str(error).split("at least ")[1].split()[0]) // 10
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, json.dumps(case | {"limit": limit})],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) <= limit
    finally:
        shutil.rmtree(tmp_path)


# ---- progress, interruption, checkpoints ---------------------------------------------------------


class Stop(Exception):  # noqa: N818 - no error, a wish
    """Ends a search from its progress callback."""


def stop_beyond(rows: int):
    """A progress callback that lets a search fold `rows` documents, and then ends it."""

    def report(done, total):
        if done > rows:
            raise Stop

    return report


def interrupted(shards, rows: int, checkpoint: Path, k: int = 20, **options) -> None:
    with pytest.raises(Stop):
        search_shards(
            QUERIES, shards, k, checkpoint=checkpoint, progress=stop_beyond(rows), **options
        )


def sizes(parts: int) -> list[int]:
    return [len(part) for part in split(CORPUS, parts)]


@pytest.mark.parametrize("kind", [as_npy, as_saved_index])
def test_progress_rises_to_the_end(kind, tmp_path):
    reports = []
    shards = make([kind], CORPUS, 7, tmp_path)
    search_shards(QUERIES, shards, 3, progress=lambda *report: reports.append(report))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert {total for _, total in reports} == {2000}
    assert reports[-1] == (2000, 2000)


@pytest.mark.parametrize("kind", NUMBERED + NAMED)
@pytest.mark.parametrize("finished", [1, 3, 6])
def test_a_resumed_search_gives_the_same_bytes(kind, finished, tmp_path):
    shards, rows = make([kind], CORPUS, 7, tmp_path), sizes(7)
    checkpoint = tmp_path / "checkpoint"
    interrupted(shards, sum(rows[:finished]), checkpoint)
    assert checkpoint.exists()
    reports = []
    found = search_shards(
        QUERIES, shards, 20, checkpoint=checkpoint, progress=lambda *r: reports.append(r)
    )
    assert_same(found, reference.search(QUERIES, CORPUS, 20))
    assert not checkpoint.exists()
    assert min(done for done, _ in reports) > sum(rows[:finished])
    assert reports[-1] == (2000, 2000)


def test_a_search_interrupted_again_and_again_ends(tmp_path):
    shards, rows = make([as_npy], CORPUS, 7, tmp_path), sizes(7)
    checkpoint = tmp_path / "checkpoint"
    for finished in range(1, 7):
        interrupted(shards, sum(rows[:finished]), checkpoint)
    found = search_shards(QUERIES, shards, 20, checkpoint=str(checkpoint))
    assert_same(found, reference.search(QUERIES, CORPUS, 20))


def test_finished_shards_are_not_searched_again(tmp_path, monkeypatch):
    shards, rows = make([as_npy], CORPUS, 4, tmp_path), sizes(4)
    interrupted(shards, sum(rows[:2]), tmp_path / "checkpoint")
    searched = []
    native = tilefold._native.search

    def spy(queries, documents, *args, **options):
        searched.append(len(documents))
        return native(queries, documents, *args, **options)

    monkeypatch.setattr(tilefold._native, "search", spy)
    search_shards(QUERIES, shards, 20, checkpoint=tmp_path / "checkpoint")
    assert searched == rows[2:]


def test_a_finished_search_leaves_no_file(tmp_path):
    search_shards(QUERIES, split(CORPUS, 7), 20, checkpoint=tmp_path / "checkpoint")
    assert [*tmp_path.iterdir()] == []


OTHER = {
    "queries": {"queries": QUERIES + 1},
    "fewer queries": {"queries": QUERIES[:3]},
    "the bits of bfloat16": {"queries": QUERIES.astype("f2").view(ml_dtypes.bfloat16)},
    "k": {"k": 21},
    "allowed": {"allowed": np.arange(100)},
    "exclude": {"exclude": [[1]] * 6},
    "min_score": {"min_score": -100},
    "max_score": {"max_score": 100},
    "nonfinite": {"nonfinite": "exclude"},
    "order": {"shards": slice(None, None, -1)},
    "fewer shards": {"shards": slice(6)},
}


@pytest.mark.parametrize("other", OTHER)
def test_a_checkpoint_of_another_search_is_refused(other, tmp_path):
    shards, checkpoint = make([as_npy], CORPUS, 7, tmp_path), tmp_path / "checkpoint"
    first = {"queries": QUERIES, "k": 20}
    if other == "the bits of bfloat16":
        first["queries"] = QUERIES.astype("f2")
    with pytest.raises(Stop):
        search_shards(
            shards=shards, checkpoint=checkpoint, progress=stop_beyond(sum(sizes(7)[:3])), **first
        )
    before = checkpoint.read_bytes()
    change = dict(OTHER[other])
    chosen = shards[change.pop("shards", slice(None))]
    with pytest.raises(ValueError, match=f"search_shards: {checkpoint} belongs to another search"):
        search_shards(shards=chosen, checkpoint=checkpoint, **(first | change))
    assert checkpoint.read_bytes() == before
    found = search_shards(shards=shards, checkpoint=checkpoint, **first)
    assert_same(found, reference.search(first["queries"], CORPUS, 20))


@pytest.mark.parametrize("kind", [as_array, as_npy, as_safetensors, as_index, as_saved_index])
def test_a_checkpoint_of_shards_with_other_contents_is_refused(kind, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    interrupted(make([kind], CORPUS, 7, tmp_path), sum(sizes(7)[:3]), checkpoint)
    shards = make([kind], -CORPUS, 7, tmp_path)
    with pytest.raises(ValueError, match="belongs to another search"):
        search_shards(QUERIES, shards, 20, checkpoint=checkpoint)


@pytest.mark.parametrize("content", [b"", b"short", b"this is no checkpoint at all, or is it?"])
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(content, tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)):
        search_shards(QUERIES, [CORPUS], 3, checkpoint=path)
    assert path.read_bytes() == content


def test_somebody_elses_tensors_are_no_checkpoint(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file({"vectors": CORPUS}, path)
    with pytest.raises(ValueError, match="belongs to another search"):
        search_shards(QUERIES, [CORPUS], 3, checkpoint=path)
    assert path.exists()


def test_a_truncated_checkpoint_is_named(tmp_path):
    shards, checkpoint = split(CORPUS, 7), tmp_path / "checkpoint"
    interrupted(shards, sum(sizes(7)[:3]), checkpoint)
    os.truncate(checkpoint, checkpoint.stat().st_size - 1)
    with pytest.raises(ValueError, match=str(checkpoint)):
        search_shards(QUERIES, shards, 20, checkpoint=checkpoint)


def test_a_checkpoint_that_cannot_be_written_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="absent"):
        search_shards(QUERIES, [CORPUS], 3, checkpoint=tmp_path / "absent" / "checkpoint")
    with pytest.raises(OSError, match=str(tmp_path)):
        search_shards(QUERIES, [CORPUS], 3, checkpoint=tmp_path)


def test_a_checkpoint_is_refused_after_a_finished_index_has_lost_a_document(tmp_path):
    indexes = [tilefold.FlatIndex(DIM), tilefold.FlatIndex(DIM)]
    for index, part in zip(indexes, [slice(0, 200), slice(200, 300)], strict=True):
        index.add(CORPUS[part], ids=np.arange(300)[part])
    interrupted(indexes, 200, tmp_path / "checkpoint")
    best = int(tilefold.search(QUERIES[:1], CORPUS[:200], 1).ids[0, 0])
    indexes[0].remove([best])
    with pytest.raises(ValueError, match="belongs to another search"):
        search_shards(QUERIES, indexes, 20, checkpoint=tmp_path / "checkpoint")


@pytest.mark.parametrize("kind", [as_array, as_npy, as_safetensors_with_ids, as_saved_index])
def test_one_number_of_a_finished_shard_makes_another_search(kind, tmp_path):
    """Far from the rows that a sample would meet, and with the size and time of the file kept."""
    checkpoint = tmp_path / "checkpoint"
    interrupted(make([kind], CORPUS, 2, tmp_path), sizes(2)[0], checkpoint)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    changed = CORPUS.copy()
    changed[1, 3] += 1
    shards = make([kind], changed, 2, tmp_path)
    for path, changed_at in times.items():
        if path.exists():
            os.utime(path, ns=(changed_at, changed_at))
    with pytest.raises(ValueError, match="belongs to another search"):
        search_shards(QUERIES, shards, 20, checkpoint=checkpoint)


def test_a_shard_that_is_not_finished_may_change(tmp_path):
    shards, checkpoint = [part.copy() for part in split(CORPUS, 2)], tmp_path / "checkpoint"
    interrupted(shards, sizes(2)[0], checkpoint)
    shards[1] *= -1
    found = search_shards(QUERIES, shards, 20, checkpoint=checkpoint)
    assert_same(found, reference.search(QUERIES, np.concatenate(shards), 20))


def test_a_search_goes_on_with_another_memory_limit(tmp_path, monkeypatch):
    """Digests do not depend on chunks."""
    documents = vectors(5000)
    shards, checkpoint = split(documents, 2), tmp_path / "checkpoint"
    interrupted(shards, len(shards[0]), checkpoint)
    monkeypatch.setattr(shard_search, "chunk_rows", lambda *arguments: 1024)
    found = search_shards(QUERIES, shards, 20, checkpoint=checkpoint)
    assert_same(found, reference.search(QUERIES, documents, 20))


@pytest.mark.parametrize("name", ["scores", "ids", "done", "key", "contents"])
def test_a_flipped_bit_of_a_checkpoint_is_refused(name, tmp_path):
    shards, checkpoint = split(CORPUS, 7), tmp_path / "checkpoint"
    interrupted(shards, sum(sizes(7)[:3]), checkpoint)
    tensors = safetensors.numpy.load_file(checkpoint)
    tensors[name].view(np.uint8).reshape(-1)[0] ^= 1
    safetensors.numpy.save_file(tensors, checkpoint)
    with pytest.raises(ValueError, match=f"{checkpoint} does not match its checksum"):
        search_shards(QUERIES, shards, 20, checkpoint=checkpoint)


@pytest.mark.parametrize("done", [-1, 8])
def test_a_checkpoint_with_an_impossible_number_of_shards_is_refused(done, tmp_path):
    """One whose checksum is right."""
    shards, checkpoint = split(CORPUS, 7), tmp_path / "checkpoint"
    interrupted(shards, sum(sizes(7)[:3]), checkpoint)
    tensors = read_checked(checkpoint)
    write_checked(checkpoint, tensors | {"done": np.array([done])})
    with pytest.raises(ValueError, match=f"has {done} finished parts, expected 0 to 7"):
        search_shards(QUERIES, shards, 20, checkpoint=checkpoint)


def test_a_second_search_on_a_checkpoint_is_refused_by_name(tmp_path):
    shards, checkpoint = split(CORPUS, 7), tmp_path / "checkpoint"
    refused = []

    def search_again(done, total):
        if not refused:
            with pytest.raises(ValueError, match=f"another search is using {checkpoint}") as error:
                search_shards(QUERIES, shards, 20, checkpoint=checkpoint)
            refused.append(error)

    found = search_shards(QUERIES, shards, 20, checkpoint=checkpoint, progress=search_again)
    assert refused
    assert_same(found, reference.search(QUERIES, CORPUS, 20))
    assert [*tmp_path.iterdir()] == []


def test_a_blocking_error_of_the_callers_stays_what_it_is(tmp_path):
    def blocked(done, total):
        raise BlockingIOError("mine")

    with pytest.raises(BlockingIOError, match="mine"):
        search_shards(QUERIES, [CORPUS], 3, checkpoint=tmp_path / "file", progress=blocked)


def test_a_checkpoint_and_a_certificate_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="gives no certificate"):
        search_shards(
            QUERIES, [CORPUS], 3, checkpoint=tmp_path / "checkpoint", return_certificate=True
        )


def fresh_python(code: str, *arguments, **options) -> subprocess.Popen:
    """A fresh interpreter; SIGINT is Ctrl-C there, even where the parent ignores it."""
    lines = code.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    head = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = "\n".join([head, *(line[indent:] for line in lines)])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("moment", ["before", "halfway", "after"])
def test_a_search_killed_while_it_writes_its_checkpoint_can_be_resumed(moment, tmp_path):
    """The third time that a checkpoint is written."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    shards = [str(shard) for shard in make([as_npy], CORPUS, 7, tmp_path)]
    np.save(tmp_path / "queries.npy", QUERIES)
    code = """
        import os, sys, numpy as np, tilefold
        replace, calls = os.replace, []
        def killing(source, target):
            calls.append(source)
            if len(calls) < 3:
                return replace(source, target)
            if sys.argv[1] == "halfway":
                os.truncate(source, os.stat(source).st_size // 2)
            if sys.argv[1] == "after":
                replace(source, target)
            os.kill(os.getpid(), 9)
        os.replace = killing
        tilefold.search_shards(np.load(sys.argv[2]), sys.argv[4:], 20, checkpoint=sys.argv[3])
    """
    checkpoint = folder / "checkpoint"
    child = fresh_python(code, moment, tmp_path / "queries.npy", checkpoint, *shards)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    reports = []
    found = search_shards(
        QUERIES, shards, 20, checkpoint=checkpoint, progress=lambda *r: reports.append(r[0])
    )
    assert_same(found, reference.search(QUERIES, CORPUS, 20))
    assert min(reports) > sum(sizes(7)[: 3 if moment == "after" else 2])
    assert [*folder.iterdir()] == []


def test_a_search_killed_at_any_moment_can_be_resumed(tmp_path):
    documents = vectors(6000, seed=3)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    shards = []
    for number, part in enumerate(np.array_split(documents, 300)):
        shards.append(as_npy(part, None, tmp_path / f"{number:03}"))
    queries = vectors(300, seed=4)
    np.save(tmp_path / "queries.npy", queries)
    code = """
        import sys, numpy as np, tilefold
        queries = np.load(sys.argv[1])
        print("ready", flush=True)
        tilefold.search_shards(queries, sys.argv[3:], 100, checkpoint=sys.argv[2])
    """
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(5):
        child = fresh_python(code, tmp_path / "queries.npy", folder / "checkpoint", *shards)
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.05, 0.4))
        killed += child.poll() is None
        child.kill()
        child.communicate()
    assert killed
    found = search_shards(queries, [*map(str, shards)], 100, checkpoint=folder / "checkpoint")
    assert_same(found, reference.search(queries, documents, 100))
    assert [*folder.iterdir()] == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("what", ["shards", "checkpoint", "index", "array", "add"])
def test_ctrl_c_stops_within_a_second(what, tmp_path):
    code = """
        import sys, time, numpy as np, tilefold
        documents = np.random.default_rng(0).standard_normal((100_000, 128), dtype=np.float32)
        many = np.broadcast_to(documents[:1], (5_000_000, 128))
        queries = documents[:256]
        index = tilefold.FlatIndex(128)
        if sys.argv[1] == "index":
            index.add(documents)
        call = {
            "shards": lambda: tilefold.search_shards(queries, [documents] * 500, 100),
            "checkpoint": lambda: tilefold.search_shards(
                queries, [documents] * 500, 100, checkpoint=sys.argv[2]
            ),
            "index": lambda: [index.search(np.tile(queries, (500, 1)), 100)],
            "array": lambda: tilefold.search(queries, many, 100),
            "add": lambda: index.add(many, copy=False),
        }[sys.argv[1]]
        print("ready", flush=True)
        try:
            call()
            print("never interrupted")
        except KeyboardInterrupt:
            print(time.time())
    """
    child = fresh_python(code, what, tmp_path / "checkpoint")
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.7)
        assert child.poll() is None
        sent = time.time()
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=30)[0]
    finally:
        child.kill()
        child.communicate()
    assert float(said) - sent < 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes")
def test_a_pipe_is_no_checkpoint_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code = """
        import sys, numpy as np, tilefold
        try:
            tilefold.search_shards(np.eye(2), [np.eye(2)], 1, checkpoint=sys.argv[1])
        except ValueError as error:
            print(error)
    """
    child = fresh_python(code, tmp_path / "pipe")
    try:
        said = child.communicate(timeout=30)[0]
    finally:
        child.kill()
        child.communicate()
    assert "expected a regular file, got a device or a pipe" in said
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_a_link_to_a_checkpoint_is_followed_and_stays(tmp_path):
    there, link = tmp_path / "there", tmp_path / "link"
    link.symlink_to(there)
    shards = split(CORPUS, 4)
    interrupted(shards, sum(sizes(4)[:2]), link)
    assert there.is_file()
    assert_same(
        search_shards(QUERIES, shards, 20, checkpoint=link), reference.search(QUERIES, CORPUS, 20)
    )
    assert link.is_symlink()
    assert not there.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scores", np.zeros((6, 19), np.float32)),
        ("ids", np.zeros((6, 20), np.int32)),
        ("ids", np.full((6, 20), -2)),
        ("scores", np.full((6, 20), np.nan, np.float32)),
        ("done", np.zeros((0,), np.int64)),
        ("more", np.zeros(3)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}{list(value.shape)}",
)
def test_answers_of_a_checkpoint_that_no_search_has_are_refused(name, value, tmp_path):
    """Their checksum is right."""
    shards, checkpoint = split(CORPUS, 7), tmp_path / "checkpoint"
    interrupted(shards, sum(sizes(7)[:3]), checkpoint)
    write_checked(checkpoint, read_checked(checkpoint) | {name: value})
    with pytest.raises(ValueError, match=f"search_shards: {checkpoint} "):
        search_shards(QUERIES, shards, 20, checkpoint=checkpoint)


def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_else(tmp_path, monkeypatch):
    shards, checkpoint = make([as_npy], CORPUS, 4, tmp_path), tmp_path / "x" / "checkpoint"
    checkpoint.parent.mkdir()
    interrupted(shards, sum(sizes(4)[:1]), checkpoint)
    before = checkpoint.read_bytes()

    def full(path, tensors, bfloat16=frozenset()):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tilefold.files.done_once.write_tensors", full)
        with pytest.raises(OSError, match="No space left"):
            search_shards(QUERIES, shards, 20, checkpoint=checkpoint)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]
    assert checkpoint.read_bytes() == before
    found = search_shards(QUERIES, shards, 20, checkpoint=checkpoint)
    assert_same(found, reference.search(QUERIES, CORPUS, 20))


# ---- verification --------------------------------------------------------------------------------


def test_verified_shards_give_the_bytes_of_one_search(tmp_path):
    shards = make([as_saved_index, as_index, as_array], CORPUS, 3, tmp_path)
    found = search_shards(QUERIES, shards, 20, verify=True)
    assert_same(found, reference.search(QUERIES, CORPUS, 20))


def test_a_flipped_bit_of_a_saved_index_is_noticed_with_verification_alone(tmp_path):
    shards = make([as_saved_index], CORPUS, 2, tmp_path)
    path = next(shards[1].glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    search_shards(QUERIES, shards, 20)
    with pytest.raises(ValueError, match=f"load: {path} does not match its checksum"):
        search_shards(QUERIES, shards, 20, verify=True)


@pytest.mark.parametrize("kind", [as_npy, as_safetensors])
def test_shards_without_checksums_cannot_be_verified(kind, tmp_path):
    (shard,) = make([kind], CORPUS, 1, tmp_path)
    with pytest.raises(ValueError, match=f"{shard} carries no checksum"):
        search_shards(QUERIES, [shard], 20, verify=True)


def test_several_processes_on_one_checkpoint_answer_right_or_are_refused_by_name(tmp_path):
    """Staging files of one were removed by another before."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    shards = make([as_npy], CORPUS, 7, tmp_path)
    np.save(tmp_path / "queries.npy", QUERIES)
    code = """
        import sys, numpy as np, tilefold
        queries = np.load(sys.argv[1])
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(15):
            try:
                found = tilefold.search_shards(queries, sys.argv[3:], 20, checkpoint=sys.argv[2])
                print((found.scores.tobytes() + found.ids.tobytes()).hex())
            except Exception as error:
                print(f"{type(error).__name__}: {error}")
    """
    arguments = tmp_path / "queries.npy", folder / "checkpoint", *shards
    children = [fresh_python(code, *arguments, stdin=subprocess.PIPE) for _ in range(3)]
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [line for child in children for line in child.communicate(timeout=60)[0].split("\n")]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    scores, ids = reference.search(QUERIES, CORPUS, 20)
    right = (scores.tobytes() + ids.tobytes()).hex()
    refused = f"ValueError: search_shards: another search is using {folder / 'checkpoint'}; wait"
    others = [line for line in said if line and line != right and not line.startswith(refused)]
    assert not others
    assert right in said
    assert [*folder.iterdir()] == []
