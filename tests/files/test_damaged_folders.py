"""Loading a folder that is not what it should be: an error that names the file, never a crash."""

import contextlib
import dataclasses
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from saved_indexes import DIM, answers, filled, vectors, with_removed

from tilefold import FlatIndex, search_shards
from tilefold.files import storage
from tilefold.files import tensors as tensor_files
from tilefold.retrieval import flat_folder, packing
from tilefold.retrieval.flat_folder import SavedIndex, write_folder
from tilefold.retrieval.removed_rows import no_rows
from tilefold.retrieval.segment import make_segment

IDS = {
    "negative": ([[0, 1, -3, 4]], "ids must not be negative, got -3"),
    "repeated": ([[0, 2, 2, 4]], "ids: id 2 is repeated"),
    "repeated, in no order": ([[4, 2, 0, 2]], "ids: id 2 is repeated"),
    "repeated and sparse": ([[10**12, 2, 0, 2]], "ids: id 2 is repeated"),
    "in two segments": ([[0, 1, 2, 3], [7, 3, 9, 8]], "ids: id 3 is repeated"),
    "in two segments in order": ([[0, 1, 2, 3], [3, 4, 5, 6]], "ids: id 3 is repeated"),
}


def crafted(folder: Path, ids) -> None:
    """An index whose checksums are right, with ids that no index has."""
    rows = vectors(4)
    segments = tuple(make_segment(rows, np.array(own)) for own in ids)
    content = SavedIndex(DIM, "ip", no_rows(DIM), segments, 1 + max(map(max, ids)))
    write_folder(folder, content)


@pytest.mark.parametrize("kind", IDS)
def test_ids_that_no_index_has_are_refused(kind, tmp_path):
    ids, message = IDS[kind]
    crafted(tmp_path / "index", ids)
    with pytest.raises(ValueError, match=f"load: {tmp_path / 'index'} .*{message}"):
        FlatIndex.load(tmp_path / "index")
    with pytest.raises(ValueError, match=r"negative, got -3|is in the shards more than once"):
        search_shards(vectors(1), [tmp_path / "index"], 2)


def test_an_id_that_was_removed_and_added_again_is_no_repetition(tmp_path):
    index = filled(3000)
    index.remove([3])
    index.add(vectors(1, seed=2), [3])
    index.save(tmp_path / "index")
    assert FlatIndex.load(tmp_path / "index").ids.tolist() == index.ids.tolist()


def test_flags_besides_0_and_1_are_refused(tmp_path):
    with_removed("float32").save(tmp_path / "index")
    path = sorted((tmp_path / "index").glob("*.safetensors"))[0]
    tensors = {key: tensor.copy() for key, tensor in tensor_files.map_tensors(path).items()}
    tensors["live"].view(np.uint8)[5] = 2
    tensor_files.write_tensors(path, tensors)
    change(tmp_path / "index", *FILE, "bytes", to=path.stat().st_size)
    change(tmp_path / "index", *FILE, "sha256", to=storage.sha256(path))
    with pytest.raises(ValueError, match="values in live besides 0 and 1"):
        FlatIndex.load(tmp_path / "index")


def test_no_index_is_a_file_not_found_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=f"load: {tmp_path} .*expected a saved tilefold.Fl"):
        FlatIndex.load(tmp_path)
    for path in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(FileNotFoundError, match=f"^load: there is no folder {path}$"):
            FlatIndex.load(path)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("left", [0, 1, 7, 8, 100, -100, -1])
def test_a_truncated_file_is_named(left, verify, folder):
    (path,) = folder.glob("*.safetensors")
    size = path.stat().st_size
    os.truncate(path, left % size)
    with pytest.raises(ValueError, match=f"load: {path} has {left % size} bytes, expected {size}"):
        FlatIndex.load(folder, verify=verify)


@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_file_is_named(verify, folder):
    (path,) = folder.glob("*.safetensors")
    path.unlink()
    with pytest.raises(ValueError, match=f"load: {path} is missing"):
        FlatIndex.load(folder, verify=verify)


def test_a_flipped_bit_anywhere_in_the_tensors_is_found(folder):
    (path,) = folder.glob("*.safetensors")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in (0, 8, 20, len(whole) - 1, *rng.integers(0, len(whole), 30)):
        spoiled = bytearray(whole)
        spoiled[at] ^= 1 << rng.integers(0, 8)
        path.write_bytes(spoiled)
        with pytest.raises(ValueError, match=f"load: {path} does not match its checksum"):
            FlatIndex.load(folder)


