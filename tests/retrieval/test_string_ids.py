"""Ids that are strings: the same answers as with integers, under the names that callers gave."""

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import gaussian

import tilefold
from tilefold import FlatIndex
from tilefold.retrieval import document_store
from tilefold.retrieval.id_table import ABSENT, IdTable

DIM = 8
QUERIES = np.random.default_rng(7).standard_normal((5, DIM)).astype(np.float32)


def vectors(n: int, seed: int = 0) -> np.ndarray:
    """Of few values, so that many documents have the same score."""
    return np.random.default_rng(seed).integers(-2, 3, (n, DIM)).astype(np.float32)


def names(n: int) -> list[str]:
    """In an order that is not that of letters."""
    return [f"d{(7 * i) % 1009}é" for i in range(n)]


def filled(n: int = 200, **options: Any) -> FlatIndex:
    index = FlatIndex(DIM, **options)
    index.add(vectors(n), ids=names(n))
    return index


def numbered(n: int = 200, **options: Any) -> FlatIndex:
    index = FlatIndex(DIM, **options)
    index.add(vectors(n))
    return index


def as_names(ids: np.ndarray, all_names: list[str]) -> list[Any]:
    return [None if id < 0 else all_names[id] for id in np.asarray(ids).ravel().tolist()]


@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_answers_are_those_of_integer_ids_in_the_order_of_addition(metric, k):
    expected = numbered(metric=metric).search(QUERIES, k)
    found = filled(metric=metric).search(QUERIES, k)
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert found.ids.dtype == object
    assert found.ids.shape == (5, k)
    assert found.ids.ravel().tolist() == as_names(expected.ids, names(200))
    assert {type(id) for id in found.ids.ravel()} <= {str, type(None)}


def test_filters_take_strings_and_mean_what_they_mean_for_integers():
    own, plain, index = names(200), numbered(), filled()
    some = list(range(0, 200, 3))
    lists = [[1, 5], [], [7], list(range(100)), [199]]
    expected = plain.search(QUERIES, 20, allowed=some, exclude=lists, min_score=-1)
    allowed = [own[i] for i in some]
    by_query = [[own[i] for i in ids] for ids in lists]
    offsets = np.cumsum([0, *map(len, lists)])
    joined = np.array([name for ids in by_query for name in ids], object)
    table = np.full((5, 100), None, object)
    for row, ids in zip(table, by_query, strict=True):
        row[: len(ids)] = ids
    for exclude in (by_query, (offsets, joined), table, [np.array(ids) for ids in by_query]):
        found = index.search(QUERIES, 20, allowed=allowed, exclude=exclude, min_score=-1)
        assert found.scores.tobytes() == expected.scores.tobytes()
        assert found.ids.ravel().tolist() == as_names(expected.ids, own)


def test_answers_of_a_search_are_excluded_from_the_next():
    index = filled(8)
    first = index.search(QUERIES, 6)
    rest = index.search(QUERIES, 6, exclude=first.ids)
    assert all(set(a) & set(b) <= {None} for a, b in zip(first.ids, rest.ids, strict=True))
    assert (rest.ids[:, 2:] == None).all()  # noqa: E711
    assert {*first.ids[0], *rest.ids[0]} == {*names(8), None}


def test_unknown_ids_in_filters_filter_nothing():
    index = filled()
    assert index.search(QUERIES, 3, exclude=[["nowhere"]] * 5).ids.tolist() == (
        index.search(QUERIES, 3).ids.tolist()
    )
    assert (index.search(QUERIES, 3, allowed=["nowhere"]).ids == None).all()  # noqa: E711
    assert (index.search(QUERIES, 3, allowed=[]).ids == None).all()  # noqa: E711


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_range_search_returns_strings(metric):
    limit: dict[str, Any] = {"max_score": 12.0} if metric == "l2" else {"min_score": 2.0}
    expected = numbered(metric=metric).range_search(QUERIES, **limit)
    found = filled(metric=metric).range_search(QUERIES, **limit)
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert len(found.ids)
    assert found.ids.tolist() == as_names(expected.ids, names(200))


def test_a_single_query_and_a_certificate_have_their_shapes():
    found = filled().search(QUERIES[0], 4, return_certificate=True)
    assert found.ids.shape == (4,)
    assert found.certificate.holds


def test_tensors_as_queries_get_scores_as_tensors_and_ids_as_strings():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    found = filled().search(torch.from_numpy(QUERIES), 4)
    assert isinstance(found.scores, torch.Tensor)
    assert found.ids.tolist() == filled().search(QUERIES, 4).ids.tolist()


