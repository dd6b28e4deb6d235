"""The index with faiss's names, against faiss's flat indexes."""

from typing import Any

import numpy as np
import pytest

faiss: Any = pytest.importorskip("faiss", reason='not installed: pip install "tilefold[bench]"')

from tilefold.integrations import faiss_style

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of faiss's wrappers

RNG = np.random.default_rng(1)
X = RNG.standard_normal((600, 20)).astype(np.float32)
Q = RNG.standard_normal((40, 20)).astype(np.float32)
IDS = RNG.permutation(5000)[:600].astype(np.int64)
NAMES = ["IndexFlatIP", "IndexFlatL2"]


def both(name: str) -> tuple[Any, Any]:
    return getattr(faiss_style, name)(20), getattr(faiss, name)(20)


def with_ids(name: str) -> tuple[Any, Any]:
    own, theirs = both(name)
    theirs = faiss.IndexIDMap2(theirs)
    for index in (own, theirs):
        index.add_with_ids(X, IDS)
    return own, theirs


def same(own: Any, theirs: Any) -> None:
    for ours, others in zip(own, theirs, strict=True):
        assert ours.dtype == others.dtype
        assert ours.shape == others.shape
        if ours.dtype == np.float32:
            np.testing.assert_allclose(ours, others, rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(ours, others)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 10, 700])
