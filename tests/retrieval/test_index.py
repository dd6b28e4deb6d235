"""FlatIndex: the reference's answers, whatever was added, removed, pickled, forked or shared."""

import copy
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import tilefold
from tilefold import FlatIndex, reference

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
}
DIM = 20
LARGEST = 2**63 - 1

# A forked child of a process with threads: what these tests are about, and what Python warns of.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux's /proc")


def vectors(n: int, dim: int = DIM, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "int8":
        return rng.integers(-128, 128, (n, dim)).astype(np.int8)
    return rng.standard_normal((n, dim)).astype(np.float32).astype(DTYPES[dtype])


def filled(documents, ids=None, **options) -> FlatIndex:
    index = FlatIndex(len(documents[0]))
    index.add(documents, ids, **options)
    return index


def assert_same(found, expected) -> None:
    """The same bytes: no tolerance, and -0.0 is not 0.0."""
    for mine, truth in zip(found, expected, strict=True):
        assert (mine.shape, mine.dtype) == (truth.shape, truth.dtype)
        assert np.ascontiguousarray(mine).tobytes() == np.ascontiguousarray(truth).tobytes()


def assert_answers(index: FlatIndex, queries, k: int, documents: np.ndarray, ids=None) -> None:
    assert_same(index.search(queries, k), reference.search(queries, documents, k, ids=ids))


class Model:
    """What an index should hold: vectors by id, in the order of adding."""

    def __init__(self, dtype: str, dim: int = DIM) -> None:
        self.rows: dict[int, np.ndarray] = {}
        self.next_id = 0
        self.dtype, self.dim = dtype, dim

    def add(self, documents: np.ndarray, ids) -> None:
        self.rows |= dict(zip(map(int, ids), documents, strict=True))
        self.next_id = max([self.next_id, *(int(i) + 1 for i in ids)])

    def remove(self, ids) -> None:
        for i in ids:
            del self.rows[int(i)]

    @property
    def ids(self) -> np.ndarray:
        return np.array([*self.rows], np.int64)

    @property
    def documents(self) -> np.ndarray:
        return np.array([*self.rows.values()], DTYPES[self.dtype]).reshape(-1, self.dim)


# ---- any sequence of adds and removes ------------------------------------------------------------


class AnySequence(RuleBasedStateMachine):
    """Small integers as vectors, so that scores tie all the time and ids decide."""

    dim = 3

    @initialize(dtype=st.sampled_from([*DTYPES]))
    def begin(self, dtype):
        self.index, self.model = FlatIndex(self.dim), Model(dtype, self.dim)
        self.rng = np.random.default_rng(0)

    def draw(self, n):
        return self.rng.integers(-2, 3, (n, self.dim)).astype(DTYPES[self.model.dtype])

    @rule(n=st.integers(0, 70))
    def add(self, n):
        documents = self.draw(n)
        self.index.add(documents)
        self.model.add(documents, range(self.model.next_id, self.model.next_id + n))

    @rule(ids=st.lists(st.integers(0, 500), unique=True, max_size=40))
    def add_with_ids(self, ids):
        ids = [i for i in ids if i not in self.model.rows]
        documents = self.draw(len(ids))
        self.index.add(documents, ids)
        self.model.add(documents, ids)

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def add_a_taken_id(self, data):
        taken = data.draw(st.sampled_from([*self.model.rows]))
        with pytest.raises(ValueError, match=f"id {taken} is already"):
            self.index.add(self.draw(2), [10**6, taken])

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def remove(self, data):
        ids = data.draw(st.lists(st.sampled_from([*self.model.rows]), unique=True))
        self.index.remove(ids)
        self.model.remove(ids)

    @rule(keep=st.integers(0, 3))
    def remove_all_but(self, keep):
        ids = self.model.ids[keep:]
        self.index.remove(ids)
        self.model.remove(ids)

    @precondition(lambda self: self.model.rows)
    @rule()
    def remove_an_absent_id(self):
        with pytest.raises(ValueError, match="id 999999 is not in the index"):
            self.index.remove([next(iter(self.model.rows)), 999_999])

    @rule()
    def pickle(self):
        self.index = pickle.loads(pickle.dumps(self.index))

    @invariant()
    def answers_as_the_reference(self):
        model = self.model
        np.testing.assert_array_equal(self.index.ids, model.ids)
        assert len(self.index) == len(model.rows)
        for k in (1, 5):
            queries = self.draw(2)
            assert_answers(self.index, queries, k, model.documents, model.ids)


def test_any_sequence_of_adds_and_removes_answers_as_the_reference():
    run_state_machine_as_test(
        AnySequence,
        settings=settings(
            max_examples=40,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=[*HealthCheck],
        ),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_random_walk_answers_as_the_reference(dtype):
    rng = np.random.default_rng(7)
    index, model = FlatIndex(DIM), Model(dtype)
    queries = vectors(6, seed=99, dtype=dtype)
    for step in range(25):
        if model.rows and rng.random() < 0.4:
            ids = rng.permutation(model.ids)[: rng.integers(0, len(model.rows) + 1)]
            index.remove(ids)
            model.remove(ids)
        else:
            documents = vectors(rng.integers(0, 700), seed=step, dtype=dtype)
            free = np.setdiff1d(np.arange(20_000), model.ids)
            ids = rng.permutation(free)[: len(documents)] if rng.random() < 0.5 else None
            index.add(documents, ids)
            expected = model.next_id + np.arange(len(documents)) if ids is None else ids
            model.add(documents, expected)
        np.testing.assert_array_equal(index.ids, model.ids)
        assert_answers(index, queries, 10, model.documents, model.ids)


def test_the_order_and_size_of_adds_do_not_matter():
    documents, queries = vectors(3000), vectors(9, seed=1)
    expected = reference.search(queries, documents, 20)
    order = np.random.default_rng(0).permutation(len(documents))
    for part in (1000, 1, 63):
        index = FlatIndex(DIM)
        for begin in range(0, len(order), part if part > 1 else len(order) - 1):
            rows = order[begin : begin + (part if part > 1 else len(order) - 1)]
            index.add(documents[rows], rows)
        assert_same(index.search(queries, 20), expected)


def test_an_index_of_several_segments_answers_as_the_reference():
    documents, queries = vectors(4000), vectors(5, seed=1)
    index = FlatIndex(DIM)
    for begin, end in itertools.pairwise((0, 2500, 3500, 3900, 3990, 4000)):
        index.add(documents[begin:end])
    assert len(index._store.content.segments) > 2
    for k in (1, 50, 4000, 4001):
        assert_answers(index, queries, k, documents)


# ---- ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([-1, 0, 1], ValueError, "ids must not be negative, got -1"),
        ([4, 5, 4], ValueError, "id 4 is repeated"),
        ([4, 7, 5], ValueError, "id 7 is already in the index"),
        ([4, 5], ValueError, "expected 3 ids, one per vector, got 2"),
        ([[4], [5], [6]], ValueError, "ids must have 1 dimension, got 2"),
        ([4.0, 5.0, 6.0], TypeError, "ids must be integers, got float"),
        (np.array([True, False, True]), TypeError, "ids must be integers, got bool"),
        (["a", "b", "c"], TypeError, "ids must be integers"),
        ({4, 5, 6}, TypeError, "ids must be .* got set"),
        (4, TypeError, "FlatIndex.add: ids"),
        ((i for i in range(3)), TypeError, "FlatIndex.add: ids"),
        ([[4], [5, 6], []], (TypeError, ValueError), "FlatIndex.add: ids"),
        ([4, 5, 2**63], (TypeError, ValueError), "FlatIndex.add: ids must be"),
        ([4, 5, 2**64], (TypeError, ValueError), "FlatIndex.add: ids must be"),
        (np.array([4, 5, 2**63], np.uint64), ValueError, "below 2\\^63, got 9223372036854775808"),
    ],
)
def test_ids_that_do_not_fit_are_refused_and_nothing_is_added(ids, error, message):
    index = filled(vectors(2), [7, 8])
    with pytest.raises(error, match=message):
        index.add(vectors(3, seed=1), ids)
    assert_answers(index, vectors(2, seed=2), 5, vectors(2), np.array([7, 8]))
    index.add(vectors(1, seed=1))
    assert index.ids.tolist() == [7, 8, 9]