class Model:
    """What an index should hold: names and vectors in the order of addition, and those kept."""

    def __init__(self) -> None:
        self.rows: dict[str, np.ndarray] = {}
        self.order: dict[str, int] = {}  # for ties: replaced and restored ones keep their place
        self.kept: dict[str, np.ndarray] = {}
        self.count = 0

    def add(self, name: str, row: np.ndarray, *, place: int | None = None) -> None:
        self.rows[name] = row
        self.count += 1
        self.order[name] = self.count if place is None else place
        self.kept.pop(name, None)

    def answer(self, k: int) -> list[list[Any]]:
        scores = {name: QUERIES.astype(np.float64) @ row for name, row in self.rows.items()}
        return [
            (
                sorted(self.rows, key=lambda n: (-np.float32(scores[n][q]), self.order[n]))
                + [None] * k
            )[:k]
            for q in range(len(QUERIES))
        ]


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "keep", "restore", "replace", "save", "copy", "merge"]),
        st.integers(0, 2**31 - 1),
    ),
    max_size=12,
)


@settings(max_examples=40)
@given(steps=_STEPS, sparse=st.sampled_from([0, 1024]))
def test_any_sequence_of_edits_answers_as_a_dictionary_would(steps, sparse, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_store, "_SPARSE", sparse)
        index, model = FlatIndex(DIM), Model()
        for step, seed in steps:
            index = _edit(index, model, step, np.random.default_rng(seed), tmp_path_factory)
            assert list(index.ids) == list(model.rows)
            if model.rows:
                assert index.search(QUERIES, 7).ids.tolist() == model.answer(7)
                every = index.reconstruct(list(model.rows))
                assert (every == np.stack(list(model.rows.values()))).all()
            assert all(name in index for name in model.rows)
            assert not any(name in index for name in model.kept)
        table = index._store.content.table
        if table is not None:
            assert set(table.by_number()[table.numbers(model.rows)]) == set(model.rows)
            assert len(table) <= 3 * (len(model.rows) + len(model.kept)) + sparse + 100


def _edit(index: FlatIndex, model: Model, step: str, rng: Any, folders: Any) -> FlatIndex:
    known = list(model.rows)
    chosen = list(rng.permutation(known)[: rng.integers(0, len(known) + 1)]) if known else []
    chosen = [str(name) for name in chosen]
    if step in ("add", "merge"):
        free = [f"n{i}" for i in rng.permutation(60)[: rng.integers(1, 25)]]
        free = [name for name in free if name not in model.rows]
        rows = vectors(len(free), int(rng.integers(1000)))
        if step == "add":
            index.add(rows, ids=free)
        else:
            other = FlatIndex(DIM)
            other.add(np.vstack([rows, vectors(3)]), ids=[*free, "x", "y", "z"])
            other.remove(["x", "y", "z"])
            index.merge(other)
        for name, row in zip(free, rows, strict=True):
            model.add(name, row)
    elif step in ("remove", "keep"):
        index.remove(chosen, keep=step == "keep")
        for name in chosen:
            row = model.rows.pop(name)
            if step == "keep":
                model.kept[name] = row
    elif step == "restore":
        back = list(model.kept)
        index.restore(back)
        for name in back:
            model.add(name, model.kept[name], place=model.order[name])
    elif step == "replace":
        rows = vectors(len(chosen), int(rng.integers(1000)))
        index.replace(rows, ids=chosen)
        for name, row in zip(chosen, rows, strict=True):
            del model.rows[name]
            model.add(name, row, place=model.order[name])
    elif step == "save" and len(index):
        folder = folders.mktemp("index") / "saved"
        index.save(folder)
        return FlatIndex.load(folder)
    elif step == "copy":
        return pickle.loads(pickle.dumps(index))
    return index


def test_a_copy_lives_on_its_own():
    index = filled()
    for copied in (copy.copy(index), copy.deepcopy(index)):
        copied.add(vectors(1), ids=["only here"])
        assert "only here" in copied
        assert "only here" not in index
        assert index._store.content.table.numbers(["only here"]) == [ABSENT]


