"""Vectors by strings, as stores of other libraries keep them."""

import copy
import json
import multiprocessing
import pickle

import numpy as np
import pytest
from small_collections import failures_beside

import tilefold
from tilefold.files.done_once import write_checked
from tilefold.files.published_folder import written_aside
from tilefold.files.storage import published_checksum
from tilefold.integrations import keyed_content
from tilefold.integrations.keyed_index import KeyedIndex

ONE, TWO = np.float32([[1, 0]]), np.float32([[1, 0], [0, 1]])


def index_of(*ids: str, metric: str = "ip") -> KeyedIndex:
    index = KeyedIndex(metric)
    index.put(list(ids), TWO[: len(ids)], [f"record {id}" for id in ids])
    return index


def everything(index: KeyedIndex) -> dict[str, tuple[str, list[float]]]:
    content = index.content
    return {
        id: (record, content.vectors([number])[0].tolist())
        for number, (id, record) in content.items()
    }


@pytest.mark.parametrize("wrong", ["", "\ud800", 3], ids=["empty", "surrogate", "integer"])
def test_a_wrong_id_changes_nothing(wrong):
    index = index_of("a")
    with pytest.raises((TypeError, ValueError)):
        index.put(["a", wrong], np.float32([[5, 5], [6, 6]]), ["x", "y"])
    assert everything(index) == {"a": ("record a", [1, 0])}


@pytest.mark.parametrize("bad", [1e30, np.nan])
def test_a_wrong_vector_changes_nothing(bad):
    index = index_of("a", metric="l2")
    with pytest.raises(ValueError, match=r"^put: .*(row 1 of vectors has a norm|document 'b' has)"):
        index.put(["a", "b"], np.float32([[5, 5], [bad, 0]]), ["x", "y"])
    with pytest.raises(TypeError, match="dtype float32 but vectors are float16"):
        index_of("a").put(["b", "a"], np.float16([[5, 5], [6, 0]]), ["x", "y"])
    assert everything(index) == {"a": ("record a", [1, 0])}
    assert KeyedIndex("l2").put([], [], []) is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_the_vectors_and_is_independent(copied):
    index = index_of("a", "b")
    other = copied(index)
    other.drop(["a"])
    assert ("a" in index, "a" in other) == (True, False)
    content = other.content
    ((number, score),) = content.nearest("search", np.float32([0, 2]), 5)
    assert (content[number], score) == (("b", "record b"), 2.0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_while_the_locks_are_held_changes_its_copy():
    index = index_of("a")
    context = multiprocessing.get_context("fork")
    with index._changes, index._moment:
        child = context.Process(target=index.put, args=(["b"], ONE, ["b"]))
        child.start()
    child.join(20)
    assert child.exitcode == 0


def test_a_content_stays_as_it_was():
    index = index_of("a", "b")
    before, numbers = index.at(["b", "no", "a", "b"])
    assert numbers == [1, 0, 1]
    index.put(["b", "c"], np.float32([[7, 7], [8, 8]]), ["new b", "c"])
    index.drop(["a"])
    assert before.vectors(numbers).tolist() == [[0, 1], [1, 0], [0, 1]]
    assert [before[number][1] for number in numbers] == ["record b", "record a", "record b"]
    assert len(before.nearest("search", ONE[0], 9)) == 2
    assert everything(index) == {"b": ("new b", [7, 7]), "c": ("c", [8, 8])}


def test_random_changes_leave_what_a_dictionary_has(monkeypatch, tmp_path):
    monkeypatch.setattr(keyed_content, "_BLOCK", 4)
    rng, index, expected = np.random.default_rng(0), KeyedIndex("l2"), {}
    for step in range(200):
        ids = [f"d{i}" for i in rng.integers(0, 30, rng.integers(1, 9))]
        if rng.random() < 0.6:
            rows = rng.standard_normal((len(ids), 3)).astype(np.float32)
            records = [f"{id} {step}" for id in ids]
            index.put(ids, rows, records)
            expected |= dict(zip(ids, zip(records, rows.tolist(), strict=True), strict=True))
        else:
            index.drop(ids)
            for id in ids:
                expected.pop(id, None)
        assert everything(index) == expected
        assert list(everything(index)) == list(expected)
        assert len(index) == len(expected)
    index.save(tmp_path / "index", lambda record: ["kept", record])
    loaded = KeyedIndex.load(tmp_path / "index", lambda row: (row[1].split()[0], row[1]))
    assert list(everything(loaded).items()) == list(expected.items())
    loaded.put(["new"], np.float32([[1, 2, 3]]), ["new"])
    assert list(everything(loaded)) == [*expected, "new"]


def test_an_index_that_was_saved_with_strings_is_read(tmp_path):
    """As tilefold wrote it before documents had numbers."""
    strings = tilefold.FlatIndex(2, metric="cosine")
    strings.add(np.float32([[1, 0], [0, 1], [1, 1]]), ids=["a", "b", "c"])
    strings.replace(np.float32([[2, 1]]), ids=["a"])
    strings.remove(["b"])
    text = json.dumps({"metric": "cosine", "records": ["a", "c"]})
    with written_aside(tmp_path / "index", "records.safetensors") as aside:
        strings.save(aside / "index")
        tensors = {"json": text, "index": published_checksum(aside / "index")}
        write_checked(
            aside / "records.safetensors",
            {name: np.frombuffer(part.encode(), np.uint8) for name, part in tensors.items()},
        )
    loaded = KeyedIndex.load(tmp_path / "index", lambda record: (record, record))
    content = loaded.content
    found = content.nearest("search", np.float32([1, 1]), 5)
    assert [content[number][0] for number, _ in found] == ["c", "a"]


def test_a_search_in_another_thread_sees_one_moment():
    """Each change gives all vectors one length, and says so in the records."""
    index, ids = KeyedIndex("ip"), [f"d{i}" for i in range(20)]

    def change(step: int) -> None:
        index.put(ids, np.full((20, 4), step, np.float32), [step] * 20)
        if step % 7 == 0:
            index.drop(ids)

    def look() -> None:
        content, numbers = index.at(ids)
        found = content.nearest("search", np.float32([1, 0, 0, 0]), 30)
        assert len(found) == len(content) == len(numbers) in (0, 20)
        assert len({score for _, score in found}) <= 1
        assert all(content[number][1] == score for number, score in found)

    assert failures_beside(change, look) == []
