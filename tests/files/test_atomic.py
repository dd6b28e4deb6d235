"""Atomic replacement: the old file or the new one, never a part, and nothing but files."""

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tilefold.data import write_run
from tilefold.files import staging
from tilefold.files.atomic import replacing, replacing_text
from tilefold.files.staging import MARK


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_created_and_replaced(tmp_path):
    path = tmp_path / "file.txt"
    for text in ("one\n", "two\n"):
        with replacing_text(path) as file:
            file.write(text)
        assert path.read_text() == text
        assert names(tmp_path) == ["file.txt"]


def test_lines_are_utf8_and_end_with_a_line_feed(tmp_path):
    with replacing_text(tmp_path / "file.txt") as file:
        file.write("é\nb\n")
    assert (tmp_path / "file.txt").read_bytes() == "é\nb\n".encode()


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(partial: Path) -> None:
        partial.write_bytes(b"half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError), replacing(path) as partial:
        fail(partial)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_permissions_stay(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replacing(path) as partial:
        partial.write_bytes(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    link, file = tmp_path / "link", tmp_path / "there" / "file"
    link.symlink_to(file)
    for data in (b"created", b"replaced"):
        with replacing(link) as partial:
            partial.write_bytes(data)
        assert link.is_symlink()
        assert file.read_bytes() == data
    assert names(tmp_path / "there") == ["file"]


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a character device"])
def test_other_kinds_are_refused_and_stay(tmp_path, kind):
    path = tmp_path / "it"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path = Path(os.ttyname(slave)) if (slave := os.openpty()[1]) else path
    before = path.stat().st_ino
    refused = pytest.raises(ValueError, match=f"expected a regular file or a new name, got {kind}")
    with refused, replacing_text(path) as file:
        file.write("never")
    assert path.stat().st_ino == before


def test_a_run_is_not_written_over_a_pipe(tmp_path):
    """A writer of data goes the same way: it replaced devices and pipes before."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ValueError, match="got a pipe"):
        write_run(path, ["q"], ["d"], [[1.0]], [[0]])
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import os, sys\n"
        "from tilefold.files.atomic import replacing\n"
        "with replacing(sys.argv[1]) as partial:\n"
        "    partial.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
    )
    assert child.returncode == -9
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) == 2
    with replacing(path) as partial:
        partial.write_bytes(b"new")
    assert names(tmp_path) == ["file"]  # what the kill left is gone


def test_two_at_once_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as one, replacing(path) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"  # whose block ended last
    assert names(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file_and_no_leftovers(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"), replacing(path) as partial:
            partial.write_bytes(bytes(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_files_are_replaced_in_one_place():
    package = Path(sys.modules["tilefold"].__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found = [word for word in ("os.replace(", "os.rename(") if word in text]
        assert not found or path.parent.name == "files", (path, found)


def test_a_folder_that_is_named_like_a_leftover_but_has_no_mark_stays(tmp_path):
    mine = tmp_path / f".file.{'0' * 12}.partial"
    mine.mkdir()
    (mine / "mine").write_text("mine")
    with replacing(tmp_path / "file") as partial:
        partial.write_bytes(b"new")
    assert (mine / "mine").read_text() == "mine"


def test_a_link_that_is_named_like_a_leftover_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / MARK).touch()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    link = tmp_path / f".file.{'0' * 12}.partial"
    link.symlink_to(tmp_path / "elsewhere")
    with replacing(tmp_path / "file") as partial:
        partial.write_bytes(b"new")
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "mine").read_text() == "mine"


def test_a_staging_folder_that_another_process_removes_before_it_is_locked_is_made_again(
    tmp_path, monkeypatch
):
    """A sweep may come between the creation of a folder and its lock."""
    removed, locked = [], staging.locked

    def swept(folder, **options):
        if not removed:
            removed.append(folder)
            folder.rmdir()
        return locked(folder, **options)

    monkeypatch.setattr(staging, "locked", swept)
    with replacing(tmp_path / "file") as partial:
        partial.write_bytes(b"new")
    assert removed
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_folder_afterwards(
    tmp_path, monkeypatch
):
    events, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        events.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def replaced(source, target):
        events.append("replaced")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    with replacing(tmp_path / "file") as partial:
        partial.write_bytes(b"new")
    assert events == ["file", "replaced", tmp_path.name]