def test_a_flipped_bit_anywhere_in_the_manifest_is_found_or_harmless(folder):
    path = folder / "manifest.json"
    whole, old = path.read_bytes(), answers(filled())
    unnoticed = []
    for at in range(len(whole)):
        for bit in (0, 4):
            spoiled = bytearray(whole)
            spoiled[at] ^= 1 << bit
            path.write_bytes(spoiled)
            with contextlib.suppress(ValueError):
                loaded = FlatIndex.load(folder)
                same = answers(loaded) == old
                loaded.add(vectors(1))
                if not same or loaded.ids[-1] != 500:
                    unnoticed.append(bytes(spoiled[at - 15 : at + 5]))
    assert not unnoticed


def test_a_spoiled_header_is_an_error_and_never_a_crash(folder):
    (path,) = folder.glob("*.safetensors")
    whole = path.read_bytes()
    length = 8 + struct.unpack("<Q", whole[:8])[0]
    rng = np.random.default_rng(0)
    for _ in range(500):
        spoiled = bytearray(whole)
        spoiled[rng.integers(0, length)] = rng.choice(list(b'0123456789"{}[],:-eXS\xff\x00'))
        path.write_bytes(spoiled)
        with contextlib.suppress(ValueError):
            answers(FlatIndex.load(folder, verify=False))


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"null", b'"text"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"kind": NaN}'],
    ids=lambda content: repr(content[:20]),
)
def test_garbage_in_the_manifest_is_a_clear_error(content, folder):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"load: .*{folder}"):
        FlatIndex.load(folder)