WRONG: list[tuple[Any, type[Exception], str]] = [
    (["a", "d0é", "c"], ValueError, "id 'd0é' is already in the index; replace"),
    (["a", "b", "a"], ValueError, "id 'a' is repeated"),
    (["a", "b"], ValueError, "expected 3 ids, one per vector, got 2"),
    (["a", "", "c"], ValueError, "ids must not be empty strings, got one at 1"),
    (["a", "b", "\ud800"], ValueError, r"ids must be text that UTF-8 can encode, got .* at 2"),
    (["a", "b", 3], TypeError, "ids must be strings, .* got int at place 2"),
    (["a", None, "c"], TypeError, "ids must be strings, .* got NoneType at place 1"),
    ([b"a", b"b", b"c"], TypeError, "got bytes; decode them at place 0"),
    ([1, 2, 3], TypeError, "ids must be strings, .* got int at place 0"),
    (np.arange(3), TypeError, "ids must be strings, .* got int at place 0"),
    (np.array([["a", "b", "c"]]), ValueError, "ids must have 1 dimension, got 2"),
    ("abc", TypeError, "ids must be a list of strings, got a single str"),
    ({"a", "b", "c"}, TypeError, "ids must be .* got set"),
    (None, ValueError, "this index has ids that are strings; pass ids"),
]


@pytest.mark.parametrize(("ids", "error", "message"), WRONG)
def test_ids_that_do_not_fit_are_refused_and_nothing_is_added(ids, error, message):
    index = filled(2)
    with pytest.raises(error, match=f"^FlatIndex.add: .*{message}"):
        index.add(vectors(3), ids=ids)
    assert index.ids.tolist() == names(2)
    assert index._store.content.table.n_known == 2


@pytest.mark.parametrize(("ids", "error", "message"), WRONG[3:7])
def test_the_first_ids_are_checked_too(ids, error, message):
    index = FlatIndex(DIM)
    with pytest.raises(error, match=f"^FlatIndex.add: .*{message}"):
        index.add(vectors(3), ids=ids)
    index.add(vectors(3))
    assert index.ids.tolist() == [0, 1, 2]


def test_a_row_that_is_refused_takes_no_id():
    index = filled(2)
    bad = vectors(2)
    bad[1, 0] = np.nan
    with pytest.raises(ValueError, match="row 1 of vectors has a NaN"):
        index.add(bad, ids=["a", "b"])
    index.add(vectors(2), ids=["a", "b"])
    assert index.ids.tolist() == [*names(2), "a", "b"]


def test_the_first_ids_decide_the_kind_of_all():
    integers, strings = numbered(2), filled(2)
    for ids in (["a"], np.array(["a"]), np.array(["a"], object)):
        with pytest.raises(TypeError, match=r"^FlatIndex.add: ids must be integers, got"):
            integers.add(vectors(1), ids=ids)
    with pytest.raises(TypeError, match=r"^FlatIndex.remove: ids must be integers"):
        integers.remove(["a"])
    for call in (strings.remove, strings.reconstruct, strings.restore):
        with pytest.raises(TypeError, match=r"^FlatIndex\.\w+: ids must be .*, got"):
            call([0])
    with pytest.raises(TypeError, match=r"exclude\[0\] must be a list of strings, got a single"):
        strings.search(QUERIES, 2, exclude=["d0é"] * 5)
    with pytest.raises(TypeError, match=r"^FlatIndex.search: allowed is a mask over integer ids"):
        strings.search(QUERIES, 2, allowed=np.ones(2, bool))
    with pytest.raises(TypeError, match=r"^FlatIndex.search: exclude must be strings, got int64"):
        strings.search(QUERIES, 2, exclude=np.zeros((5, 1), np.int64))
    with pytest.raises(ValueError, match=r"exclude must be a list of 5 id lists"):
        strings.search(QUERIES, 2, exclude=[["d0é"]])
    with pytest.raises(TypeError, match=r"ids of other are strings, but those .* are integers"):
        integers.merge(strings)
    with pytest.raises(TypeError, match=r"ids of other are integers, but those .* are strings"):
        strings.merge(integers)
    with pytest.raises(ValueError, match="id_offset must be 0 where ids are strings, got 3"):
        strings.merge(FlatIndex(DIM), id_offset=3) or FlatIndex(DIM).merge(strings, id_offset=3)
    assert 0 not in strings
    assert "0" not in integers


def test_adding_nothing_decides_no_kind():
    index = FlatIndex(DIM)
    index.add(vectors(0), ids=[])
    index.add(vectors(2), ids=["a", "b"])
    index.add(vectors(0), ids=[])
    index.remove(["a", "b"])
    index.add(vectors(1), ids=["a"])
    with pytest.raises(TypeError, match="ids must be strings"):
        index.add(vectors(1), ids=[3])


