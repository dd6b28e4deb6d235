"""VectorTable and new_ids: rows keep their numbers, and an id is given once."""

import pickle

import numpy as np
import pytest

from tilefold.files.tensors import CorruptedFolderError
from tilefold.retrieval.document_ids import new_ids
from tilefold.retrieval.hnsw.vector_table import REMOVED, VectorTable

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


def table_of(ids: list[int]) -> VectorTable:
    table = VectorTable.empty(3).grown(len(ids))
    table.write_hidden(0, VECTORS[: len(ids)])
    table.n_rows = len(ids)
    table.publish(0, np.array(ids))
    return table


def test_rows_are_hidden_until_they_are_published():
    table = VectorTable.empty(3).grown(2)
    table.write_hidden(0, VECTORS[:2])
    table.n_rows = 2
    assert len(table) == 0
    assert table.ids.tolist() == [REMOVED, REMOVED]
    table.publish(0, np.array([7, 3]))
    assert table.rows_of(np.array([3, 7]), "add").tolist() == [1, 0]
    assert table.next_id == 8


def test_growing_keeps_rows_and_leaves_the_old_arrays_to_running_searches():
    table = table_of([5, 9])
    vectors = table.vectors
    grown = table.grown(3)
    assert grown is not table
    assert grown.capacity == 4
    assert grown.grown(4) is grown
    grown.write_hidden(2, VECTORS[2:3])
    np.testing.assert_array_equal(grown.vectors, vectors)
    assert not np.shares_memory(grown.vectors, vectors)
    assert grown.rows_of(np.array([9]), "add").tolist() == [1]


def test_compacting_drops_removed_rows_but_not_the_memory_of_their_ids():
    table = table_of([1, 2, 3, 4])
    table.remove(np.array([4, 1]), np.array([3, 0]))
    assert table.ids.tolist() == [REMOVED, 2, 3, REMOVED]
    small = table.compacted()
    assert small.ids.tolist() == [2, 3]
    assert small.rows_of(np.array([3]), "add").tolist() == [1]
    np.testing.assert_array_equal(small.vectors, VECTORS[1:3])
    assert small.next_id == 5
    assert table.n_rows == 4


@pytest.mark.parametrize(
    ("ids", "message"),
    [([0, -2, 3, 4], "ids must not be negative, got -2"), ([5, 2, 5, 4], "id 5 is repeated")],
)
def test_saved_ids_that_no_index_has_are_refused(ids, message):
    with pytest.raises(CorruptedFolderError, match=f"load: {message}"):
        VectorTable.restored(VECTORS, np.array(ids), 3, next_id=9)
    removed = np.array([REMOVED, 2, REMOVED, 4])
    assert len(VectorTable.restored(VECTORS, removed, 3, next_id=9)) == 2


def test_an_absent_id_is_named():
    with pytest.raises(ValueError, match=r"^HnswIndex\.remove: id 8 is not in the index"):
        table_of([1, 2]).rows_of(np.array([1, 8]), "HnswIndex.remove")


def test_new_ids_continue_after_the_largest():
    assert new_ids(None, 3, 10, "add").tolist() == [10, 11, 12]
    assert new_ids(None, 1, 2**63 - 1, "add").tolist() == [2**63 - 1]
    with pytest.raises(ValueError, match=r"^add: the next id would be .* below 2\^63; pass ids"):
        new_ids(None, 2, 2**63 - 1, "add")


def test_new_ids_are_no_view_of_the_callers():
    given = np.array([4, 2])
    ids = new_ids(given, 2, 0, "add")
    given[:] = 0
    assert ids.tolist() == [4, 2]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, 1], "^add: id 1 is repeated"),
        ([1, 2], "^add: expected 3 ids, one per vector, got 2"),
    ],
)
def test_new_ids_are_unique_and_one_per_row(ids, message):
    with pytest.raises(ValueError, match=message):
        new_ids(ids, 3, 0, "add")


def test_pickles_of_the_former_module_load():
    """Older pickles name the class tilefold.retrieval.hnsw.HnswIndex, as if hnsw were a file."""
    pytest.importorskip("hnswlib", reason="hnswlib is not installed: pip install tilefold[hnsw]")
    from tilefold.retrieval.hnsw import HnswIndex

    assert (
        pickle.loads(b"\x80\x04\x8c\x17tilefold.retrieval.hnsw\x8c\x09HnswIndex\x93.") is HnswIndex
    )
