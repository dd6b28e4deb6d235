"""save and load: the same answers afterwards, and an index on disk that survives what happens."""

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tilefold import FlatIndex, HnswIndex, reference, search_shards
from tilefold.files import storage
from tilefold.files import tensors as tensor_files
from tilefold.retrieval import flat_folder, packing
from tilefold.retrieval.flat_folder import SavedIndex, write_folder
from tilefold.retrieval.removed_rows import no_rows
from tilefold.retrieval.segment import make_segment

# A forked child of a process with threads: what one test is about, and what Python warns of.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
DIM = 24
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
}


def vectors(n: int, dim: int = DIM, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return (40 * rows if dtype == "int8" else rows).astype(DTYPES[dtype])


def filled(n: int = 500, seed: int = 0, dtype: str = "float32", ids=None) -> FlatIndex:
    index = FlatIndex(DIM)
    index.add(vectors(n, seed=seed, dtype=dtype), ids)
    return index


def answers(index: FlatIndex, dtype: str = "float32") -> bytes:
    found = index.search(vectors(5, seed=99, dtype=dtype), 20)
    return found.scores.tobytes() + found.ids.tobytes() + index.ids.tobytes()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def named_files(folder: Path) -> set[str]:
    """The files of an index: its manifest, and those that the manifest names."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return {"manifest.json", *(entry["name"] for entry in manifest["files"].values())}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A saved index of 500 documents."""
    filled().save(tmp_path / "index")
    return tmp_path / "index"


# ---- the same index afterwards -------------------------------------------------------------------


def segmented(dtype: str) -> FlatIndex:
    index = filled(3000, dtype=dtype)
    index.add(vectors(900, seed=1, dtype=dtype))
    index.add(vectors(90, seed=2, dtype=dtype), np.arange(10_000, 10_090)[::-1])
    assert len(index._segments) == 3
    return index


def with_removed(dtype: str) -> FlatIndex:
    index = segmented(dtype)
    index.remove(index.ids[::3])
    return index


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
    assert index._segments[0].packed.rotated is (dtype != "int8")
    return index


def with_a_mean(dtype: str) -> FlatIndex:
    rows = vectors(300, dtype=dtype)
    index = FlatIndex(DIM)
    index.add(np.abs(rows) if rows.dtype != np.uint16 else rows & 0x7FFF)
    assert (index._segments[0].packed.direction is None) is (dtype == "int8")
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
    segment = FlatIndex.load(folder)._segments[0]
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


# ---- a save that does not finish -----------------------------------------------------------------


class Killed(BaseException):
    """The process is gone: nothing more is done, no clean-up either."""


class Disk:
    """Counts what a save does to the disk; fails at step `fail_at`, before or after doing it."""

    def __init__(self, patch, fail_at: int = -1, error=Killed, when: str = "killed") -> None:
        self.steps, self.fail_at, self.error, self.when = 0, fail_at, error, when
        for name in ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "fsync"):
            patch.setattr(os, name, self.watched(getattr(os, name)))
        patch.setattr(Path, "write_text", self.watched(Path.write_text, writes=0))
        serialize_file = self.watched(tensor_files.serialize_file, writes=1)
        patch.setattr(tensor_files, "serialize_file", serialize_file)

    def watched(self, function, writes: int | None = None):
        """`writes`: which argument is the path of a file that may be left half written."""

        def call(*args, **options):
            step, self.steps = self.steps, self.steps + 1
            if self.fail_at in range(step) and self.when == "killed":
                raise self.error
            if step != self.fail_at:
                return function(*args, **options)
            if writes is not None or self.when == "after":
                function(*args, **options)
            if writes is not None and self.when != "after":
                os.truncate(args[writes], Path(args[writes]).stat().st_size // 2)
            raise self.error

        return call


def steps_of_a_save(folder: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        with_removed("float32").save(folder)
        return disk.steps


def every_step(tmp_path: Path, first: bool):
    """(step, a fresh folder that holds the old index, or nothing where this is the first save)."""
    if not first:
        filled().save(tmp_path / "steps")
    for step in range(steps_of_a_save(tmp_path / "steps")):
        folder = tmp_path / str(step)
        if not first:
            filled().save(folder)
        yield step, folder


@pytest.mark.parametrize("first", [False, True], ids=["over an old index", "for the first time"])
def test_a_save_killed_at_any_step_leaves_the_old_index_or_the_new(first, tmp_path):
    old, new = answers(filled()), answers(with_removed("float32"))
    seen = set()
    for step, folder in every_step(tmp_path, first):
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, step)
            with pytest.raises(Killed):
                with_removed("float32").save(folder)
        try:
            seen.add(now := answers(FlatIndex.load(folder)))
            assert now in (old, new)
        except FileNotFoundError:
            assert first
        filled(seed=5).save(folder)  # works, and clears away what the killed one left
        assert answers(FlatIndex.load(folder)) == answers(filled(seed=5))
        assert {p.name for p in folder.iterdir()} == named_files(folder), f"step {step}"
    assert seen == ({new} if first else {old, new})


@pytest.mark.parametrize("first", [False, True], ids=["over an old index", "for the first time"])
@pytest.mark.parametrize(
    ("error", "when"),
    [
        (KeyboardInterrupt(), "before"),
        (KeyboardInterrupt(), "after"),
        (OSError(errno.ENOSPC, "disk full"), "before"),
    ],
    ids=["Ctrl-C before", "Ctrl-C after", "disk full"],
)
def test_a_save_that_fails_at_any_step_leaves_the_old_index_or_the_new(
    error, when, first, tmp_path
):
    old, new = answers(filled()), answers(with_removed("float32"))
    for step, folder in every_step(tmp_path, first):
        before = contents(folder)
        index = with_removed("float32")
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, step, error, when)
            with contextlib.suppress(type(error)):
                index.save(folder)
        assert disk.steps > step
        assert answers(index) == new
        if contents(folder) == before:
            continue
        if (folder / "manifest.json").exists() or not first:
            now = answers(FlatIndex.load(folder))
            assert now == new or (when == "after" and now == old), f"step {step}"
        filled(seed=5).save(folder)
        assert set(contents(folder)) == named_files(folder), f"step {step}"


