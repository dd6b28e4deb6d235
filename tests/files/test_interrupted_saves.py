"""Saves that do not finish or meet others: killed, a full disk, Ctrl-C, a fork, several at once."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from saved_indexes import answers, contents, filled, named_files, vectors, with_removed

from tilefold import FlatIndex
from tilefold.files import storage
from tilefold.files import tensors as tensor_files

# A forked child of a process with threads: what one test is about, and what Python warns of.
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


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


# ---- several at once -----------------------------------------------------------------------------


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
