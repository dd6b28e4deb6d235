"""save and load: the same index afterwards, and the folders in which an index may be saved."""

import json
import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from saved_indexes import (
    DIM,
    DTYPES,
    answers,
    contents,
    filled,
    named_files,
    segmented,
    vectors,
    with_removed,
)

from tilefold import FlatIndex, HnswIndex, reference

# ---- the same index afterwards -------------------------------------------------------------------


def with_nonfinite(dtype: str) -> FlatIndex:
    rows = vectors(300, dtype=dtype)
    if dtype != "int8":
        rows[[4, 200], 3] = np.nan, np.inf
    index = FlatIndex(DIM)
    index.add(rows, nonfinite="exclude")
    return index


def rotated(dtype: str) -> FlatIndex:
    rows = vectors(300, 64, dtype=dtype)
    rows[:, 5] *= 3 if dtype == "int8" else 60
    index = FlatIndex(64)
    index.add(rows)
    assert index._store.content.segments[0].packed.rotated is (dtype != "int8")
    return index


def with_a_mean(dtype: str) -> FlatIndex:
    rows = vectors(300, dtype=dtype)
    index = FlatIndex(DIM)
    index.add(np.abs(rows) if rows.dtype != np.uint16 else rows & 0x7FFF)
    assert (index._store.content.segments[0].packed.direction is None) is (dtype == "int8")
    return index


def emptied(dtype: str) -> FlatIndex:
    index = filled(3, dtype=dtype)
    index.remove([0, 1, 2])
    return index


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize(
    "make", [segmented, with_removed, with_nonfinite, with_a_mean, rotated, emptied]
)
def test_a_loaded_index_is_the_index_that_was_saved(make, mmap, dtype, tmp_path):
    index = make(dtype)
    index.save(tmp_path / "index")
    loaded = FlatIndex.load(tmp_path / "index", mmap=mmap)
    queries = vectors(7, index.dim, seed=99, dtype=dtype)
    for k in (1, 30):
        mine, theirs = (i.search(queries, k, return_certificate=True) for i in (index, loaded))
        assert mine.scores.tobytes() == theirs.scores.tobytes()
        assert mine.ids.tobytes() == theirs.ids.tobytes()
        assert mine.certificate.nonfinite_documents == theirs.certificate.nonfinite_documents
    assert loaded.ids.tolist() == index.ids.tolist()
    assert (loaded.dim, loaded.dtype, len(loaded)) == (index.dim, index.dtype, len(index))
    rows = index.ids[::7]
    np.testing.assert_array_equal(loaded.reconstruct(rows), index.reconstruct(rows))


@pytest.mark.parametrize("mmap", [True, False])
def test_a_loaded_index_can_be_changed_and_saved_over_itself(mmap, folder):
    loaded = FlatIndex.load(folder, mmap=mmap)
    loaded.add(vectors(40, seed=1))
    loaded.remove(np.arange(0, 500, 2))
    expected = answers(loaded)
    loaded.save(folder)
    assert answers(loaded) == expected
    assert answers(FlatIndex.load(folder)) == expected
    everything = np.vstack([vectors(500), vectors(40, seed=1)])
    truth = reference.search(vectors(5, seed=99), everything[loaded.ids], 20, ids=loaded.ids)
    found = loaded.search(vectors(5, seed=99), 20)
    assert found.scores.tobytes() == truth[0].tobytes()
    np.testing.assert_array_equal(found.ids, truth[1])


def test_a_mapped_index_holds_no_vectors_in_memory(tmp_path):
    index = FlatIndex(256)
    index.add(vectors(4000, 256))
    index.save(tmp_path / "index")
    held = {}
    for mmap in (True, False):
        tracemalloc.start()
        try:
            loaded = FlatIndex.load(tmp_path / "index", mmap=mmap)
            held[mmap] = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert loaded.nbytes == index.nbytes
    assert held[True] < 100_000
    assert held[False] >= index.nbytes


def test_the_arrays_of_a_mapped_index_cannot_be_written(folder):
    before = contents(folder)
    segment = FlatIndex.load(folder)._store.content.segments[0]
    for array in (segment.vectors, segment.ids, segment.packed.codes):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    assert contents(folder) == before


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_files_are_plain_safetensors(dtype, tmp_path):
    index = filled(300, dtype=dtype, ids=np.arange(300) * 7)
    index.remove([7, 14])
    index.save(tmp_path / "index")
    (path,) = (tmp_path / "index").glob("*.safetensors")
    tensors = safetensors.numpy.load_file(path)
    assert tensors["vectors"].dtype == DTYPES[dtype]
    assert tensors["vectors"].tobytes() == vectors(300, dtype=dtype).tobytes()
    np.testing.assert_array_equal(tensors["ids"], np.arange(300) * 7)
    np.testing.assert_array_equal(np.flatnonzero(~tensors["live"]), [1, 2])