def test_absent_and_repeated_ids_are_named_as_strings():
    index = filled(5)
    with pytest.raises(ValueError, match=r"^FlatIndex.remove: id 'x' is not in the index"):
        index.remove(["d0é", "x"])
    with pytest.raises(ValueError, match=r"^FlatIndex.remove: id 'd7é' is repeated"):
        index.remove(["d7é", "d0é", "d7é"])
    with pytest.raises(ValueError, match=r"^FlatIndex.reconstruct: id 'x' is not in the index"):
        index.reconstruct("x")
    with pytest.raises(ValueError, match=r"^FlatIndex.replace: id 'x' is not in the index"):
        index.replace(vectors(1), ids=["x"])
    with pytest.raises(ValueError, match=r"^FlatIndex.restore: id 'd0é' cannot be restored"):
        index.restore("d0é")
    with pytest.raises(ValueError, match=r"^FlatIndex.merge: id 'd0é' is already in the index"):
        index.merge(filled(1))
    index.remove("d0é")
    assert index.ids.tolist() == names(5)[1:]
    assert index.reconstruct("d7é").shape == (DIM,)


def test_strings_are_for_the_exact_index_alone():
    index = filled(5)
    with pytest.raises(ValueError, match="ids that are strings, and shards and mining take integ"):
        tilefold.search_shards(QUERIES, [index], 2)
    hnsw = pytest.importorskip("hnswlib", reason="hnswlib is not installed") and tilefold.HnswIndex
    with pytest.raises(TypeError, match=r"ids must be integers, .*keep the strings in a list"):
        hnsw(DIM).add(vectors(2), ids=["a", "b"])


def test_an_empty_index_of_strings_pads_with_none():
    index = filled(2)
    index.remove(names(2))
    with pytest.warns(UserWarning, match="the index is empty, .* id None"):
        found = index.search(QUERIES, 2)
    assert (found.ids == None).all()  # noqa: E711


def of(package: str) -> Any:
    return pytest.importorskip(package, reason=f"{package} is not installed")


def dataset(ids: list[str]) -> Any:
    return of("datasets").Dataset.from_dict({"id": ids})


COLUMNS: dict[str, Any] = {
    "numpy": np.array,
    "numpy strings": lambda ids: np.array(ids, np.dtypes.StringDType()),
    "tuple of numpy strings": lambda ids: tuple(np.array(ids)),
    "pandas": lambda ids: of("pandas").Series(ids),
    "pandas, arrow": lambda ids: of("pandas").Series(ids, dtype="string[pyarrow]"),
    "pandas categories": lambda ids: of("pandas").Series(ids).astype("category"),
    "pandas index": lambda ids: of("pandas").Index(ids),
    "polars": lambda ids: of("polars").Series(ids),
    "polars categories": lambda ids: of("polars").Series(ids, dtype=of("polars").Categorical),
    "pyarrow": lambda ids: of("pyarrow").array(ids),
    "pyarrow, large": lambda ids: of("pyarrow").array(ids, "large_string"),
    "pyarrow dictionary": lambda ids: of("pyarrow").array(ids).dictionary_encode(),
    "pyarrow chunks": lambda ids: of("pyarrow").chunked_array([ids[:3], ids[3:]]),
    "datasets": lambda ids: dataset(ids)["id"],
    "datasets, torch": lambda ids: dataset(ids).with_format("torch")["id"],
    "datasets, streamed": lambda ids: dataset(ids).to_iterable_dataset()["id"],
}


def padded(lists: list[list[str]]) -> list[list[str | None]]:
    return [[*ids, *[None] * (10 - len(ids))] for ids in lists]


LISTS: dict[str, Any] = {
    "pandas": lambda lists: of("pandas").Series(lists),
    "pandas table": lambda lists: of("pandas").DataFrame(padded(lists)),
    "polars": lambda lists: of("polars").Series(lists),
    "polars table": lambda lists: of("polars").DataFrame(padded(lists), orient="row"),
    "pyarrow": lambda lists: of("pyarrow").array(lists),
    "datasets": lambda lists: dataset(lists)["id"],
}


@pytest.mark.parametrize("kind", LISTS)
def test_columns_and_tables_of_strings_are_exclusions(kind):
    own = names(20)
    lists = [own[:3], [], own[4:5], own[5:9], own[10:]]
    index = filled(20)
    expected = index.search(QUERIES, 20, exclude=lists)
    found = index.search(QUERIES, 20, exclude=LISTS[kind](lists))
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.ids[0].tolist().count(None) == 3


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_strings_are_ids(kind):
    ids = COLUMNS[kind](names(20))
    index = FlatIndex(DIM)
    index.add(vectors(20), ids=ids)
    assert index.ids.tolist() == names(20)
    assert all(type(id) is str for id in index.ids)
    assert (
        index.search(QUERIES, 3, allowed=ids).ids.tolist() == index.search(QUERIES, 3).ids.tolist()
    )
    assert index.reconstruct(ids).shape == (20, DIM)
    index.remove(ids)
    assert len(index) == 0