@pytest.mark.parametrize("kind", [list, tuple, np.uint64, np.int8, ">i4", "strided", "torch"])
def test_ids_of_every_integer_kind_are_taken(kind):
    wanted = [3, 0, 100]
    if kind == "torch":
        ids = pytest.importorskip("torch").tensor(wanted)
    elif kind == "strided":
        ids = np.repeat(wanted, 2)[::2]
    else:
        ids = kind(wanted) if kind in (list, tuple) else np.array(wanted, kind)
    index = filled(vectors(3), ids)
    assert index.ids.tolist() == wanted
    assert_answers(index, vectors(2, seed=1), 3, vectors(3), np.array(wanted))
    index.remove(ids)
    assert len(index) == 0


def test_changing_the_ids_after_adding_changes_nothing():
    ids = np.arange(5)
    index = filled(vectors(5), ids)
    ids[:] = 77
    index.ids[:] = 88
    assert index.ids.tolist() == [0, 1, 2, 3, 4]


def test_default_ids_go_on_from_the_largest():
    index = filled(vectors(2))
    index.add(vectors(2, seed=1), [10, 4])
    index.add(vectors(2, seed=2))
    assert index.ids.tolist() == [0, 1, 10, 4, 11, 12]


def through_pickle(index, folder):
    return pickle.loads(pickle.dumps(index))


def through_a_folder(index, folder):
    index.save(folder)
    return FlatIndex.load(folder)


@pytest.mark.parametrize("through", [None, through_pickle, through_a_folder])
def test_default_ids_are_never_used_twice(through, tmp_path):
    index = filled(vectors(5))
    index.remove([3, 4])
    index.remove([0, 1, 2])
    if through:
        index = through(index, tmp_path / "index")
    index.add(vectors(2, seed=1))
    assert index.ids.tolist() == [5, 6]