def test_searches_give_the_arrays_of_faiss_padding_included(name, k):
    own, theirs = both(name)
    for index in (own, theirs):
        index.add(X[:400])
        index.add(X[400:])
    ours, others = own.search(Q, k), theirs.search(Q, k)
    same(ours[:1], others[:1])
    depth = min(k, 50)  # deeper, scores that differ in rounding alone change places
    same([ours[1][:, :depth]], [others[1][:, :depth]])
    assert (ours[1] == -1).sum() == (others[1] == -1).sum() == 40 * max(0, k - 600)
    assert (own.d, own.ntotal, own.is_trained) == (theirs.d, theirs.ntotal, theirs.is_trained)
    assert own.metric_type == theirs.metric_type


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_index_pads_as_faiss_does(name):
    own, theirs = both(name)
    same(own.search(Q, 3), theirs.search(Q, 3))


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_faisss_id_map(name):
    own, theirs = with_ids(name)
    same(own.search(Q, 10), theirs.search(Q, 10))
    same([own.reconstruct(int(IDS[7]))], [theirs.reconstruct(int(IDS[7]))])
    gone = np.array([IDS[3], IDS[500], 4999 if 4999 not in IDS else 5001])
    assert own.remove_ids(gone) == theirs.remove_ids(gone) == 2
    assert own.ntotal == theirs.ntotal == 598
    same(own.search(Q, 10), theirs.search(Q, 10))
    same([own.reconstruct_n(0, 5)], [X[[0, 1, 2, 4, 5]]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("edge", [2.0, 30.0])
def test_range_searches_find_the_hits_of_faiss(name, edge):
    own, theirs = with_ids(name)
    ours, others = own.range_search(Q, edge), theirs.range_search(Q, edge)
    same(ours[:1], others[:1])
    assert int(ours[0][-1]) > 0 or name == "IndexFlatL2" or edge > 20
    for begin, end in zip(ours[0][:-1].astype(int), ours[0][1:].astype(int), strict=True):
        assert set(ours[2][begin:end]) == set(others[2][begin:end])
        scores = ours[1][begin:end] * (-1 if name == "IndexFlatL2" else 1)
        assert (np.diff(scores) <= 0).all()
        np.testing.assert_allclose(np.sort(ours[1][begin:end]), np.sort(others[1][begin:end]), 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_at_the_threshold_is_no_hit_as_in_faiss(name):
    for index in both(name):
        index.add(np.eye(3, 20, dtype=np.float32))
        edge = 1.0 if name == "IndexFlatIP" else 0.0
        assert index.range_search(np.eye(1, 20, dtype=np.float32), edge)[0].tolist() == [0, 0]
        nearer = edge - 1e-6 if name == "IndexFlatIP" else 1e-6
        assert index.range_search(np.eye(1, 20, dtype=np.float32), nearer)[2].tolist() == [0]


@pytest.mark.parametrize("name", NAMES)
def test_labels_move_up_after_a_removal_as_in_faiss(name):
    own, theirs = both(name)
    for index in (own, theirs):
        index.add(X)
        assert index.remove_ids(np.array([0, 5, 599, 700])) == 3
        assert index.remove_ids(np.array([1])) == 1
        index.add(X[:2] + 1)
    same(own.search(Q, 10), theirs.search(Q, 10))
    same(
        [own.reconstruct(3), own.reconstruct_n(590, 8)],
        [theirs.reconstruct(3), theirs.reconstruct_n(590, 8)],
    )
    same([own.reconstruct_batch([3, 597])], [theirs.reconstruct_batch(np.array([3, 597]))])
    same(own.range_search(Q, 9)[:1], theirs.range_search(Q, 9)[:1])
    same([own.reconstruct_n(0, -1)], [theirs.reconstruct_n(0, -1)])


@pytest.mark.parametrize("name", NAMES)
def test_reset_starts_again_with_either_kind_of_labels(name):
    own, _ = both(name)
    own.add(X)
    own.reset()
    assert own.ntotal == 0
    own.add_with_ids(X[:2], [8, 9])
    assert set(own.search(Q[:1], 2)[1][0]) == {8, 9}


def test_float64_and_integers_are_converted_without_a_warning_as_in_faiss():
    own, theirs = both("IndexFlatIP")
    for index in (own, theirs):
        index.add(X.astype(np.float64))
    same(own.search(Q.astype(np.float64), 3), theirs.search(Q.astype(np.float64), 3))


@pytest.mark.parametrize("as_list", [False, True])
def test_bfloat16_is_converted_and_not_read_as_integers(as_list):
    torch = pytest.importorskip("torch")
    rows, queries = (torch.from_numpy(x).bfloat16() for x in (X, Q))
    own, theirs = both("IndexFlatL2")
    own.add(list(rows) if as_list else rows)
    theirs.add(rows.float().numpy())
    wide = queries.float().numpy()
    same(own.search(queries, 3), theirs.search(wide, 3))
    same(own.range_search(queries, 9)[:1], theirs.range_search(wide, 9)[:1])
    same([own.reconstruct(3)], [theirs.reconstruct(3)])
    own.reset()
    own.add(np.arange(40, dtype=np.uint16).reshape(2, 20))  # integers, as in faiss
    assert own.reconstruct(1).tolist() == list(range(20, 40))


def test_ties_go_by_label_and_nan_is_an_error():
    own, _ = both("IndexFlatIP")
    own.add_with_ids(np.ones((3, 20), np.float32), [30, 10, 20])
    assert own.search(np.ones((1, 20)), 3)[1].tolist() == [[10, 20, 30]]
    bad = np.full((1, 20), np.nan, np.float32)
    for call in (lambda: own.add_with_ids(bad, [1]), lambda: own.search(bad, 1)):
        with pytest.raises(ValueError, match=r"row 0 of x has a NaN or an infinity$"):
            call()


def test_what_is_not_possible_is_refused():
    own, _ = both("IndexFlatL2")
    own.add(X)
    with pytest.raises(ValueError, match="this index has labels of add; keep to that"):
        own.add_with_ids(X, IDS)
    with pytest.raises(ValueError, match="label 600 is not in the index of 600"):
        own.reconstruct(600)
    with pytest.raises(ValueError, match="n0 is 599 and ni 2, but there are 600 vectors"):
        own.reconstruct_n(599, 2)
    with pytest.raises(
        ValueError, match=r"x must be numbers \[n, 20\], got float32 of shape \(20,\)"
    ):
        own.search(Q[0], 1)
    with pytest.raises(ValueError, match="vectors have dim 3 but the index has dim 20"):
        own.add(X[:, :3])
    with pytest.raises(NotImplementedError, match=r"params is not implemented; flat_index\.search"):
        own.search(Q, 1, params=object())
    with pytest.raises(ValueError, match="metric must be METRIC_INNER_PRODUCT"):
        faiss_style.IndexFlat(3, 23)
    with pytest.raises(TypeError, match="x must be"):
        own.remove_ids(object())


@pytest.mark.parametrize("ids", [["a", "b"], np.array(["a", "b"]), None, [0.5, 1.5]])
def test_ids_that_are_no_integers_are_refused(ids):
    own, _ = both("IndexFlatIP")
    with pytest.raises(TypeError, match=r"^IndexFlat\.add_with_ids: ids must be"):
        own.add_with_ids(X[:2], ids)
    own.add(X[:2])
    assert own.search(X[:1], 2)[1].dtype == np.int64


@pytest.mark.parametrize("name", NAMES)
def test_another_dimension_is_refused_by_an_empty_index(name):
    own, _ = both(name)
    for call in (lambda x: own.search(x, 2), lambda x: own.range_search(x, 1.0), own.add):
        with pytest.raises(ValueError, match="vectors have dim 3 but the index has dim 20"):
            call(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_negative_labels_are_passed_over_as_in_faiss(name):
    own, theirs = both(name)
    for index in (own, theirs):
        index.add(X)
    gone = np.array([-1, 3, -7, 700])
    assert own.remove_ids(gone) == theirs.remove_ids(gone) == 1
    assert own.remove_ids([-1]) == own.remove_ids([]) == 0
    same(own.search(Q, 5), theirs.search(Q, 5))
