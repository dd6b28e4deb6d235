"""What needs no cluster: merging answers in any order, addresses, versions, room for workers."""

import itertools
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefold import search
from tilefold.scale import Workers
from tilefold.scale.merged_answers import MergedAnswers
from tilefold.scale.ray_cluster import room_for
from tilefold.scale.worker_process import VersionMismatchError, check_versions, versions_of


@given(
    cuts=st.lists(st.integers(0, 40), max_size=4),
    k=st.integers(1, 45),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_parts_merge_to_the_same_answer_in_any_order(cuts, k, seed, data):
    rng = np.random.default_rng(seed)
    documents = rng.integers(-1, 2, (40, 3)).astype(np.float32)
    queries = rng.integers(-1, 2, (4, 3)).astype(np.float32)
    bounds = [0, *sorted(cuts), 40]
    parts = data.draw(st.permutations(list(itertools.pairwise(bounds))))
    merged = MergedAnswers(4, k)
    for begin, end in parts:
        if begin < end:
            found = search(queries, documents[begin:end], k)
            merged.add(found.scores, np.where(found.ids < 0, -1, found.ids + begin))
    whole = search(queries, documents, k)
    np.testing.assert_array_equal(merged.ids, whole.ids)
    assert merged.scores.tobytes() == whole.scores.tobytes()


def test_a_document_with_score_minus_infinity_comes_before_padding():
    merged = MergedAnswers(1, 2)
    merged.add(np.float32([[-np.inf, -np.inf]]), np.array([[-1, -1]]))
    merged.add(np.float32([[-np.inf, -np.inf]]), np.array([[5, -1]]))
    assert merged.ids.tolist() == [[5, -1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 0}, "number must be 1 to 100,000, got 0"),
        ({"threads": 0}, "threads must be 1 to 1,024, got 0"),
        ({"gpus": -1}, "gpus must be 0 to 1,024, got -1"),
        ({"address": "head"}, 'address must be "auto" or "host:port", got \'head\''),
        ({"address": "ray://head:1"}, "got 'ray://head:1'"),
        ({"address": "head:70000"}, "got 'head:70000'"),
    ],
)
def test_workers_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=f"Workers: .*{message}"):
        Workers(**options)


def test_an_address_that_is_no_string_is_refused():
    with pytest.raises(TypeError, match="Workers: address must be a string or None, got int"):
        Workers(address=5)


def test_versions_are_compared_package_by_package():
    here = versions_of(("numpy", "no-such-package"))
    assert here["numpy"] == np.__version__
    assert here["no-such-package"] is None
    check_versions(here)
    with pytest.raises(VersionMismatchError, match=f"{socket.gethostname()} has numpy .* expected"):
        check_versions({**here, "numpy": "1.0"})


def test_room_is_counted_machine_by_machine():
    """Three CPUs on one machine and one on another have room for one worker of two threads."""

    class Cluster:
        @staticmethod
        def nodes():
            return [
                {"Alive": True, "Resources": {"CPU": 3.0}},
                {"Alive": True, "Resources": {"CPU": 1.0}},
                {"Alive": False, "Resources": {"CPU": 8.0}},
                {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
            ]

    assert room_for(Cluster, Workers(threads=2)) == 1 + 4
    assert room_for(Cluster, Workers(threads=2, gpus=1)) == 1