def test_the_largest_id_is_taken_and_then_no_default_id_is_left():
    documents = vectors(3)
    index = filled(documents[:2], [LARGEST, LARGEST - 1])
    with pytest.raises(ValueError, match=r"FlatIndex\.add"):
        index.add(documents[2:])
    assert LARGEST in index
    assert_answers(index, vectors(3, seed=1), 2, documents[:2], np.array([LARGEST, LARGEST - 1]))
    index.add(documents[2:], [0])
    assert_answers(index, vectors(3, seed=1), 3, documents, np.array([LARGEST, LARGEST - 1, 0]))


@pytest.mark.parametrize(
    ("id", "there"),
    [
        (0, True),
        (np.int64(0), True),
        (np.uint8(0), True),
        (1, False),
        (-1, False),
        (2**63, False),
        (-(2**70), False),
        (0.0, False),
        (False, False),
        ("0", False),
        (None, False),
        ([0], False),
        (np.array([0, 2]), False),
    ],
)
def test_in_takes_any_object(id, there):
    index = filled(vectors(3))
    index.remove([1])
    assert (id in index) is there


def test_removing_says_which_id_is_wrong_and_removes_nothing():
    index = filled(vectors(5))
    for ids, message in (
        ([1, 9, 2], "id 9 is not in the index"),
        ([1, 2, 1], "id 1 is repeated"),
        ([1, -3], "not be negative, got -3"),
    ):
        with pytest.raises(ValueError, match=f"FlatIndex.remove: .*{message}"):
            index.remove(ids)
    index.remove(3)
    with pytest.raises(ValueError, match="id 3 is not in the index"):
        index.remove(np.int64(3))
    index.remove([])
    assert index.ids.tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("method", ["remove", "reconstruct"])
@pytest.mark.parametrize("ids", [None, 1.0, "1", (i for i in [1]), [[1], [1, 2]]])
def test_what_is_no_id_is_named_in_the_error(method, ids):
    with pytest.raises((TypeError, ValueError), match=f"FlatIndex.{method}: ids"):
        getattr(filled(vectors(3)), method)(ids)


@pytest.mark.parametrize("id", [1, np.int64(1), np.array(1)])
def test_a_single_id_may_be_any_integer_scalar(id):
    index = filled(vectors(3))
    np.testing.assert_array_equal(index.reconstruct(id), vectors(3)[1])
    index.remove(id)
    assert index.ids.tolist() == [0, 2]


def test_a_removed_id_may_be_given_again():
    index = filled(vectors(3))
    index.remove([1])
    index.add(vectors(1, seed=1), [1])
    np.testing.assert_array_equal(index.reconstruct(1), vectors(1, seed=1)[0])
    assert index.ids.tolist() == [0, 2, 1]


# ---- reconstruct ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_reconstruct_gives_back_what_was_added(dtype):
    documents = vectors(300, dtype=dtype)
    index = filled(documents[:250])
    index.add(documents[250:])
    index.remove([0])
    expected = documents.astype(np.float32) if dtype == "bfloat16" else documents
    rows = [299, 7, 7, 251]
    assert_same([index.reconstruct(rows)], [expected[rows]])
    assert_same([index.reconstruct(7)], [expected[7]])
    assert index.reconstruct([]).shape == (0, DIM)


def test_reconstruct_names_an_absent_id():
    index = filled(vectors(3))
    index.remove(1)
    with pytest.raises(ValueError, match=r"FlatIndex\.reconstruct: id 1 is not in the index"):
        index.reconstruct([0, 1])
    assert FlatIndex(DIM).reconstruct([]).shape == (0, DIM)


def test_changing_what_reconstruct_gave_changes_nothing():
    index = filled(vectors(3))
    index.reconstruct(slice_of := [0, 1, 2])[:] = 0
    index.reconstruct(0)[:] = 0
    np.testing.assert_array_equal(index.reconstruct(slice_of), vectors(3))


# ---- shapes and dtypes ---------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [0, -1])
def test_a_dim_below_one_is_refused(dim):
    with pytest.raises(ValueError, match=f"FlatIndex: dim must be at least 1, got {dim}"):
        FlatIndex(dim)


@pytest.mark.parametrize("dim", [2.5, "3", None])
def test_a_dim_that_is_no_integer_is_refused(dim):
    with pytest.raises(TypeError, match="FlatIndex: dim"):
        FlatIndex(dim)


def test_vectors_and_queries_of_another_dim_are_refused():
    index = filled(vectors(3))
    with pytest.raises(ValueError, match="vectors have dim 7 but the index has dim 20"):
        index.add(vectors(3, dim=7))
    with pytest.raises(ValueError, match="queries have dim 7 but documents have dim 20"):
        index.search(vectors(3, dim=7), 1)
    with pytest.raises(ValueError, match="queries have dim 7 but documents have dim 20"):
        FlatIndex(DIM).search(vectors(3, dim=7), 1)
    with pytest.raises(ValueError, match="vectors must have 2 dimensions"):
        index.add(vectors(3)[0])
    assert len(index) == 3


