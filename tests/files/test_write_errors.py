"""A disk without space, as each library finds it, is an OSError that names what was written."""

import errno
import json

import numpy as np
import pytest
from safetensors import SafetensorError

from file_size_limit import file_size_limit
from tilefold.files.atomic import replacing_text
from tilefold.files.published_folder import written_aside
from tilefold.files.tensors import map_tensors
from tilefold.files.write_errors import write_errors


def save_safetensors(path):
    safetensors = pytest.importorskip("safetensors.torch", reason="torch is not installed")
    safetensors.save_file({"x": safetensors.torch.zeros(10_000)}, path)


def save_torch(path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    torch.save({"x": torch.zeros(10_000)}, path)


def save_text(path):
    with path.open("w") as file:
        json.dump(list(range(10_000)), file)


WRITERS = [save_safetensors, save_torch, save_text]


@pytest.mark.parametrize("save", WRITERS)
def test_every_library_fails_with_an_os_error_that_names_the_path(tmp_path, save):
    with (
        file_size_limit(8192),
        pytest.raises(OSError, match="state") as found,
        write_errors("state"),
    ):
        save(tmp_path / "file")
    assert not isinstance(found.value, FileNotFoundError)


@pytest.mark.parametrize("save", WRITERS)
def test_a_folder_written_aside_names_itself_and_leaves_nothing(tmp_path, save):
    with (
        file_size_limit(8192),
        pytest.raises(OSError, match="model"),
        written_aside(tmp_path / "model", "config.json") as partial,
    ):
        save(partial / "config.json")
    assert not list(tmp_path.iterdir())


def test_a_replaced_text_names_itself_and_stays(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("before")
    with (
        file_size_limit(8192),
        pytest.raises(OSError, match=r"result\.json") as found,
        replacing_text(path) as file,
    ):
        json.dump(list(range(10_000)), file)
    assert found.value.errno == errno.EFBIG
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "elsewhere"),
        OSError(errno.ENOSPC, "No space left on device", "elsewhere"),
        BlockingIOError(errno.EAGAIN, "somebody else holds the lock"),
    ],
    ids=repr,
)
def test_other_errors_are_raised_as_they_are(error):
    with pytest.raises(type(error)) as found, write_errors("state"):
        raise error
    assert found.value is error


def test_a_broken_file_that_is_read_meanwhile_is_no_error_of_writing(tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"broken")
    safetensors = pytest.importorskip("safetensors.torch", reason="torch is not installed")
    with pytest.raises(SafetensorError), write_errors("state"):
        safetensors.load_file(path)
    safetensors.save_file({"a": safetensors.torch.zeros(2)}, path)
    with (
        pytest.raises(SafetensorError, match="b"),
        write_errors("state"),
        safetensors.safe_open(path, framework="pt") as file,
    ):
        file.get_tensor("b")


def test_space_is_enough(tmp_path):
    path = tmp_path / "small.safetensors"
    with file_size_limit(1 << 20), write_errors(path):
        save_safetensors(path)
    np.testing.assert_array_equal(map_tensors(path)["x"], np.zeros(10_000, np.float32))
