"""FlatIndex: documents replaced, restored, and merged from another index."""

import threading

import numpy as np
import pytest

import tilefold
from tilefold import reference

DIM = 12
Q, D, E = (
    np.random.default_rng(i).standard_normal((n, DIM)).astype("f4")
    for i, n in ((0, 4), (1, 60), (2, 60))
)


def index_of(rows=None, ids=None):
    index = tilefold.FlatIndex(DIM)
    index.add(D if rows is None else rows, ids=ids)
    return index


def assert_holds(index, documents):
    """The index answers as an index of these documents, by id."""
    ids = np.array(sorted(documents))
    vectors = np.stack([documents[i] for i in ids])
    assert sorted(index.ids) == ids.tolist()
    expected = reference.search(Q, vectors, 8, ids=ids)
    np.testing.assert_array_equal(index.search(Q, 8).ids, expected[1])
    np.testing.assert_array_equal(index.search(Q, 8).scores, expected[0])
    np.testing.assert_array_equal(index.reconstruct(ids), vectors)


def test_any_sequence_of_changes_leaves_the_documents_of_a_dictionary():
    rng = np.random.default_rng(7)
    index, there, kept = tilefold.FlatIndex(DIM), {}, {}
    for step in range(300):
        vectors = rng.standard_normal((3, DIM)).astype("f4")
        known = rng.permutation(np.array(sorted(there), np.int64))[:3]
        match rng.integers(0, 6):
            case 0 | 1:
                ids = rng.choice(500, 3, replace=False)
                if not set(ids) & there.keys():
                    index.add(vectors, ids=ids)
                    there |= dict(zip(ids, vectors, strict=True))
                    kept = {i: v for i, v in kept.items() if i not in there}
            case 2:
                index.replace(vectors[: len(known)], known)
                there |= dict(zip(known, vectors, strict=False))
            case 3:
                index.remove(known)
                [there.pop(i) for i in known]
            case 4:
                index.remove(known, keep=True)
                kept |= {i: there.pop(i) for i in known}
            case 5:
                back = rng.permutation(np.array(sorted(kept), np.int64))[:2]
                index.restore(back)
                there |= {i: kept.pop(i) for i in back}
        if there and step % 10 == 0:
            assert_holds(index, there)
    assert_holds(index, there)


def test_a_replaced_document_is_never_absent():
    index = index_of()
    stop = threading.Event()

    def replace():
        for i in range(200):
            index.replace((D if i % 2 else 2 * D)[:5], np.arange(5))
        stop.set()

    thread = threading.Thread(target=replace)
    thread.start()
    while not stop.is_set():
        assert set(range(5)) <= set(index.search(Q[:1], 60).ids[0])
    thread.join()


@pytest.mark.parametrize(
    ("vectors", "ids", "error", "message"),
    [
        (D[:2], [0, 99], ValueError, "id 99 is not in the index"),
        (D[:2], [0, 0], ValueError, "id 0 is repeated"),
        (D[:2], [0], ValueError, "expected 2 ids, one per vector, got 1"),
        (D[:1, :3], [0], ValueError, "vectors have dim 3"),
        (D[:1].astype("f2"), [0], TypeError, "the index has dtype float32"),
        (np.full((1, DIM), np.nan, "f4"), [0], ValueError, "row 0 of vectors has a NaN"),
    ],
)
def test_a_replacement_that_does_not_fit_changes_nothing(vectors, ids, error, message):
    index = index_of()
    with pytest.raises(error, match=f"^FlatIndex.replace: .*{message}"):
        index.replace(vectors, ids)
    assert_holds(index, dict(enumerate(D)))


def test_all_documents_may_be_removed_and_restored():
    index = index_of()
    index.remove(np.arange(60), keep=True)
    assert len(index) == 0
    assert 3 not in index
    assert (index.search(Q, 3).ids == -1).all()
    index.restore(np.arange(60))
    assert_holds(index, dict(enumerate(D)))


def test_only_kept_documents_are_restored():
    index = index_of()
    index.remove([1, 2], keep=True)
    index.remove([3])
    for ids, message in (([3], "id 3 is not kept"), ([4], "id 4 is already in the index")):
        with pytest.raises(ValueError, match=f"^FlatIndex.restore: {message}"):
            index.restore([1, *ids])
    assert 1 not in index
    index.add(E[:1], ids=[1])  # takes the place of the kept one
    with pytest.raises(ValueError, match="id 1 is already in the index"):
        index.restore([1])
    index.remove([1])
    with pytest.raises(ValueError, match="id 1 is not kept"):
        index.restore([1])


def test_kept_documents_are_not_saved(tmp_path):
    index = index_of()
    index.remove(np.arange(50), keep=True)
    index.save(tmp_path / "index")
    loaded = tilefold.FlatIndex.load(tmp_path / "index")
    assert_holds(loaded, dict(enumerate(D[50:], 50)))
    with pytest.raises(ValueError, match="id 5 is not kept"):
        loaded.restore([5])


def test_an_index_takes_in_another():
    one, other = index_of(), index_of(E, np.arange(100, 160))
    other.remove([100])
    one.merge_from(other)
    assert_holds(one, dict(enumerate(D)) | dict(enumerate(E[1:], 101)))
    assert_holds(other, dict(enumerate(E[1:], 101)))
    one.add(D[:1])
    assert one.ids[-1] == 160
    one.remove([101])
    assert 101 in other


def test_an_index_may_take_in_itself_only_where_it_is_empty():
    index = tilefold.FlatIndex(DIM)
    index.merge_from(index)
    index.add(D)
    with pytest.raises(ValueError, match="id 0 is already in the index"):
        index.merge_from(index)
    assert_holds(index, dict(enumerate(D)))


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (D, TypeError, "other must be a FlatIndex, got ndarray"),
        (tilefold.FlatIndex(3), ValueError, "documents of other have dim 3"),
        (tilefold.FlatIndex(DIM, "l2"), ValueError, 'other must have metric="ip"'),
    ],
)
def test_an_index_that_does_not_fit_is_refused(other, error, message):
    with pytest.raises(error, match=f"^FlatIndex.merge_from: {message}"):
        index_of().merge_from(other)


def test_indexes_of_other_dtypes_or_with_common_ids_are_refused():
    index, half = index_of(), index_of(E.astype("f2"), np.arange(100, 160))
    with pytest.raises(TypeError, match="the index has dtype float32"):
        index.merge_from(half)
    with pytest.raises(ValueError, match="id 59 is already in the index"):
        index.merge_from(index_of(E, np.arange(59, 119)))
    assert_holds(index, dict(enumerate(D)))