def test_one_index_keeps_one_dtype():
    index = filled(vectors(3))
    with pytest.raises(TypeError, match="has dtype float32 but vectors are float16"):
        index.add(vectors(3, dtype="float16"))
    assert index.dtype == "float32"
    index.remove([0, 1, 2])
    assert index.dtype is None
    index.add(vectors(3, dtype="float16"))
    assert index.dtype == "float16"


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.complex64, "datetime64[s]", object])
def test_a_dtype_that_cannot_be_searched_is_refused(dtype):
    with pytest.raises(TypeError, match=r"FlatIndex.add: vectors must be float32"):
        FlatIndex(DIM).add(np.zeros((3, DIM), dtype))


def test_float64_is_rounded_with_one_warning():
    exact = np.random.default_rng(0).standard_normal((4, DIM))
    index = FlatIndex(DIM)
    with pytest.warns(tilefold.PrecisionWarning) as warned:
        index.add(exact)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert_answers(index, vectors(2), 4, exact.astype(np.float32))


def test_queries_may_have_another_floating_dtype():
    index = filled(vectors(500, dtype="float16"))
    for dtype in ("float32", "bfloat16"):
        assert_answers(index, vectors(4, seed=1, dtype=dtype), 9, vectors(500, dtype="float16"))
    with pytest.raises(ValueError, match="int8"):
        index.search(vectors(4, dtype="int8"), 1)


def test_an_empty_index_answers_with_padding():
    index = FlatIndex(DIM)
    index.add(vectors(0))
    assert (len(index), index.dtype, index.ids.dtype) == (0, None, np.dtype(np.int64))
    found = index.search(vectors(3), 4)
    assert (found.ids == -1).all()
    assert np.isneginf(found.scores).all()
    index.add(vectors(2))
    index.remove([0, 1])
    assert_same(index.search(vectors(3), 4), found)


def test_no_queries_give_no_answers():
    found = filled(vectors(3)).search(vectors(0), 4)
    assert (found.scores.shape, found.ids.shape) == ((0, 4), (0, 4))


def test_more_answers_than_documents_are_padded():
    assert_answers(filled(vectors(40)), vectors(3, seed=1), 45, vectors(40))


def test_a_single_query_gives_a_single_answer():
    index = filled(vectors(40))
    found = index.search(vectors(1, seed=1)[0], 5)
    assert_same([a[None] for a in found], index.search(vectors(1, seed=1), 5))


@pytest.mark.parametrize("k", [0, -1, 2**31])
def test_k_out_of_range_is_refused(k):
    with pytest.raises(ValueError, match=r"FlatIndex\.search: k must be at least 1"):
        filled(vectors(3)).search(vectors(1), k)


@pytest.mark.parametrize("k", [1.0, "1", None])
def test_k_that_is_no_integer_is_refused(k):
    with pytest.raises(TypeError, match=r"FlatIndex\.search: k must be an integer"):
        filled(vectors(3)).search(vectors(1), k)


# ---- kinds of arrays, and who owns them ----------------------------------------------------------

