"""Replacing, restoring and merging: an index answers as one that was built from what is left."""

import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tilefold import FlatIndex, reference

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.int8]


def drawn(rng, n, dim=3):
    return rng.integers(-2, 3, (n, dim)).astype(np.float32)


def filled(vectors, ids=None, **options):
    index = FlatIndex(vectors.shape[1])
    index.add(vectors, ids, **options)
    return index


def assert_holds(index, rows):
    """The index has these vectors by id, and finds them as the reference does."""
    ids = np.array([*rows], np.int64)
    documents = np.array([*rows.values()], np.float32).reshape(-1, index.dim)
    np.testing.assert_array_equal(index.ids, ids)
    queries = np.float32([[1, 2, 3], [0, 0, 0]])
    scores, found = reference.search(queries, documents, 4, ids=ids)
    ours = index.search(queries, 4)
    assert ours.ids.tobytes() == found.tobytes()
    assert ours.scores.tobytes() == scores.tobytes()


class AnyEdits(RuleBasedStateMachine):
    """Rows are a dict in the order of adding; `kept` are those that can be restored."""

    @initialize(seed=st.integers(0, 99))
    def begin(self, seed):
        self.rng = np.random.default_rng(seed)
        self.index, self.rows, self.kept = FlatIndex(3), {}, {}

    def some(self, ids, data):
        return data.draw(st.lists(st.sampled_from([*ids]), unique=True, min_size=1, max_size=40))

    @rule(ids=st.lists(st.integers(0, 200), unique=True, max_size=60))
    def add(self, ids):
        ids = [i for i in ids if i not in self.rows]
        vectors = drawn(self.rng, len(ids))
        self.index.add(vectors, ids)
        self.rows |= dict(zip(ids, vectors, strict=True))
        self.kept = {i: row for i, row in self.kept.items() if i not in self.rows}

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def replace(self, data):
        ids = self.some(self.rows, data)
        vectors = drawn(self.rng, len(ids))
        self.index.replace(vectors, ids)
        self.rows = {i: row for i, row in self.rows.items() if i not in ids}
        self.rows |= dict(zip(ids, vectors, strict=True))

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), keep=st.booleans())
    def remove(self, data, keep):
        ids = self.some(self.rows, data)
        self.index.remove(ids, keep=keep)
        for i in ids:
            row = self.rows.pop(i)
            if keep:
                self.kept[i] = row

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def restore(self, data):
        ids = self.some(self.kept, data)
        self.index.restore(ids)
        for i in ids:
            self.rows[i] = self.kept.pop(i)

    @rule(data=st.data(), n=st.integers(0, 50))
    def merge(self, data, n):
        offset = max([*self.rows, 0]) + 1
        vectors = drawn(self.rng, n)
        other = filled(vectors)
        gone = data.draw(st.integers(0, n))
        other.remove(np.arange(gone))
        self.index.merge(other, id_offset=offset)
        self.rows |= {i + offset: vectors[i] for i in range(gone, n)}
        self.kept = {i: row for i, row in self.kept.items() if i not in self.rows}
        assert len(other) == n - gone

    @rule()
    def pickle(self):
        self.index = pickle.loads(pickle.dumps(self.index))

    @invariant()
    def answers_as_the_reference(self):
        assert_holds(self.index, self.rows)


def test_any_sequence_of_edits_answers_as_the_reference():
    run_state_machine_as_test(AnyEdits)


def test_replacing_names_an_absent_or_repeated_id_and_replaces_nothing():
    index = filled(np.eye(3, dtype=np.float32))
    for ids, message in [
        ([0, 7], "id 7 is not in the index"),
        ([1, 1], "id 1 is repeated"),
        ([1], "expected 2 ids"),
    ]:
        with pytest.raises(ValueError, match=f"FlatIndex.replace: {message}"):
            index.replace(np.ones((2, 3), np.float32), ids)
    np.testing.assert_array_equal(index.reconstruct([0, 1, 2]), np.eye(3))


def test_replacing_by_a_row_that_is_not_finite_is_refused_or_never_retrieved():
    index = filled(np.eye(3, dtype=np.float32))
    bad = np.float32([[np.nan, 0, 0]])
    with pytest.raises(ValueError, match=r"FlatIndex.replace: row 0 of vectors has a NaN"):
        index.replace(bad, [1])
    assert index.search(np.ones((1, 3), np.float32), 3).ids.tolist() == [[0, 1, 2]]
    index.replace(bad, [1], nonfinite="exclude")
    assert index.search(np.ones((1, 3), np.float32), 3).ids.tolist() == [[0, 2, -1]]


def test_only_what_was_kept_can_be_restored():
    index = filled(np.eye(3, dtype=np.float32))
    index.remove([0])
    index.remove([1], keep=True)
    for ids, wrong in [([0], 0), ([1, 2], 2), ([99], 99)]:
        with pytest.raises(ValueError, match=f"FlatIndex.restore: id {wrong} cannot be restored"):
            index.restore(ids)
    index.add(np.float32([[5, 5, 5]]), [1])
    with pytest.raises(ValueError, match="id 1 cannot be restored"):
        index.restore([1])
    assert index.reconstruct(1).tolist() == [5, 5, 5]