def test_nothing_on_disk_is_a_pickle(tmp_path):
    with_removed("float32").save(tmp_path / "index")
    for name, content in contents(tmp_path / "index").items():
        if name.endswith(".json"):
            json.loads(content)
        else:
            safetensors.numpy.load(content)


@pytest.mark.parametrize("spelled", [str, Path, os.path.relpath, lambda p: f"{p}/"])
def test_a_folder_may_be_given_in_any_spelling(spelled, tmp_path):
    filled().save(spelled(tmp_path / "deep" / "index"))
    assert answers(FlatIndex.load(spelled(tmp_path / "deep" / "index"))) == answers(filled())


# ---- where an index may be saved -----------------------------------------------------------------


def test_saving_again_replaces_the_index_and_leaves_no_other_file(folder):
    for seed in (1, 2):
        filled(seed=seed).save(folder)
        assert answers(FlatIndex.load(folder)) == answers(filled(seed=seed))
        assert {p.name for p in folder.iterdir()} == named_files(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="needs modes of files")
def test_files_get_the_permissions_that_the_umask_leaves(tmp_path):
    """So that another user can load what one has saved in a shared place."""
    before = os.umask(0o022)
    try:
        filled().save(tmp_path / "index")
    finally:
        os.umask(before)
    modes = {p.name: f"{p.stat().st_mode & 0o777:o}" for p in (tmp_path / "index").iterdir()}
    assert modes == dict.fromkeys(modes, "644")


def test_an_empty_folder_may_become_an_index(tmp_path):
    filled().save(tmp_path)
    assert answers(FlatIndex.load(tmp_path)) == answers(filled())


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "model.safetensors",
        "pytorch_lora-weights.safetensors",
        "transformers-4.json",
        ".tmp",
        "folder",
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_untouched(name, tmp_path):
    if name == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"save: {tmp_path} exists and is no tilefold.FlatIndex"):
        filled().save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert name == "folder" or (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("manifest", ['{"kind": "theirs"}', "[]", "not json", ""])
def test_a_folder_with_another_manifest_is_refused_and_left_untouched(manifest, tmp_path):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(ValueError, match=str(tmp_path)):
        filled().save(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == manifest


def test_an_index_of_another_kind_is_neither_overwritten_nor_loaded(tmp_path):
    pytest.importorskip("hnswlib")
    index = HnswIndex(DIM)
    index.add(vectors(50))
    index.save(tmp_path / "index")
    before = contents(tmp_path / "index")
    with pytest.raises(ValueError, match=r"exists and is no tilefold\.FlatIndex"):
        filled().save(tmp_path / "index")
    with pytest.raises(ValueError, match=r"holds a tilefold\.HnswIndex, expected a tilefold\.Flat"):
        FlatIndex.load(tmp_path / "index")
    assert contents(tmp_path / "index") == before


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="exists and is no"):
        filled().save(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        filled().save(tmp_path / "file" / "index")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_a_user_keeps_beside_an_index_survives_saving(folder):
    (folder / "texts.jsonl").write_text("mine")
    (folder / "notes").mkdir()
    filled(seed=1).save(folder)
    assert answers(FlatIndex.load(folder)) == answers(filled(seed=1))
    assert (folder / "texts.jsonl").read_text() == "mine"
    assert (folder / "notes").is_dir()


def test_folders_that_a_user_named_like_staging_folders_survive_a_save(folder):
    for name in (".saving-photos", f".saving-{'0' * 12}"):
        (folder / name).mkdir()
        (folder / name / "mine").write_text("mine")
    filled(seed=1).save(folder)
    assert answers(FlatIndex.load(folder)) == answers(filled(seed=1))
    assert [path.read_text() for path in folder.rglob("mine")] == ["mine", "mine"]


@pytest.mark.parametrize("name", [f"{'0' * 12}-mine.safetensors", f"{'0' * 12}-weights.bin"])
def test_a_file_that_no_save_recorded_stays_whatever_its_name(name, folder, tmp_path):
    (folder / name).write_text("mine")
    filled(seed=1).save(folder)
    assert (folder / name).read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / name).write_text("mine")
    with pytest.raises(ValueError, match=r"exists and is no tilefold\.FlatIndex"):
        filled().save(other)
    assert (other / name).read_text() == "mine"