KINDS = {
    "list": lambda x: x.tolist(),
    "Fortran": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "some columns": lambda x: np.hstack([x, x])[:, : x.shape[1]],
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "big-endian": lambda x: x.astype(">f4"),
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "unaligned": lambda x: (
        np.frombuffer(b"-" + x.tobytes(), np.uint8)[1:].view("f4").reshape(x.shape)
    ),
    "torch": lambda x: pytest.importorskip("torch").tensor(x),
    "torch with a gradient": lambda x: pytest.importorskip("torch").tensor(x, requires_grad=True),
    "torch transposed": lambda x: pytest.importorskip("torch").tensor(x.T.copy()).T,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_array_is_taken(kind):
    documents, queries = vectors(100), vectors(3, seed=1)
    assert_answers(filled(KINDS[kind](documents)), queries, 7, documents)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_tensors_of_every_dtype_are_taken_and_given(dtype):
    torch = pytest.importorskip("torch")
    documents, queries = (
        torch.tensor(vectors(n, seed=n, dtype=dtype).astype(np.float32)).to(getattr(torch, dtype))
        for n in (100, 3)
    )
    index = filled(documents)
    assert index.dtype == dtype
    found = index.search(queries, 7)
    assert isinstance(found.scores, torch.Tensor)
    expected = reference.search(queries.float().numpy(), documents.float().numpy(), 7)
    assert_same([a.numpy() for a in found], expected)


@pytest.mark.parametrize("kind", [*KINDS, "bfloat16 tensor"])
def test_changing_the_array_after_adding_does_not_change_answers(kind):
    documents, queries = vectors(100), vectors(3, seed=1)
    if kind == "bfloat16 tensor":
        array = pytest.importorskip("torch").tensor(documents).bfloat16()
        documents = array.float().numpy().copy()
    else:
        array = KINDS[kind](documents)
    index = filled(array)
    try:
        (array.data if hasattr(array, "detach") else array)[:] = 0
    except ValueError:
        assert kind in ("read-only", "unaligned")
        pytest.skip("this array cannot be changed")
    except TypeError:
        array[:] = [[0.0] * DIM]
    assert_answers(index, queries, 7, documents)


def test_copy_false_keeps_a_reference():
    documents = vectors(100)
    index = filled(documents, copy=False)
    assert np.shares_memory(index._store.content.segments[0].vectors, documents)
    assert_answers(index, vectors(3, seed=1), 7, documents)


@pytest.mark.parametrize(("mode", "shared"), [("r", True), ("r+", False), ("c", False)])
def test_only_a_read_only_memory_map_is_kept_without_a_copy(mode, shared, tmp_path):
    np.save(tmp_path / "documents.npy", vectors(200))
    documents = np.load(tmp_path / "documents.npy", mmap_mode=mode)
    index = filled(documents[10:])
    assert np.shares_memory(index._store.content.segments[0].vectors, documents) is shared
    assert_answers(index, vectors(3, seed=1), 7, vectors(200)[10:])
    copied = filled(documents, copy=True)
    assert not np.shares_memory(copied._store.content.segments[0].vectors, documents)


# ---- non-finite rows -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dim", [DIM, 32_800])  # the second is too long to be packed
def test_a_row_that_is_not_finite_is_refused_and_nothing_is_added(bad, dim):
    index = filled(vectors(3, dim))
    rows = vectors(50, dim, seed=1)
    rows[41, dim - 1] = bad
    with pytest.raises(ValueError, match=r"FlatIndex\.add: row 41 of vectors has a NaN or an inf"):
        index.add(rows)
    assert index.ids.tolist() == [0, 1, 2]
    index.add(rows[:2])
    assert index.ids.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dim", [DIM, 32_800])
def test_rows_that_are_not_finite_are_kept_but_never_retrieved(dim):
    documents = vectors(50, dim)
    documents[[3, 30], [0, dim - 1]] = np.nan, np.inf
    index = filled(documents, nonfinite="exclude")
    index.add(vectors(30, dim, seed=1))  # the two are merged into one segment
    everything = np.vstack([documents, vectors(30, dim, seed=1)])
    good = np.isfinite(everything).all(axis=1)
    found = index.search(vectors(3, dim, seed=2), 80, return_certificate=True)
    truth = reference.search(
        vectors(3, dim, seed=2), everything[good], 80, ids=np.flatnonzero(good)
    )
    assert_same(found[:2], truth)
    assert found.certificate.nonfinite_documents == 2
    assert len(index) == 80
    np.testing.assert_array_equal(index.reconstruct([3, 30]), documents[[3, 30]])
    index.remove(3)
    again = index.search(vectors(3, dim, seed=2), 80, return_certificate=True)
    assert again.certificate.nonfinite_documents == 1


def test_an_unknown_policy_is_refused():
    for call in (
        lambda i: i.add(vectors(1), nonfinite="skip"),
        lambda i: i.search(vectors(1), 1, nonfinite="skip"),
    ):
        with pytest.raises(
            ValueError, match='nonfinite must be "error" or "exclude", got \'skip\''
        ):
            call(filled(vectors(3)))


# ---- filters, as far as an index differs from an array -------------------------------------------


def test_filters_go_by_the_ids_of_the_index():
    documents, queries = vectors(300), vectors(4, seed=1)
    ids = np.random.default_rng(0).permutation(1000)[:300]
    index = filled(documents[:200], ids[:200])
    index.add(documents[200:], ids[200:])
    allowed = ids[::3]
    truth = reference.search(queries, documents[::3], 9, ids=allowed)
    assert_same(index.search(queries, 9, allowed=[*allowed, 100_000]), truth)
    assert_same(index.search(queries, 9, allowed=np.isin(np.arange(1000), allowed)), truth)
    others = np.setdiff1d(ids, allowed)
    assert_same(index.search(queries, 9, exclude=[others] * 4), truth)


def test_a_mask_need_not_reach_removed_ids():
    index = filled(vectors(11), [*range(10), 1000])
    index.remove([1000])
    mask = np.arange(10) % 2 == 0
    truth = reference.search(vectors(2, seed=1), vectors(11)[:10], 3, allowed=mask)
    assert_same(index.search(vectors(2, seed=1), 3, allowed=mask), truth)


def test_a_mask_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match="must have at least 11 entries, got 10"):
        filled(vectors(11)).search(vectors(1), 1, allowed=np.ones(10, bool))


# ---- copies and memory ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda i: pickle.loads(pickle.dumps(i, 5))]
)
def test_a_copy_answers_the_same_and_lives_on_its_own(copied):
    documents = vectors(300, dtype="bfloat16")
    index = filled(documents, np.arange(300)[::-1])
    index.remove([5])
    assert 7 in index
    twin = copied(index)
    expected = index.search(vectors(3, seed=1), 20)
    assert_same(twin.search(vectors(3, seed=1), 20), expected)
    assert twin.ids.tolist() == index.ids.tolist()
    twin.remove(twin.ids[:100])
    twin.add(documents[:2])
    assert_same(index.search(vectors(3, seed=1), 20), expected)
    assert twin.ids[-2:].tolist() == [300, 301]


