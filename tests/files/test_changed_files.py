"""A changed file of any state on disk is refused, or changes no answer."""

import importlib.util
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from fuzz_files import check, prepare, restore
from state_kinds import KINDS
from tilefold.files import tensors as tensor_files

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of modules that are read


def there(kind) -> pytest.param:
    absent = [name for name in kind.needs if importlib.util.find_spec(name) is None]
    marks = [pytest.mark.skip(reason=f"{name} is not installed") for name in absent]
    return pytest.param(kind, id=kind.name, marks=marks)


@pytest.mark.parametrize("kind", [there(kind) for kind in KINDS])
def test_no_change_of_a_file_gives_another_answer(kind, tmp_path):
    state = prepare(kind, tmp_path)
    found = [
        check(np.random.default_rng([zlib.crc32(kind.name.encode()), case]), state)
        for case in range(100)
    ]
    assert found.count("refused") >= 15


MANIFESTS = {
    "encoding": "shards.json",
    "row store": "sites.json",
    "model of a world": "digests.json",
}


@pytest.mark.parametrize("kind", [there(kind) for kind in KINDS if kind.name in MANIFESTS])
def test_a_flipped_bit_in_every_byte_of_a_manifest_is_refused_or_harmless(kind, tmp_path):
    state = prepare(kind, tmp_path)
    path = state.folder / MANIFESTS[kind.name]
    whole = path.read_bytes()
    unnoticed = []
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << (at % 7)
        path.write_bytes(changed)
        try:
            if kind.read(state.folder) != state.answer:
                unnoticed.append(at)
        except (ValueError, OSError):
            pass
        restore(state.folder, state.files)
    assert not unnoticed


@pytest.mark.skipif(sys.platform == "win32", reason="needs numbers of files")
@pytest.mark.parametrize("kind", [there(kind) for kind in KINDS if kind.name != "model of a world"])
def test_all_files_and_their_folders_are_synced_to_the_disk(kind, tmp_path, monkeypatch):
    synced, fsync = set(), os.fsync

    def watched(handle):
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    folder = tmp_path / "state"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", watched)
        kind.write(folder, 0)
    missing = [path for path in (folder, *folder.rglob("*")) if path.stat().st_ino not in synced]
    assert not missing


WITHOUT_TENSORS = {"study result", "model of a world"}


@pytest.mark.parametrize(
    "kind", [there(kind) for kind in KINDS if kind.name not in WITHOUT_TENSORS]
)
def test_a_full_disk_is_an_os_error_that_leaves_nothing_half_written(kind, tmp_path, monkeypatch):
    def full(specs, path):
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    folder = tmp_path / "state"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "serialize_file", full)
        with pytest.raises(OSError, match="No space left on device"):
            kind.write(folder, 0)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in left} <= {"shards.json"}
    assert not [*tmp_path.rglob(".*")]