def change(folder: Path, *keys, to=None, checksum: bool = True) -> None:
    """Sets an entry of the manifest, or removes it where `to` is None.

    With a new checksum it is what a wrong writer leaves, without one what a user's editor does.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    place = manifest
    for key in keys[:-1]:
        place = place[key]
    if to is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    if checksum:
        manifest["checksum"] = storage._checksum(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_folder_of_version_2_has_documents_without_a_direction(tmp_path, monkeypatch):
    """It has a radius where the part along the direction is now."""
    index = filled()
    (segment,) = index._store.content.segments
    packed, *_ = packing.pack_as(segment.vectors)
    packed.bounds[:, 3] = 2 * packed.bounds[:, 2]
    old = dataclasses.replace(segment, packed=packed)
    monkeypatch.setattr(flat_folder, "_VERSION_OF_INTEGERS", 2)
    write_folder(tmp_path / "old", SavedIndex(DIM, "ip", no_rows(DIM), (old,), 500))
    monkeypatch.undo()
    for mmap in (False, True):
        loaded = FlatIndex.load(tmp_path / "old", mmap=mmap)
        assert (loaded._store.content.segments[0].packed.bounds[:, 3] == 0).all()
        queries = vectors(40, seed=3)
        found, expected = (own.search(queries, 10) for own in (loaded, index))
        assert found.ids.tobytes() == expected.ids.tobytes()
        assert found.scores.tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        (np.ones(DIM, np.float32), "no unit vector"),
        (np.eye(1, DIM + 1, dtype=np.float32)[0], "has direction of shape"),
        (np.eye(1, DIM)[0], "has direction of dtype float64, expected"),
    ],
)
def test_a_wrong_direction_is_refused(direction, message, tmp_path):
    (segment,) = filled()._store.content.segments
    packed = dataclasses.replace(segment.packed, direction=direction)
    wrong = dataclasses.replace(segment, packed=packed)
    write_folder(tmp_path / "wrong", SavedIndex(DIM, "ip", no_rows(DIM), (wrong,), 500))
    with pytest.raises(tensor_files.CorruptedFolderError, match=message):
        FlatIndex.load(tmp_path / "wrong")


def test_a_newer_format_says_what_to_do(folder):
    change(folder, "version", to=5)
    with pytest.raises(ValueError, match="format version 5, and this tilefold reads up to 4; upg"):
        FlatIndex.load(folder)


FILE = ("files", "0.safetensors")


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (["kind"], None),
        (["kind"], "tilefold.Other"),
        (["version"], None),
        (["version"], "1"),
        (["version"], 0),
        (["version"], -1),
        (["dim"], None),
        (["dim"], "24"),
        (["dim"], 0),
        (["dim"], 23),
        (["dim"], 24.0),
        (["next_id"], None),
        (["next_id"], "many"),
        (["next_id"], 500.5),
        (["next_id"], -5),
        (["next_id"], 3),
        (["next_id"], 2**64),
        (["rotated"], None),
        (["rotated"], []),
        (["rotated"], "x"),
        (["rotated"], ["x"]),
        (["rotated"], [False, False]),
        (["rotated"], 1),
        (["files"], None),
        (["files"], []),
        (["files"], {}),
        (["files"], "x"),
        (FILE, "x"),
        ([*FILE, "name"], None),
        ([*FILE, "name"], 5),
        ([*FILE, "name"], ""),
        ([*FILE, "name"], "."),
        ([*FILE, "name"], "a\0b"),
        ([*FILE, "name"], "manifest.json"),
        ([*FILE, "bytes"], None),
        ([*FILE, "bytes"], "many"),
        ([*FILE, "sha256"], None),
        ([*FILE, "sha256"], 5),
    ],
    ids=repr,
)
@pytest.mark.parametrize("checksum", [True, False])
def test_a_wrong_entry_in_the_manifest_is_a_clear_error(keys, to, checksum, folder):
    change(folder, *keys, to=to, checksum=checksum)
    with pytest.raises(ValueError, match=f"^load: .*{folder}"):
        FlatIndex.load(folder)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("ids", np.float32),
        ("codes", np.int8),
        ("bounds", np.float64),
        ("live", np.uint8),
        ("vectors", np.int64),
    ],
)
def test_tensors_of_a_wrong_dtype_are_named(name, dtype, folder):
    """What a wrong writer leaves, with right checksums."""
    (path,) = folder.glob("*.safetensors")
    tensors = {key: tensor.copy() for key, tensor in tensor_files.map_tensors(path).items()}
    tensors[name] = tensors.get(name, np.ones(len(tensors["ids"]))).astype(dtype)
    tensor_files.write_tensors(path, tensors)
    change(folder, *FILE, "bytes", to=path.stat().st_size)
    change(folder, *FILE, "sha256", to=storage.sha256(path))
    with pytest.raises(ValueError, match=f"load: .*{name}.*{np.dtype(dtype).name}"):
        FlatIndex.load(folder)


@pytest.mark.parametrize(
    ("key", "to"), [("next_id", 499), ("next_id", 501), ("rotated", []), ("rotated", [True])]
)
def test_a_manifest_edited_by_hand_is_noticed(key, to, folder):
    change(folder, key, to=to, checksum=False)
    with pytest.raises(ValueError, match=f"load: {folder}/manifest.json does not match its check"):
        FlatIndex.load(folder)


@pytest.mark.parametrize("absolute", [True, False])
def test_a_manifest_cannot_name_files_outside_its_folder(absolute, folder):
    (path,) = folder.glob("*.safetensors")
    outside = folder.parent / "outside.safetensors"
    path.rename(outside)
    change(folder, *FILE, "name", to=str(outside) if absolute else "../outside.safetensors")
    with pytest.raises(ValueError, match=f"load: .*{folder}"):
        FlatIndex.load(folder)


def test_files_of_two_indexes_are_not_mixed(folder):
    other = folder.parent / "other"
    filled(seed=1).save(other)
    (mine,), (theirs,) = folder.glob("*.safetensors"), other.glob("*.safetensors")
    shutil.copy(theirs, mine)
    with pytest.raises(ValueError, match="does not match its checksum"):
        FlatIndex.load(folder)


@pytest.mark.parametrize(
    "tensors",
    [
        {"vectors": np.zeros((4, 23), np.float32)},
        {"vectors": np.zeros((5, 24), np.float32)},
        {"vectors": np.zeros(96, np.float32)},
        {"vectors": np.zeros((4, 24), np.int64)},
        {"ids": np.zeros((4, 1), np.int64)},
        {"codes": np.zeros((2, 6, 32, 4), np.uint8)},
        {"bounds": np.zeros((1, 4, 31), np.float32)},
        {"live": np.ones(3, bool)},
        {"nonfinite": np.zeros((4, 4), bool)},
    ],
    ids=lambda tensors: " ".join(f"{n} {t.dtype}{list(t.shape)}" for n, t in tensors.items()),
)
def test_tensors_that_do_not_fit_each_other_are_a_clear_error(tensors, tmp_path):
    """Checksums are right here: the folder was written by something else."""
    folder = tmp_path / "index"
    index = FlatIndex(DIM)
    index.add(vectors(4))
    index.save(folder)
    (path,) = folder.glob("*.safetensors")
    safetensors.numpy.save_file(safetensors.numpy.load_file(path) | tensors, path)
    change(folder, *FILE, "bytes", to=path.stat().st_size)
    change(folder, *FILE, "sha256", to=storage.sha256(path))
    with pytest.raises(ValueError, match=f"load: .*{folder}"):
        FlatIndex.load(folder)