@pytest.mark.parametrize("dim", [384, 768])
def test_an_index_takes_at_most_1_3_times_its_vectors(dim):
    documents = vectors(5000, dim)
    filled(documents[:100])  # what is allocated once
    tracemalloc.start()
    try:
        index = filled(documents)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert index.nbytes <= 1.30 * documents.nbytes
    assert held <= 1.30 * documents.nbytes


@pytest.mark.parametrize("left", [0, 1, 400, 2400])
def test_removing_most_rows_frees_their_memory(left):
    documents = vectors(5000, 384)
    index = filled(documents[:4000])
    index.add(documents[4000:])
    index.remove(np.random.default_rng(0).permutation(5000)[left:])
    assert index.nbytes <= 2 * 1.30 * 384 * 4 * max(left, 32)
    kept = np.sort(index.ids)
    assert_answers(index, vectors(2, 384, seed=1), 5, documents[kept], kept)


# ---- threads -------------------------------------------------------------------------------------


def test_a_search_sees_the_index_at_one_moment():
    """One thread replaces generations of 50 documents, each added and removed by one call.

    A search must see generation g whole, or g and g + 1 whole, for every query the same.
    """
    size, dim = 50, 8
    index = filled(vectors(3000, dim, seed=1), np.arange(3000))
    far = np.full((size, dim), 100, np.float32)  # scores above everything else
    index.add(far, 10_000 + np.arange(size))
    queries = np.ones((40, dim), np.float32)
    stop, failures, seen = threading.Event(), [], set()

    def look():
        try:
            while not stop.is_set():
                ids = index.search(queries, 2 * size).ids
                assert (ids == ids[0]).all(), "two queries saw different documents"
                generations, counts = np.unique(
                    ids[0][ids[0] >= 10_000] // size, return_counts=True
                )
                assert (counts == size).all(), f"half a generation: {counts}"
                assert len(counts) in (1, 2), f"{len(counts)} generations"
                assert generations[-1] - generations[0] == len(counts) - 1
                seen.update(generations.tolist())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 2
    generation = 0
    while time.monotonic() < end and not failures:
        begin = 10_000 + size * (generation := generation + 1)
        index.add(far, begin + np.random.default_rng(generation).permutation(size))
        index.remove(np.arange(begin - size, begin))
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert len(seen) > 5


def test_threads_that_add_lose_nothing():
    index = FlatIndex(DIM)
    threads = [
        threading.Thread(
            target=lambda seed=seed: [index.add(vectors(10, seed=seed)) for _ in range(30)]
        )
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(index.ids) == [*range(1200)]


@pytest.mark.parametrize("rows", [1, 33, 1000, 2047, 2049, 4500])
def test_any_division_of_work_among_threads_gives_the_same_bytes(rows):
    """Large enough for several threads; few documents, few queries, more threads than either."""
    documents, queries = vectors(rows, 2048), vectors(40, 2048, seed=1)
    index = filled(documents)
    truth = reference.search(queries[:2], documents, 10)
    for n, k in itertools.product((1, 2, 15, 17, 31, 33, 40), (1, 10, 300)):
        expected = index.search(queries[:n], k, num_threads=1)
        assert_same([a[:2, : min(k, 10)] for a in expected], [a[:n, :k] for a in truth])
        for threads in (2, 3, 16):
            assert_same(index.search(queries[:n], k, num_threads=threads), expected)


def test_many_threads_searching_at_once_all_get_the_answer():
    documents, queries = vectors(5000), vectors(64, seed=1)
    index = filled(documents)
    expected = index.search(queries, 10, num_threads=1)
    failures = []

    def look(threads):
        try:
            for _ in range(10):
                assert_same(index.search(queries, 10, num_threads=threads), expected)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look, args=[1 + i % 5]) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_a_long_search_lets_other_python_threads_run():
    documents, queries = vectors(60_000, 64), vectors(256, 64, seed=1)
    index = filled(documents)
    search = threading.Thread(target=lambda: index.search(queries, 500, num_threads=1))
    moments = [time.perf_counter()]
    search.start()
    while search.is_alive():
        time.sleep(0.001)
        moments.append(time.perf_counter())
    took = moments[-1] - moments[0]
    assert len(moments) > 20
    assert max(np.diff(moments)) < took / 2


def test_progress_rises_to_the_end_and_may_search_itself():
    documents, queries = vectors(60_000, 32), vectors(300, 32, seed=1)
    index = filled(documents[:50_000])
    index.add(documents[50_000:])
    inner, reports = index.search(queries[:1], 3), []

    def report(done, total):
        reports.append((done, total))
        assert_same(index.search(queries[:1], 3), inner)

    expected = index.search(queries, 50)
    assert_same(index.search(queries, 50, progress=report), expected)
    assert reports == sorted(reports)
    assert reports[-1] == (60_000, 60_000)


