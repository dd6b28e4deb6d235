"""Locks beside files exclude threads and processes, with filelock and without it."""

import contextlib
import subprocess
import sys
import threading

import pytest

from tilefold.files.locked import locked_beside


@pytest.fixture(params=["filelock", "flock"])
def library(request, monkeypatch):
    """The library that keeps locks in this process; subprocesses use filelock where it is."""
    if request.param == "filelock":
        pytest.importorskip("filelock", reason="pip install filelock")
    else:
        pytest.importorskip("fcntl", reason="this system has no flock")
        monkeypatch.setitem(sys.modules, "filelock", None)


@pytest.mark.usefixtures("library")
def test_a_second_holder_is_refused_and_the_file_is_gone_afterwards(tmp_path):
    with locked_beside(tmp_path / "file", wait=False):
        with (
            pytest.raises(BlockingIOError, match=r"\.file\.lock"),
            locked_beside(tmp_path / "file", wait=False),
        ):
            pass
        with locked_beside(tmp_path / "other", wait=False):
            pass
    assert not [*tmp_path.iterdir()]
    with locked_beside(tmp_path / "file", wait=False):
        pass


@pytest.mark.usefixtures("library")
def test_a_symbolic_link_is_locked_as_its_target(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with (
        locked_beside(tmp_path / "file"),
        pytest.raises(BlockingIOError),
        locked_beside(tmp_path / "link", wait=False),
    ):
        pass


@pytest.mark.usefixtures("library")
def test_many_who_wait_enter_one_at_a_time(tmp_path):
    """Each removes the file of the lock, which the others may have opened already."""
    inside, most, entered = [], [], []

    def enter():
        for _ in range(20):
            with locked_beside(tmp_path / "file"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                entered.append(1)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(entered) == 80


@pytest.mark.usefixtures("library")
def test_another_process_is_kept_out_until_it_may_enter(tmp_path):
    code = """
import pathlib, sys
from tilefold.files.locked import locked_beside
with locked_beside(pathlib.Path(sys.argv[1]), wait=False):
    print("locked", flush=True)
    sys.stdin.readline()
    if sys.argv[2] == "dies":
        import os
        os._exit(1)
"""
    for end in ("leaves", "dies"):
        child = subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "file", end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            assert child.stdout.readline() == "locked\n"
            with pytest.raises(BlockingIOError), locked_beside(tmp_path / "file", wait=False):
                pass
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write("\n")
                child.stdin.close()
            with locked_beside(tmp_path / "file"):
                pass
    assert not [*tmp_path.iterdir()]


def test_a_system_without_either_is_told_what_to_install(tmp_path, monkeypatch):
    from tilefold.files import locked

    monkeypatch.setitem(sys.modules, "filelock", None)
    monkeypatch.setattr(locked, "fcntl", None)
    with pytest.raises(ImportError, match="pip install filelock"), locked_beside(tmp_path / "file"):
        pass


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", ["text", "link", "folder"])
def test_something_else_with_the_name_of_a_lock_is_refused_and_stays(kind, tmp_path):
    lock = tmp_path / ".file.lock"
    (tmp_path / "mine").write_text("mine")
    if kind == "text":
        lock.write_text("mine")
    elif kind == "link":
        lock.symlink_to(tmp_path / "mine")
    else:
        lock.mkdir()
    with (
        pytest.raises(FileExistsError, match=r"this is no lock of tilefold: .*\.file\.lock"),
        locked_beside(tmp_path / "file"),
    ):
        pass
    assert lock.is_symlink() == (kind == "link")
    assert lock.exists()
    assert (tmp_path / "mine").read_text() == "mine"
