"""A folder that appears whole: nothing of others is removed, and everything reaches the disk."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tilefold.files.published_folder import RECORD, written_aside
from tilefold.files.staging import MARK

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")


def save(folder: Path, text: str) -> None:
    with written_aside(folder, "marker") as partial:
        (partial / "marker").write_text(text)
        (partial / "below").mkdir()
        (partial / "below" / "weights").write_text(text)


def test_a_folder_beside_it_that_is_named_like_a_staging_folder_stays(tmp_path):
    for name in (".c3.saving", ".c3.partial", f".c3.{'a' * 12}.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    for text in ("one", "two"):
        save(tmp_path / "c3", text)
    assert len([path for path in tmp_path.rglob("mine") if path.read_text() == "mine"]) == 3
    assert len([*tmp_path.iterdir()]) == 4


@needs_links
def test_a_link_is_followed(tmp_path):
    there, link = tmp_path / "there", tmp_path / "link"
    link.symlink_to(there)
    for text in ("created", "replaced"):
        save(link, text)
        assert link.is_symlink()
        assert (there / "below" / "weights").read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {"there", "link"}


def test_a_folder_of_something_else_is_refused_and_stays(tmp_path):
    (tmp_path / "c3").mkdir()
    (tmp_path / "c3" / "mine").write_text("mine")
    with pytest.raises(FileExistsError, match="neither is it empty nor does it hold marker"):
        save(tmp_path / "c3", "new")
    assert (tmp_path / "c3" / "mine").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["c3"]


def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path):
    save(tmp_path / "c3", "old")

    def fail(partial: Path) -> None:
        (partial / "marker").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError), written_aside(tmp_path / "c3", "marker") as partial:
        fail(partial)
    assert (tmp_path / "c3" / "marker").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["c3"]


def test_what_a_kill_leaves_is_removed_by_the_next_save(tmp_path):
    code = (
        "import os, sys\n"
        "from tilefold.files.published_folder import written_aside\n"
        "with written_aside(sys.argv[1], 'marker') as partial:\n"
        "    (partial / 'weights').write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "c3")], env=environment)
    (left,) = tmp_path.iterdir()
    assert (left / MARK).is_file()
    save(tmp_path / "c3", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["c3"]
    assert sorted(path.name for path in (tmp_path / "c3").iterdir()) == [RECORD, "below", "marker"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_everything_is_on_the_disk_before_the_folder_has_its_name(tmp_path, monkeypatch):
    target, events = tmp_path / "c3", []
    fsync, rename = os.fsync, Path.rename

    def synced(handle):
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        events.append((kind, Path(os.readlink(f"/proc/self/fd/{handle}")).name))
        fsync(handle)

    def renamed(path, to):
        events.append(("renamed", Path(to).name))
        return rename(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    save(target, "new")
    at = events.index(("renamed", "c3"))
    written = {("file", "marker"), ("file", "weights"), ("folder", "below"), ("folder", "c3")}
    assert written <= set(events[:at])
    assert events[at + 1 :] == [("folder", tmp_path.name)]


def test_what_a_user_keeps_in_a_saved_folder_survives_the_next_save(tmp_path):
    folder = tmp_path / "c3"
    save(folder, "old")
    with written_aside(folder, "marker") as partial:  # writes another file than the next save
        (partial / "marker").write_text("old")
        (partial / "old-shard").write_text("old")
    (folder / "README.md").write_text("mine")
    (folder / "below").mkdir()
    (folder / "below" / "notes").write_text("mine")
    (folder / "link").symlink_to(tmp_path / "nowhere")
    save(folder, "new")
    for _ in range(2):
        assert (folder / "README.md").read_text() == (folder / "below/notes").read_text() == "mine"
        assert (folder / "link").is_symlink()
        assert (folder / "marker").read_text() == (folder / "below/weights").read_text() == "new"
        assert not (folder / "old-shard").exists()
        save(folder, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["c3"]


def test_a_folder_without_a_record_is_replaced_as_a_whole(tmp_path):
    """Such as of an earlier version."""
    save(tmp_path / "c3", "old")
    (tmp_path / "c3" / RECORD).unlink()
    (tmp_path / "c3" / "old-shard").write_text("old")
    save(tmp_path / "c3", "new")
    assert not (tmp_path / "c3" / "old-shard").exists()


def test_a_record_that_cannot_be_read_loses_nothing(tmp_path):
    save(tmp_path / "c3", "old")
    (tmp_path / "c3" / RECORD).write_text("{")
    (tmp_path / "c3" / "README.md").write_text("mine")
    save(tmp_path / "c3", "new")
    assert (tmp_path / "c3" / "README.md").read_text() == "mine"
    assert (tmp_path / "c3" / "marker").read_text() == "new"