def test_an_error_in_progress_ends_the_search_and_harms_nothing():
    index = filled(vectors(5000))
    expected = index.search(vectors(50, seed=1), 9)

    def fail(done, total):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        index.search(vectors(50, seed=1), 9, progress=fail)
    assert_same(index.search(vectors(50, seed=1), 9), expected)


@needs_proc
def test_scratch_memory_stays_below_the_score_matrix_with_many_threads():
    """64 threads, as on a large server: candidate lists must not outgrow the matrix they avoid."""
    code = """
        import numpy as np, tilefold
        documents = np.random.default_rng(0).standard_normal((200_000, 32)).astype(np.float32)
        index = tilefold.FlatIndex(32)
        index.add(documents, copy=False)
        queries = documents[:128].copy()
        index.search(queries[:1], 1)
        open("/proc/self/clear_refs", "w").write("5")
        def peak():
            lines = open("/proc/self/status").read().splitlines()
            return 1024 * int(next(l for l in lines if l.startswith("VmHWM")).split()[1])
        before = peak()
        index.search(queries, 100, num_threads=64)
        print(peak() - before)
    """
    assert int(run_python(code)) < 128 * 200_000 * 4


# ---- the pool of threads -------------------------------------------------------------------------


def run_python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    lines = code.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[indent:] for line in lines)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def default_threads():
    """Puts the default number of threads back."""
    before = tilefold.get_num_threads()
    yield
    tilefold.set_num_threads(before)


@pytest.mark.usefixtures("default_threads")
def test_set_num_threads_is_what_get_num_threads_says():
    for n in (1, 3, np.int64(2)):
        tilefold.set_num_threads(n)
        assert tilefold.get_num_threads() == n


@pytest.mark.parametrize("n", [0, -1, 1025])
def test_numbers_of_threads_out_of_range_are_refused(n):
    before = tilefold.get_num_threads()
    with pytest.raises(ValueError, match=f"set_num_threads: n must be 1 to 1024, got {n}"):
        tilefold.set_num_threads(n)
    with pytest.raises(ValueError, match=f"search: num_threads must be 1 to 1024, got {n}"):
        filled(vectors(3)).search(vectors(1), 1, num_threads=n)
    with pytest.raises(ValueError, match=f"add: num_threads must be 1 to 1024, got {n}"):
        FlatIndex(DIM).add(vectors(3), num_threads=n)
    assert tilefold.get_num_threads() == before


@pytest.mark.parametrize("n", ["2", 1.5, [2]])
def test_numbers_of_threads_that_are_no_integers_are_refused(n):
    with pytest.raises(TypeError, match=r"set_num_threads"):
        tilefold.set_num_threads(n)
    with pytest.raises(TypeError, match=r"FlatIndex.search: num_threads"):
        filled(vectors(3)).search(vectors(1), 1, num_threads=n)
    with pytest.raises(TypeError, match=r"FlatIndex.add: num_threads"):
        FlatIndex(DIM).add(vectors(3), num_threads=n)


def test_the_environment_variable_chooses_the_number_of_threads():
    code = "import tilefold; print(tilefold.get_num_threads())"
    assert run_python(code, TILEFOLD_NUM_THREADS="3") == "3"
    code = "import tilefold as t; t.set_num_threads(2); print(t.get_num_threads())"
    assert run_python(code, TILEFOLD_NUM_THREADS="3") == "2"


def test_a_wrong_environment_variable_is_a_clear_error_and_an_empty_one_is_none():
    code = """
        import os, numpy as np, tilefold
        one = np.ones((1, 4), np.float32)
        for value in ("0", "-1", "1025", "two", "1.5", "2 ", "0x2", "9" * 30):
            os.environ["TILEFOLD_NUM_THREADS"] = value
            for call in (tilefold.get_num_threads, lambda: tilefold.search(one, one, 1)):
                try:
                    call()
                    print("accepted", repr(value))
                except ValueError as error:
                    assert f"TILEFOLD_NUM_THREADS: expected 1 to 1024, got '{value}'" in str(error)
            tilefold.search(one, one, 1, num_threads=1)
        os.environ["TILEFOLD_NUM_THREADS"] = ""
        tilefold.get_num_threads()
    """
    assert run_python(code) == ""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_the_default_number_of_threads_is_the_cpus_this_process_may_use():
    code = """
        import os, tilefold
        cpus = os.sched_getaffinity(0)
        assert tilefold.get_num_threads() == len(cpus)
        os.sched_setaffinity(0, [min(cpus)])
        print(tilefold.get_num_threads())
    """
    assert run_python(code, TILEFOLD_NUM_THREADS="") == "1"


def busy(index: FlatIndex, num_threads: int) -> None:
    index.search(vectors(64, seed=1), 10, num_threads=num_threads)


@needs_proc
def test_importing_starts_no_thread():
    code = """
        import os, numpy
        before = len(os.listdir("/proc/self/task"))
        import tilefold
        print(len(os.listdir("/proc/self/task")) - before)
    """
    assert run_python(code) == "0"