def test_missing_values_of_a_column_are_no_ids():
    pandas, polars = of("pandas"), of("polars")
    with pytest.raises(TypeError, match=r"ids must be strings, .* got (float|NAType|NoneType)"):
        FlatIndex(DIM).add(vectors(2), ids=pandas.Series(["a", None]))
    with pytest.raises(ValueError, match="ids has no value in row 1"):
        filled(1).add(vectors(2), ids=polars.Series(["a", None]))


def test_searches_never_see_what_they_exclude_while_documents_come_and_go():
    """The excluded one is removed and added again all the time, under new numbers."""
    index = filled(500)
    best = index.search(QUERIES[:1], 1).ids[0, 0]
    row = index.reconstruct(best)[None]
    wrong: list[Any] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            found = index.search(QUERIES[:1], 400, exclude=[[best]])
            if best in found.ids or (found.ids[0, :400] == None).any():  # noqa: E711
                wrong.append(found.ids)

    threads = [threading.Thread(target=search) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_store, "_SPARSE", 10)
        for thread in threads:
            thread.start()
        for step in range(150):
            index.remove(best)
            index.add(row, ids=[best])
            if step % 10 == 0:  # enough at once for the table to be numbered anew
                more = [f"m{step}-{i}" for i in range(600)]
                index.add(vectors(600, 5), ids=more)
                index.remove(more)
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert sorted(index.ids) == sorted(names(500))


def test_a_table_forgets_only_what_has_no_later_number():
    table = IdTable()
    table.append(["a", "b"])
    table.append(["a"])
    table.forget(np.array([0]))
    assert table.numbers(["a", "b", "c"]).tolist() == [2, 1, ABSENT]
    assert table.names(np.array([[0, -1], [2, 1]])).tolist() == [["a", None], ["a", "b"]]


def test_a_change_while_filters_are_read_is_noticed():
    """The excluded document gets another number between the snapshot and the lookup."""
    index = filled(50)
    best = index.search(QUERIES[:1], 1).ids[0, 0]
    row = index.reconstruct(best)[None]

    class Changing(list):
        done = False

        def __iter__(self):
            if not self.done:
                self.done = True
                index.remove(best)
                index.add(row, ids=[best])
            return super().__iter__()

    exclude = Changing([[best]])
    assert best not in index.search(QUERIES[:1], 50, exclude=exclude).ids
    assert exclude.done


def test_integers_in_the_stead_of_strings_have_the_same_answers():
    documents, queries = gaussian(300, 12, 0), gaussian(9, 12, 1)
    names = [f"d{i}" for i in range(300)]
    index = FlatIndex(12)
    index.add(documents, ids=names)
    index.remove(names[5:60])
    numbered, strings = index.with_integer_ids()
    expected = index.search(queries, 20)
    index.remove(names[100:200])  # not seen by the other
    found = numbered.search(queries, 20)
    assert np.array_equal(found.scores, expected.scores)
    assert [[strings[i] for i in row] for row in found.ids] == expected.ids.tolist()
    assert len(numbered.segments) == 1
    with pytest.raises(ValueError, match="has integer ids already"):
        numbered.with_integer_ids()


def test_integers_of_removed_documents_have_no_string():
    index = FlatIndex(12)
    vectors = gaussian(3, 12, 0)
    index.add(vectors[:2], ids=["a", "b"])
    index.remove(["a"])
    index.add(vectors[2:], ids=["a"])
    numbered, strings = index.with_integer_ids()
    assert strings == ["", "b", "a"]
    assert numbered.ids.tolist() == [1, 2]


def test_a_table_stays_short_where_documents_are_removed_and_given_again():
    index, vectors = FlatIndex(4), gaussian(10, 4, 0)
    names = [f"d{i}" for i in range(10)]
    index.add(vectors, ids=names)
    for _ in range(300):
        index.remove(names, keep=True)
        index.add(vectors, ids=names)
    assert len(index._store.content.table) < 2000
    assert index.ids.tolist() == names
    index.remove(names[:5], keep=True)
    index.restore(names[:2])
    assert sorted(index.ids.tolist()) == sorted([*names[5:], *names[:2]])


def test_an_empty_index_that_is_merged_decides_nothing():
    empty, index = FlatIndex(4), FlatIndex(4)
    empty.add(gaussian(2, 4, 0), ids=["a", "b"])
    empty.remove(["a", "b"])
    index.merge(empty)
    index.add(gaussian(2, 4, 1))
    assert index.ids.tolist() == [0, 1]
