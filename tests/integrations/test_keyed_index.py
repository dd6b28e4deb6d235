"""Vectors by strings, as stores of other libraries keep them."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

from tilefold.integrations.keyed_index import KeyedIndex

ONE, TWO = np.float32([[1, 0]]), np.float32([[1, 0], [0, 1]])


def index_of(*ids: str) -> KeyedIndex:
    index = KeyedIndex("ip")
    index.put(list(ids), TWO[: len(ids)])
    return index


@pytest.mark.parametrize("wrong", ["", "\ud800", 3], ids=["empty", "surrogate", "integer"])
def test_a_wrong_id_changes_nothing(wrong):
    index = index_of("a")
    with pytest.raises((TypeError, ValueError)):
        index.put(["a", wrong], np.float32([[5, 5], [6, 6]]))
    assert index.vectors(["a"]).tolist() == [[1, 0]]
    assert len(index) == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_the_vectors_and_is_independent(copied):
    index = index_of("a", "b")
    other = copied(index)
    other.drop(["a"])
    assert ("a" in index, "a" in other) == (True, False)
    assert other.nearest(np.float32([0, 2]), 5) == [("b", 2.0)]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_while_the_lock_is_held_changes_its_copy():
    index = index_of("a")
    context = multiprocessing.get_context("fork")
    with index._lock:
        child = context.Process(target=index.put, args=(["b"], ONE))
        child.start()
    child.join(20)
    assert child.exitcode == 0