def run_python(code: str, *arguments, **options) -> subprocess.Popen:
    """A fresh interpreter."""
    lines = code.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(line[indent:] for line in lines), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


LARGE = 20_000
SAVE_FOREVER = f"""
    import sys, numpy as np, tilefold
    index = tilefold.FlatIndex(256)
    index.add(np.random.default_rng(2).standard_normal(({LARGE}, 256), dtype=np.float32))
    print("ready", flush=True)
    while True:
        index.save(sys.argv[1])
"""


@pytest.mark.parametrize("first", [False, True], ids=["over an old index", "for the first time"])
def test_a_save_killed_for_real_leaves_the_old_index_or_the_new(first, tmp_path):
    folder = tmp_path / "index"
    queries = vectors(3, 256, seed=9)
    allowed = []
    for seed in (1, 2):
        index = FlatIndex(256)
        rng = np.random.default_rng(seed)
        index.add(rng.standard_normal((LARGE, 256), dtype=np.float32))
        allowed.append(index.search(queries, 9).scores.tobytes())
        if seed == 1 and not first:
            index.save(folder)
    rng = np.random.default_rng(0)
    for _ in range(5):
        saver = run_python(SAVE_FOREVER, folder)
        try:
            assert saver.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.15))
        finally:
            saver.kill()
            saver.communicate()
        try:
            found = FlatIndex.load(folder).search(queries, 9).scores.tobytes()
            assert found in allowed
        except FileNotFoundError:
            assert first
    index.save(folder)
    assert FlatIndex.load(folder).search(queries, 9).scores.tobytes() == allowed[1]
    assert {p.name for p in folder.iterdir()} == named_files(folder)
    shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
@pytest.mark.parametrize("limit", [1000, 100_000])
def test_a_disk_that_refuses_more_bytes_leaves_the_old_index(limit, folder):
    before = contents(folder)
    code = """
        import resource, sys, numpy as np, tilefold
        index = tilefold.FlatIndex(24)
        index.add(np.ones((20_000, 24), np.float32))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
        try:
            index.save(sys.argv[1])
        except OSError as error:
            print("OSError", error)
    """
    child = run_python(code, folder, limit)
    said = child.communicate(timeout=60)[0]
    assert child.returncode == 0
    assert said.startswith("OSError")
    assert contents(folder) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs users")
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o555])
def test_a_folder_without_permission_is_a_permission_error(mode, folder):
    code = """
        import os, sys, tilefold
        if os.getuid() == 0:  # who may do everything
            os.seteuid(65534)
        for what in (tilefold.FlatIndex.load, tilefold.FlatIndex(24).save):
            try:
                what(sys.argv[1])
                print("allowed")
            except PermissionError:
                print("denied")
    """
    before = contents(folder)
    with tempfile.TemporaryDirectory() as outside:  # tmp_path lies in a private folder
        os.chmod(outside, 0o755)
        locked = Path(shutil.copytree(folder, Path(outside) / "index"))
        for path in locked.iterdir():
            path.chmod(0o644)
        locked.chmod(mode)
        child = run_python(code, locked)
        said = child.communicate(timeout=60)[0].split()
        locked.chmod(0o755)
        assert contents(locked) == before
    assert said == ["allowed" if mode == 0o555 else "denied", "denied"]


# ---- several at once -----------------------------------------------------------------------------


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


def test_an_index_loaded_before_a_save_keeps_its_answers(folder):
    old = answers(filled())
    mapped = FlatIndex.load(folder)
    code = """
        import hashlib, sys, numpy as np, tilefold
        index = tilefold.FlatIndex.load(sys.argv[1])
        queries = np.load(sys.argv[2])
        for line in sys.stdin:
            parts = (*index.search(queries, 20), index.ids)
            print("".join(part.tobytes().hex() for part in parts), flush=True)
    """
    np.save(folder.parent / "queries.npy", vectors(5, seed=99))
    reader = run_python(code, folder, folder.parent / "queries.npy", stdin=subprocess.PIPE)
    try:
        for seed in (1, 2):
            reader.stdin.write("search\n")
            reader.stdin.flush()
            assert bytes.fromhex(reader.stdout.readline()) == old
            filled(seed=seed).save(folder)
            assert answers(mapped) == old
        assert bytes.fromhex(reader.communicate("search\n", timeout=60)[0]) == old
    finally:
        reader.kill()
        reader.communicate()