@needs_proc
def test_threads_are_reused_whoever_calls():
    index = filled(vectors(5000))
    busy(index, 4)
    before = len(os.listdir("/proc/self/task"))
    for _ in range(5):
        callers = [
            threading.Thread(target=lambda: [busy(index, 4) for _ in range(5)]) for _ in range(8)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    end = time.monotonic() + 5  # a joined thread may take a moment to vanish
    while len(os.listdir("/proc/self/task")) > before and time.monotonic() < end:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/task")) <= before


def test_threads_sleep_between_calls():
    busy(filled(vectors(20_000)), 4)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


# ---- forked children -----------------------------------------------------------------------------


def in_forked_child(work, seconds: float = 30):
    """What `work()` gives in a forked child; fails if the child hangs or dies."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=lambda: there.send(work()))
    child.start()
    there.close()
    try:
        assert here.poll(seconds), "the child hangs"
        return here.recv()
    finally:
        child.kill()
        child.join()


@forks
def test_a_forked_child_searches_after_its_parent_has_used_threads():
    index, queries = filled(vectors(20_000)), vectors(64, seed=1)
    expected = index.search(queries, 10, num_threads=4)
    found = in_forked_child(lambda: tuple(index.search(queries, 10, num_threads=4)))
    assert_same(found, expected)
    assert_same(index.search(queries, 10, num_threads=4), expected)


@forks
def test_a_grandchild_searches_too():
    index, queries = filled(vectors(20_000)), vectors(64, seed=1)
    expected = index.search(queries, 10, num_threads=4)

    def child():
        index.search(queries, 10, num_threads=4)
        return in_forked_child(lambda: tuple(index.search(queries, 10, num_threads=4)))

    assert_same(in_forked_child(child), expected)


@forks
def test_a_child_forked_in_the_middle_of_searches_searches():
    index, queries = filled(vectors(20_000)), vectors(64, seed=1)
    expected = index.search(queries, 10)
    stop = threading.Event()

    def look():
        while not stop.is_set():
            index.search(queries, 10, num_threads=3)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            found = in_forked_child(lambda: tuple(index.search(queries, 10, num_threads=3)), 10)
            assert_same(found, expected)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@forks
@pytest.mark.parametrize(
    "work",
    [
        lambda index: index.search(vectors(2), 3).ids.tolist() and None,
        lambda index: index.add(vectors(2)),
        lambda index: index.remove([1]),
        lambda index: pickle.loads(pickle.dumps(index)).add(vectors(1)),
    ],
    ids=["search", "add", "remove", "pickle"],
)
def test_a_child_forked_while_another_thread_adds_can_go_on(work):
    index = filled(vectors(100))
    many = vectors(400_000)
    adding = threading.Thread(target=lambda: index.add(many, num_threads=1))
    adding.start()
    try:
        while not index._store._lock.locked():
            time.sleep(0.0001)
        assert in_forked_child(lambda: work(index), 5) is None
    finally:
        adding.join()


@forks
def test_a_child_forked_while_another_thread_looks_up_ids_can_look_up_ids():
    large = filled(vectors(2_000_000, 1), np.random.default_rng(0).permutation(2_000_000))
    small = filled(vectors(100))
    started = threading.Event()
    looking = threading.Thread(target=lambda: (started.set(), large.reconstruct(5)))
    looking.start()
    started.wait()
    time.sleep(0.01)
    try:
        row = in_forked_child(lambda: small.reconstruct(5), 5)
    finally:
        looking.join()
    np.testing.assert_array_equal(row, vectors(100)[5])


class Neighbours:
    """A torch dataset whose items are searched in the worker."""

    def __init__(self, index: FlatIndex, queries: np.ndarray) -> None:
        self.index, self.queries = index, queries

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.index.search(self.queries[i : i + 1], 10, num_threads=2).ids[0]


@pytest.mark.parametrize(
    "start", [pytest.param("fork", marks=forks), pytest.param("spawn", marks=pytest.mark.slow)]
)
def test_a_worker_of_a_torch_data_loader_searches(start):
    data = pytest.importorskip("torch.utils.data")
    index, queries = filled(vectors(20_000)), vectors(8, seed=1)
    expected = index.search(queries, 10, num_threads=2).ids
    loader = data.DataLoader(
        Neighbours(index, queries),
        batch_size=4,
        num_workers=1,
        multiprocessing_context=start,
        timeout=60,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of its own about workers
        found = np.concatenate([batch.numpy() for batch in loader])
    np.testing.assert_array_equal(found, expected)


class Counting(FlatIndex):
    def __init__(self, dim: int, *, metric: str = "ip", device: str = "cpu") -> None:
        super().__init__(dim, metric=metric, device=device)
        self.hits = 0


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
def test_a_subclass_is_made_by_its_own_constructor(tmp_path, metric):
    index = Counting(2, metric=metric)
    index.add(np.eye(2, dtype=np.float32))
    index.save(tmp_path / "index")
    restored = pickle.loads(pickle.dumps(index)), copy.deepcopy(index)
    for again in (Counting.load(tmp_path / "index"), *restored):
        assert type(again) is Counting
        assert again.hits == 0
        assert again.metric == metric
        assert again.ids.tolist() == [0, 1]