@pytest.mark.parametrize("dtype", DTYPES)
def test_restored_rows_have_the_bits_that_were_removed(dtype):
    vectors = np.random.default_rng(0).integers(-9, 9, (6, 5)).astype(dtype)
    index = filled(vectors)
    before = index.reconstruct(4)
    index.remove([0, 1, 2, 3, 4], keep=True)  # most rows: the segment is rewritten
    assert len(index) == 1
    index.restore(4)
    assert index.reconstruct(4).tobytes() == before.tobytes()
    assert 4 in index
    assert 3 not in index


def test_changing_the_ids_after_removing_changes_nothing():
    index = filled(np.eye(3, dtype=np.float32))
    ids = np.array([0, 1])
    index.remove(ids, keep=True)
    ids[:] = 2
    index.restore([0, 1])
    assert sorted(index.ids) == [0, 1, 2]


@pytest.mark.parametrize("mmap", [True, False])
def test_a_saved_index_restores_what_was_removed(tmp_path, mmap):
    index = filled(np.eye(3, dtype=np.float32))
    index.remove([2, 0], keep=True)
    index.save(tmp_path / "index")
    loaded = FlatIndex.load(tmp_path / "index", mmap=mmap)
    assert loaded.ids.tolist() == [1]
    loaded.restore([0])
    np.testing.assert_array_equal(loaded.reconstruct([0, 1]), np.eye(3)[:2])


def test_merging_shares_the_vectors_of_large_segments():
    rng = np.random.default_rng(0)
    first, second = (filled(rng.standard_normal((70_000, 4)).astype(np.float32)) for _ in "ab")
    first.merge(second, id_offset=70_000)
    assert np.shares_memory(first.segments[1].vectors, second.segments[0].vectors)
    assert len(first) == 140_000
    assert second.ids[-1] == 69_999


def test_merging_names_what_does_not_fit_and_adds_nothing():
    index = filled(np.eye(3, dtype=np.float32))
    for other, options, error, message in [
        (np.eye(3), {}, TypeError, "other must be a FlatIndex, got ndarray"),
        (FlatIndex(4), {}, ValueError, "documents of other have dim 4"),
        (filled(np.eye(3, dtype=np.float16)), {"id_offset": 9}, TypeError, "has dtype float32"),
        (filled(np.eye(3, dtype=np.float32)), {}, ValueError, "id 0 is already in the index"),
        (index, {}, ValueError, "id 0 is already in the index"),
        (filled(np.eye(3, dtype=np.float32)), {"id_offset": -1}, ValueError, "ids of other"),
        (filled(np.eye(3, dtype=np.float32)), {"id_offset": 2**63 - 1}, ValueError, "ids of"),
        (filled(np.eye(3, dtype=np.float32)), {"id_offset": 1.5}, TypeError, "id_offset must be"),
    ]:
        with pytest.raises(error, match=f"FlatIndex.merge: .*{message}"):
            index.merge(other, **options)
        assert index.ids.tolist() == [0, 1, 2]
    index.merge(index, id_offset=3)
    assert index.ids.tolist() == [0, 1, 2, 3, 4, 5]


def test_an_index_may_be_merged_into_an_empty_one_and_goes_on_counting():
    index = FlatIndex(3)
    index.merge(FlatIndex(3))
    index.merge(filled(np.eye(3, dtype=np.float16)), id_offset=7)
    assert index.dtype == "float16"
    index.add(np.ones((1, 3), np.float16))
    assert index.ids.tolist() == [7, 8, 9, 10]


def test_adding_an_id_that_is_there_says_that_replace_does_it():
    index = filled(np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match=r"id 1 is already in the index; replace\(\) gives"):
        index.add(np.ones((1, 3), np.float32), [1])
    assert index.reconstruct(1).tolist() == [0, 1, 0]


@pytest.mark.parametrize("first", DTYPES)
@pytest.mark.parametrize("second", DTYPES)
def test_documents_of_two_dtypes_are_not_kept_together(first, second):
    vectors = np.full((2, 3), 3)
    index = filled(vectors.astype(first))
    index.remove([0, 1], keep=True)
    index.add(vectors.astype(second), [2, 3])  # an empty index takes any dtype
    before = index.reconstruct([2, 3])
    if first is second:
        index.remove([2, 3], keep=True)
        index.restore([2, 3])
    else:
        with pytest.raises(TypeError, match=r"FlatIndex\.remove: keep=True is not possible for"):
            index.remove([2, 3], keep=True)
    assert index.ids.tolist() == [2, 3]
    assert index.reconstruct([2, 3]).tobytes() == before.tobytes()
