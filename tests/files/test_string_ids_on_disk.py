"""Saved indexes whose ids are strings, damage to them, and folders from before there were any."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from saved_indexes import contents, filled, vectors

from tilefold import FlatIndex
from tilefold.files.storage import _checksum, sha256
from tilefold.files.tensors import map_tensors, write_tensors
from tilefold.retrieval import flat_folder
from tilefold.retrieval.removed_rows import no_rows

DIM = 24
VERSION_3 = Path(__file__).parent / "index_version_3"


def names(n: int) -> list[str]:
    return [f"doc-{i}-ü漢" for i in range(n)]


def named(n: int = 300) -> FlatIndex:
    index = FlatIndex(DIM)
    index.add(vectors(n), ids=names(n))
    index.remove(names(n)[::3])
    index.remove(names(n)[1:9:3], keep=True)
    return index


@pytest.mark.parametrize("mmap", [True, False])
def test_a_loaded_index_has_the_strings_and_answers_that_were_saved(mmap, tmp_path):
    index = named()
    index.save(tmp_path / "index")
    loaded = FlatIndex.load(tmp_path / "index", mmap=mmap)
    mine, theirs = (i.search(vectors(5, seed=9), 250) for i in (index, loaded))
    assert mine.scores.tobytes() == theirs.scores.tobytes()
    assert mine.ids.tolist() == theirs.ids.tolist()
    assert loaded.ids.tolist() == index.ids.tolist()
    loaded.restore(names(300)[4])
    assert names(300)[4] in loaded
    with pytest.raises(ValueError, match="is already in the index"):
        loaded.add(vectors(1), ids=[names(300)[2]])
    loaded.add(vectors(1), ids=[names(300)[0]])  # it was removed for good
    loaded.save(tmp_path / "index")
    assert FlatIndex.load(tmp_path / "index").ids.tolist() == loaded.ids.tolist()


def test_an_index_that_lost_all_documents_still_has_strings(tmp_path):
    index = FlatIndex(DIM)
    index.add(vectors(2), ids=["a", "b"])
    index.remove(["a", "b"])
    index.save(tmp_path / "index")
    loaded = FlatIndex.load(tmp_path / "index")
    assert len(loaded) == 0
    with pytest.raises(TypeError, match="ids must be strings"):
        loaded.add(vectors(1), ids=[1])
    loaded.add(vectors(1), ids=["a"])
    assert loaded.ids.tolist() == ["a"]


def test_integer_ids_are_still_written_as_version_3_and_strings_as_version_4(tmp_path):
    filled().save(tmp_path / "integers")
    named().save(tmp_path / "strings")
    versions = [
        json.loads((tmp_path / folder / "manifest.json").read_text())["version"]
        for folder in ("integers", "strings")
    ]
    assert versions == [3, 4]


def test_an_earlier_tilefold_refuses_strings_and_says_what_to_do(tmp_path, monkeypatch):
    named().save(tmp_path / "index")
    monkeypatch.setattr(flat_folder, "_VERSION", 3)
    with pytest.raises(ValueError, match=r"format version 4, .* reads up to 3; upgrade tilefold"):
        FlatIndex.load(tmp_path / "index")


def test_a_folder_of_version_3_is_loaded():
    """Saved by the commit before strings, and kept here."""
    index = FlatIndex.load(VERSION_3)
    assert index.ids.tolist() == [7, 3, 900, 5]
    found = index.search(np.float32([[1, 2, 3, 4]]), 4)
    assert found.scores.tolist() == [[25, 3, 2, 1]]
    assert found.ids.tolist() == [[5, 900, 3, 7]]
    index.restore(12)
    assert index.reconstruct(12).tolist() == [2, 2, 0, 0]
    index.add(np.float32([[0, 0, 0, 1]]))
    assert 901 in index


def test_strings_replace_integers_in_the_same_folder_and_the_other_way_round(tmp_path):
    for index in (filled(), named(), filled(), named()):
        index.save(tmp_path / "index")
        assert FlatIndex.load(tmp_path / "index").ids.tolist() == index.ids.tolist()
    assert len(contents(tmp_path / "index")) == 4  # manifest, segment, removed, strings


def strings_file(folder: Path) -> Path:
    (path,) = folder.glob("*-strings.safetensors")
    return path


@pytest.mark.parametrize("at", [0, 0.3, 0.6, 0.99])
def test_a_changed_byte_among_the_strings_is_found(at, tmp_path):
    named().save(tmp_path)
    path = strings_file(tmp_path)
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not match its checksum"):
        FlatIndex.load(tmp_path)


def test_a_missing_or_shortened_file_of_strings_is_named(tmp_path):
    named().save(tmp_path)
    path = strings_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{path.name} has .* bytes, expected"):
        FlatIndex.load(tmp_path, verify=False)
    path.unlink()
    with pytest.raises(ValueError, match=f"{path.name} is missing"):
        FlatIndex.load(tmp_path)


def forge(folder: Path, **changed: np.ndarray) -> None:
    """Writes other tensors among the strings, with checksums that fit."""
    path = strings_file(folder)
    tensors = {name: tensor.copy() for name, tensor in map_tensors(path).items()} | changed
    os.unlink(path)
    write_tensors(path, {name: t for name, t in tensors.items() if t is not None})
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["files"]["strings.safetensors"]
    entry |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
    manifest["checksum"] = _checksum(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numbers": np.arange(3)}, "has other ids than the documents beside it"),
        ({"numbers": np.array([0, 1, 2**60])}, "has other ids than the documents beside it"),
        ({"numbers": None}, "has no tensor numbers"),
        ({"names": np.frombuffer(b"\xff\xfeabc", np.uint8)}, "ids that are no text"),
        ({"names": np.frombuffer(b"aabbx", np.uint8)}, "ends of names do not rise to 5"),
        ({"names": np.frombuffer(b"abcab", np.uint8)}, "must have 3 different ids, none empty"),
        ({"name_ends": np.array([0, 3, 5])}, "must have 3 different ids, none empty"),
        ({"name_ends": np.array([2, 5])}, "must have 3 different ids"),
        ({"name_ends": np.array([4, 2, 5])}, "ends of names do not rise"),
        ({"name_ends": np.array([-3, 2, 5])}, "ends of names do not rise"),
    ],
)
def test_strings_that_no_index_has_are_refused(change, message, tmp_path):
    index = FlatIndex(DIM)
    index.add(vectors(4), ids=["x", "ab", "c", "de"])
    index.remove("x")
    index.save(tmp_path)
    if "names" in change and change["names"].tobytes() == b"abcab":
        change = change | {"name_ends": np.array([2, 3, 5])}
    if "names" in change and change["names"].tobytes() == b"aabbx":
        change = change | {"name_ends": np.array([2, 3, 4])}
    forge(tmp_path, **change)
    with pytest.raises(ValueError, match=message):
        FlatIndex.load(tmp_path)


def test_numbers_far_apart_do_not_take_memory_when_they_are_loaded(tmp_path):
    """A table is as long as there are rows, whatever a file says."""
    index = FlatIndex(DIM)
    index.add(vectors(3), ids=["a", "b", "c"])
    far = np.array([5, 2**40, 2**61])
    segment = index._store.content.segments[0]
    object.__setattr__(segment, "ids", far)
    lookup = {5: "a", 2**40: "b", 2**61: "c"}

    class Sparse:
        def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
            return np.array([lookup[number] for number in numbers.tolist()], object)

    content = flat_folder.SavedIndex(DIM, "ip", no_rows(DIM), (segment,), 2**61 + 1, names=Sparse())
    flat_folder.write_folder(tmp_path / "index", content)
    loaded = FlatIndex.load(tmp_path / "index")
    assert loaded.ids.tolist() == ["a", "b", "c"]
    assert len(loaded._store.content.table) == 3
