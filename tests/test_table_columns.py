"""Columns of tables are searched like the arrays that they hold, or refused with a conversion."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilefold

pd: Any = pytest.importorskip("pandas", reason="not installed: pip install pandas")
pa: Any = pytest.importorskip("pyarrow", reason="not installed: pip install pyarrow")
pl: Any = pytest.importorskip("polars", reason="not installed: pip install polars")
h5py: Any = pytest.importorskip("h5py", reason="not installed: pip install h5py")
datasets: Any = pytest.importorskip("datasets", reason="not installed: pip install datasets")

X = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
QUERIES = X[:4] + np.float32(0.1)
IDS = np.random.default_rng(1).permutation(500)[:50]


def fixed_size(x: np.ndarray = X) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])


def h5_data_set(x: np.ndarray = X) -> Any:
    """In memory."""
    file = h5py.File("vectors.h5", "w", driver="core", backing_store=False)
    return file.create_dataset("vectors", data=x)


def dataset(x: np.ndarray = X) -> Any:
    features = datasets.Features({"vector": datasets.List(datasets.Value("float32"))})
    return datasets.Dataset.from_dict({"vector": list(x)}, features=features)


COLUMNS: dict[str, Callable[[], Any]] = {
    "list of arrays": lambda: list(X),
    "list of lists": lambda: X.tolist(),
    "pandas Series of arrays": lambda: pd.Series(list(X)),
    "pandas Series of lists": lambda: pd.Series(X.tolist(), index=IDS),
    "pandas Series of pyarrow": lambda: pd.Series(
        fixed_size(), dtype=pd.ArrowDtype(fixed_size().type)
    ),
    "pandas DataFrame": lambda: pd.DataFrame(X, columns=list("abcdef")),
    "pandas DataFrame of nullable numbers": lambda: pd.DataFrame(X).astype("Float32"),
    "polars Series of arrays": lambda: pl.Series(X),
    "polars Series of lists": lambda: pl.Series(X.tolist(), dtype=pl.List(pl.Float32)),
    "polars DataFrame": lambda: pl.DataFrame(X),
    "pyarrow FixedSizeListArray": fixed_size,
    "pyarrow FixedSizeListArray, sliced": lambda: fixed_size(np.tile(X, (3, 1)))[50:100],
    "pyarrow ListArray": lambda: pa.array(list(X)),
    "pyarrow ListArray, sliced": lambda: pa.array(list(np.tile(X, (2, 1))))[50:],
    "pyarrow LargeListArray": lambda: pa.array(list(X), type=pa.large_list(pa.float32())),
    "pyarrow ChunkedArray": lambda: pa.chunked_array([fixed_size(X[:7]), fixed_size(X[7:])]),
    "pyarrow tensors": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(X),
    "datasets column": lambda: dataset()["vector"],
    "datasets column, selected": lambda: dataset(np.tile(X, (2, 1))).select(range(50, 100))[
        "vector"
    ],
    "datasets column, torch": lambda: dataset().with_format("torch")["vector"],
    "datasets column, streamed": lambda: dataset().to_iterable_dataset()["vector"],
    "datasets column, transformed": lambda: dataset().with_transform(lambda rows: rows)["vector"],
    "h5py data set": h5_data_set,
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_vectors_are_searched(kind):
    column = COLUMNS[kind]()
    expected = tilefold.search(QUERIES, X, 5)
    found = tilefold.search(QUERIES, column, 5)
    assert (found.ids == expected.ids).all()
    assert found.scores.tobytes() == expected.scores.tobytes()
    index = tilefold.FlatIndex(6)
    index.add(column)
    assert index.reconstruct(np.arange(50)).tobytes() == X.tobytes()
    streamed = tilefold.search_shards(QUERIES, [column, X[:5]], 5)
    assert streamed.scores.shape == (4, 5)


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_queries_have_an_answer_each(kind):
    found = tilefold.search(COLUMNS[kind](), X, 3)
    assert (found.ids == tilefold.search(X, X, 3).ids).all()


IDS_OF_ALL_KINDS: dict[str, Callable[[], Any]] = {
    "list": lambda: IDS.tolist(),
    "pandas Index": lambda: pd.Index(IDS),
    "pandas Series": lambda: pd.Series(IDS),
    "pandas nullable Series": lambda: pd.Series(IDS, dtype="Int64"),
    "polars Series": lambda: pl.Series(IDS),
    "pyarrow Array": lambda: pa.array(IDS),
    "pyarrow ChunkedArray": lambda: pa.chunked_array([IDS[:3], IDS[3:]]),
    "h5py data set": lambda: h5_data_set(IDS),
    "datasets column": lambda: datasets.Dataset.from_dict({"id": IDS})["id"],
}


@pytest.mark.parametrize("kind", IDS_OF_ALL_KINDS)
def test_columns_of_numbers_are_ids(kind):
    ids = IDS_OF_ALL_KINDS[kind]()
    index = tilefold.FlatIndex(6)
    index.add(X, ids=ids)
    assert (index.ids == IDS).all()
    expected = index.search(QUERIES, 3)
    assert (index.search(QUERIES, 3, allowed=ids).ids == expected.ids).all()
    assert index.reconstruct(ids).shape == X.shape
    index.remove(ids)
    assert len(index) == 0


def test_a_range_index_of_pandas_is_ids():
    index = tilefold.FlatIndex(6)
    index.add(X, ids=pd.DataFrame(X).index)
    assert index.ids.tolist() == list(range(50))


FIRST = tilefold.search(QUERIES, X, 3).ids  # of each query
EXCLUSIONS: dict[str, Callable[[], Any]] = {
    "lists": lambda: FIRST.tolist(),
    "array": lambda: FIRST,
    "array, padded": lambda: np.concatenate([FIRST, np.full((4, 2), -1)], 1),
    "int32 array": lambda: FIRST.astype(np.int32),
    "DataFrame": lambda: pd.DataFrame(FIRST),
    "pandas Series of lists": lambda: pd.Series(FIRST.tolist()),
    "polars Series of lists": lambda: pl.Series(FIRST.tolist()),
    "pyarrow lists": lambda: pa.array(FIRST.tolist()),
    "offsets and ids": lambda: (np.arange(5) * 3, FIRST.ravel()),
}


@pytest.mark.parametrize("kind", EXCLUSIONS)
def test_excluded_ids_come_as_lists_tables_or_columns(kind):
    found = tilefold.search(QUERIES, X, 2, exclude=EXCLUSIONS[kind]())
    assert (found.ids == tilefold.search(QUERIES, X, 5).ids[:, 3:]).all()


def test_answers_of_a_search_are_excluded_from_the_next_with_their_padding():
    few = tilefold.search(QUERIES, X[:2], 4)
    assert (few.ids[:, 2:] == -1).all()
    rest = tilefold.search(QUERIES, X, 3, exclude=few.ids)
    assert not np.isin(rest.ids, [0, 1]).any()
    torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[torch]")
    again = tilefold.search(QUERIES, X, 3, exclude=torch.from_numpy(few.ids))
    assert (again.ids == rest.ids).all()


@pytest.mark.parametrize(
    ("exclude", "error", "message"),
    [
        (FIRST[:3], ValueError, "exclude must have a row per query, 4, got 3"),
        (FIRST.astype(np.float32), TypeError, "exclude must be integers, got float32"),
        (np.full((4, 1), -2), ValueError, "exclude must not be negative, got -2"),
        (np.arange(4), TypeError, r"exclude\[0\] must be an array or a list of ids, got int"),
        ({"a": [1]}, ValueError, "exclude must be a list of 4 id lists"),
    ],
)
def test_exclusions_that_do_not_fit_are_refused(exclude, error, message):
    with pytest.raises(error, match=f"^search: {message}"):
        tilefold.search(QUERIES, X, 2, exclude=exclude)


def test_shards_may_come_from_a_generator(tmp_path):
    expected = tilefold.search(QUERIES, X, 5)
    parts = np.split(X, [10, 30])
    for number, part in enumerate(parts):
        np.save(tmp_path / f"{number}.npy", part)
    for shards in ((part for part in parts), iter(sorted(tmp_path.glob("*.npy")))):
        found = tilefold.search_shards(QUERIES, shards, 5)
        assert found.ids.tobytes() == expected.ids.tobytes()


HOLE = pa.array([[1.0, 2.0], None, [3.0, 4.0]], type=pa.list_(pa.float32(), 2))
REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "table of pyarrow": (lambda: pa.table({"a": [1], "b": [2]}), TypeError, "columns, a, b"),
    "dataset": (dataset, TypeError, "is a Dataset; pass a column of it: vector"),
    "lazy frame": (lambda: pl.LazyFrame(X), TypeError, r"documents\.collect\(\)"),
    "mixed DataFrame": (
        lambda: pd.DataFrame({"id": ["a"], "x": [1.0]}),
        TypeError,
        "pass the column of vectors",
    ),
    "DataFrame with its vectors": (
        lambda: pd.DataFrame({"id": [1], "x": [X[0]]}),
        TypeError,
        "pass the column of vectors",
    ),
    "group of h5py": (lambda: h5_data_set().file, TypeError, "pass a data set of it: vectors"),
    "missing row, pyarrow": (lambda: HOLE, ValueError, "no value in row 1; leave such rows out"),
    "missing row, chunks": (lambda: pa.chunked_array([HOLE]), ValueError, "no value in row 1"),
    "missing row, pandas": (lambda: pd.Series([X[0], None]), ValueError, "no value in row 1"),
    "missing row, polars": (lambda: pl.Series([[1.0], None]), ValueError, "no value in row 1"),
    "missing number": (lambda: pa.array([[1.0, None]]), ValueError, "no value in row 0"),
    "missing number, pandas": (
        lambda: pd.DataFrame(X).astype("Float32").mask(X > 2),
        ValueError,
        "no value in row",
    ),
    "ragged, pandas": (
        lambda: pd.Series([[1.0], [1.0, 2.0]]),
        ValueError,
        r"rows of one length, got \(1,\) in row 0 and \(2,\) in row 1",
    ),
    "ragged, pyarrow": (
        lambda: pa.array([[1.0], [1.0, 2.0]]),
        ValueError,
        "rows of one length, got 1 in row 0 and 2 in row 1",
    ),
    "texts": (lambda: ["a text", "another"], TypeError, "encode texts to vectors first"),
    "column of texts": (lambda: pd.Series(["a", "b"]), TypeError, "must be float32"),
    "generator": (lambda: (row for row in X), TypeError, r"np\.stack\(list\(documents\)\)"),
    "sparse": (lambda: Sparse(), TypeError, r"pass documents\.toarray\(\)"),
    "path": (lambda: "vectors.npy", TypeError, "encode texts and load files first"),
}


class Sparse:
    """As matrices of scipy are, which NumPy does not convert."""

    def toarray(self) -> Any:
        return X


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_taken_names_operation_and_conversion(kind):
    make, error, message = REFUSED[kind]
    with pytest.raises(error, match=f"^search: documents .*{message}"):
        tilefold.search(QUERIES, make(), 2)


@pytest.mark.parametrize("ids", [["a", "b"], np.array(["a", "b"]), pd.Index(["a", "b"])])
def test_names_as_ids_of_an_array_are_answered_with_the_way(ids):
    with pytest.raises(TypeError, match=r"allowed must be integers, .*keep the strings in a list"):
        tilefold.search(QUERIES, X, 2, allowed=ids)


def test_an_empty_array_of_names_is_no_array_of_ids():
    with pytest.raises(TypeError, match=r"exclude must be integers, got <U1$"):
        tilefold.search(QUERIES, X, 2, exclude=(np.zeros(len(QUERIES) + 1, int), np.empty(0, "U1")))


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({"space": "cosine"}, "(metric selects the score|the metric is that of FlatIndex)"),
        ({"top_k": 3}, "the number of answers is k"),
        ({"n_jobs": 2}, "the number of threads is num_threads"),
    ],
)
def test_names_of_other_libraries_are_answered_with_the_way(options, way):
    index = tilefold.FlatIndex(6)
    index.add(X)
    name = next(iter(options))
    for op, call in {
        "search": lambda **o: tilefold.search(QUERIES, X, **o),
        "FlatIndex.search": lambda **o: index.search(QUERIES, **o),
        "search_shards": lambda **o: tilefold.search_shards(QUERIES, [X], **o),
    }.items():
        with pytest.raises(TypeError, match=f"^{op}: there is no argument {name}; {way}"):
            call(**options)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        tilefold.search(QUERIES, X, 2, nonsense=1)


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({"threshold": 3}, "the least score is min_score"),
        ({"metric": "l2"}, "the metric is that of FlatIndex"),
    ],
)
def test_range_searches_answer_names_of_other_libraries(options, way):
    index = tilefold.FlatIndex(6)
    index.add(X)
    name = next(iter(options))
    for op, call in {
        "range_search": lambda **o: tilefold.range_search(QUERIES, X, **o),
        "FlatIndex.range_search": lambda **o: index.range_search(QUERIES, **o),
        "range_search_shards": lambda **o: tilefold.range_search_shards(QUERIES, [X], **o),
    }.items():
        with pytest.raises(TypeError, match=f"^{op}: there is no argument {name}; {way}"):
            call(**options)


def test_no_function_names_an_argument_that_it_does_not_have():
    for call in (
        lambda: tilefold.search(QUERIES, X, 2, M=16),
        lambda: tilefold.search(QUERIES, X, 2, ef=16),
        lambda: tilefold.range_search(QUERIES, X, 0.5, top_k=3),
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            call()


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({"d": 6}, "the dimensions of vectors are dim"),
        ({"dim": 6, "space": "cosine"}, "metric selects the score"),
        ({"dim": 6, "normalize": True}, "metric selects the score"),
    ],
)
def test_the_index_answers_names_of_other_libraries(options, way):
    with pytest.raises(TypeError, match=f"^FlatIndex: there is no argument .*; {way}"):
        tilefold.FlatIndex(**options)


def test_vectors_of_another_kind_say_how_to_convert_them():
    with pytest.raises(TypeError, match=r"got int64; convert them: np\.asarray\(queries, "):
        tilefold.search([[1, 2]], [[1.0, 2.0]], 1)
    rows = np.empty(2, object)
    rows[:] = [np.float32([1, 2]), np.float32([3, 4])]
    with pytest.raises(TypeError, match=r"got object; stack them: np\.stack\(documents\)"):
        tilefold.search(np.float32([[1, 2]]), rows, 1)
    index = tilefold.FlatIndex(2)
    with pytest.raises(TypeError, match=r"ids must be integers, got object; they must be below"):
        index.add(np.float32([[1, 2]]), ids=[2**70])


def test_the_graph_index_answers_names_of_other_libraries():
    pytest.importorskip("hnswlib", reason="not installed: pip install tilefold[hnsw]")
    for options, way in (
        ({"space": "cosine"}, "metric selects the score"),
        ({"M": 16}, "links per document are m"),
        ({"max_elements": 5}, "an index grows"),
    ):
        with pytest.raises(TypeError, match=f"^HnswIndex: .*{way}"):
            tilefold.HnswIndex(6, **options)
    with pytest.raises(TypeError, match=r"^HnswIndex\.search: .*candidates .* are ef_search"):
        tilefold.HnswIndex(6).search(QUERIES, 2, ef=9)
    with pytest.raises(TypeError, match="unexpected keyword argument 'top_k'"):
        tilefold.HnswIndex(6, top_k=3)


def test_an_empty_index_answers_with_padding_and_a_warning():
    index = tilefold.FlatIndex(6)
    with pytest.warns(UserWarning, match=r"FlatIndex\.search: the index is empty") as caught:
        found = index.search(QUERIES, 3)
    assert caught[0].filename == __file__
    assert (found.ids == -1).all()
    assert np.isneginf(found.scores).all()
    index.add(X)
    index.remove(np.arange(50))
    with pytest.warns(UserWarning, match="the index is empty"):
        index.search(QUERIES, 3)


def test_an_empty_graph_index_warns():
    pytest.importorskip("hnswlib", reason="not installed: pip install tilefold[hnsw]")
    with pytest.warns(UserWarning, match=r"HnswIndex\.search: the index is empty") as caught:
        found = tilefold.HnswIndex(6).search(QUERIES, 3)
    assert caught[0].filename == __file__
    assert (found.ids == -1).all()


def test_a_tensor_without_values_is_named():
    torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[torch]")
    with pytest.raises(ValueError, match=r"got meta.*a shape but no values"):
        tilefold.search(QUERIES, torch.empty(3, 6, device="meta"), 2)
    from tilefold.losses import contrastive_loss

    with pytest.raises(ValueError, match=r"contrastive_loss: queries .*got meta.*no values"):
        contrastive_loss(torch.empty(3, 6, device="meta"), torch.zeros(3, 6), [0, 1, 2])
    with pytest.raises(TypeError, match=r"got DataFrame; torch\.as_tensor converts arrays"):
        contrastive_loss(pd.DataFrame(X), torch.zeros(3, 6), [0, 1, 2])


def test_a_list_of_tensors_is_a_matrix():
    torch = pytest.importorskip("torch", reason="not installed: pip install tilefold[torch]")
    rows = [torch.from_numpy(row).requires_grad_() for row in X]
    assert (tilefold.search(QUERIES, rows, 3).ids == tilefold.search(QUERIES, X, 3).ids).all()
    halves = [row.detach().bfloat16() for row in rows]
    whole = torch.stack(halves)
    assert (tilefold.search(QUERIES, halves, 3).ids == tilefold.search(QUERIES, whole, 3).ids).all()