def test_loading_while_others_save_always_finds_a_whole_index(folder):
    indexes = [filled(seed=seed) for seed in (0, 1, 2)]
    whole = {answers(index) for index in indexes}
    failures, stop = [], threading.Event()

    def save(index):
        try:
            while not stop.is_set():
                index.save(folder)
        except BaseException as error:
            failures.append(error)

    savers = [threading.Thread(target=save, args=[index]) for index in indexes[1:]]
    for saver in savers:
        saver.start()
    end = time.monotonic() + 3
    try:
        while time.monotonic() < end and not failures:
            assert answers(FlatIndex.load(folder)) in whole
    finally:
        stop.set()
        for saver in savers:
            saver.join()
    assert not failures, failures[0]
    assert answers(FlatIndex.load(folder)) in whole
    assert {p.name for p in folder.iterdir()} == named_files(folder)


# ---- a folder that is not what it should be ------------------------------------------------------


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
    content = SavedIndex(DIM, segments, 1 + max(map(max, ids)), no_rows(DIM))
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
    for path in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(
            FileNotFoundError, match=f"load: {path} .*expected a saved tilefold.Flat"
        ):
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
    (segment,) = index._segments
    packed, *_ = packing.pack_as(segment.vectors)
    packed.bounds[:, 3] = 2 * packed.bounds[:, 2]
    old = dataclasses.replace(segment, packed=packed)
    monkeypatch.setattr(flat_folder, "_VERSION", 2)
    write_folder(tmp_path / "old", SavedIndex(DIM, (old,), 500, no_rows(DIM)))
    monkeypatch.undo()
    for mmap in (False, True):
        loaded = FlatIndex.load(tmp_path / "old", mmap=mmap)
        assert (loaded._segments[0].packed.bounds[:, 3] == 0).all()
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
    (segment,) = filled()._segments
    packed = dataclasses.replace(segment.packed, direction=direction)
    wrong = dataclasses.replace(segment, packed=packed)
    write_folder(tmp_path / "wrong", SavedIndex(DIM, (wrong,), 500, no_rows(DIM)))
    with pytest.raises(tensor_files.CorruptedFolderError, match=message):
        FlatIndex.load(tmp_path / "wrong")


def test_a_newer_format_says_what_to_do(folder):
    change(folder, "version", to=4)
    with pytest.raises(ValueError, match="format version 4, and this tilefold reads up to 3; upg"):
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


@forks
@pytest.mark.parametrize("moment", ["save", "load"])
def test_a_child_forked_during_a_save_or_load_does_not_keep_the_folder(moment, folder, monkeypatch):
    """As a data loader's worker would that lives on."""
    children = []

    def fork_before(function):
        def call(*args):
            if not children:
                if not (child := os.fork()):
                    time.sleep(60)
                    os._exit(0)
                children.append(child)
            return function(*args)

        return call

    with monkeypatch.context() as patch:
        if moment == "save":
            patch.setattr(os, "replace", fork_before(os.replace))
            filled(seed=1).save(folder)
        else:
            patch.setattr(storage, "sha256", fork_before(storage.sha256))
            FlatIndex.load(folder)
    new = filled(seed=2)
    after = threading.Thread(target=lambda: (FlatIndex.load(folder), new.save(folder)))
    try:
        after.start()
        after.join(5)
        assert not after.is_alive(), "a load or a save waits for the forked child"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        after.join()
    assert len(children) == 1
    assert answers(FlatIndex.load(folder)) == answers(new)


def test_ctrl_c_ends_a_save_and_leaves_nothing_behind(folder):
    code = "    import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    saver = run_python(code + SAVE_FOREVER, folder.parent / "large", stderr=subprocess.DEVNULL)
    try:
        assert saver.stdout.readline() == "ready\n"
        time.sleep(0.3)
        saver.send_signal(signal.SIGINT)
        assert saver.wait(timeout=10) in (-signal.SIGINT, 130, 1)
    finally:
        saver.kill()
        saver.communicate()
    large = folder.parent / "large"
    assert not large.exists() or {p.name for p in large.iterdir()} == named_files(large)


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_ctrl_c_during_the_removal_of_old_files_is_raised_after_it(folder, monkeypatch, times):
    """The interrupt comes with a removal of the new save, which is published already."""
    index = filled(40)
    index.save(folder)
    index.add(vectors(9, seed=4))
    calls = []

    def interrupted(path, *args, unlink=Path.unlink, **options):
        unlink(path, *args, **options)
        if path.parent == folder or path.parent.name.startswith(".saving-"):
            calls.append(path.name)
            if len(calls) == times:
                raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        index.save(folder)
    assert calls
    monkeypatch.undo()
    assert {path.name for path in folder.iterdir()} == named_files(folder)
    assert answers(FlatIndex.load(folder)) == answers(index)
