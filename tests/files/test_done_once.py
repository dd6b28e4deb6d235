"""Keys of results depend on versions, settings and contents; files notice a changed bit."""

import numpy as np
import pytest

from tilefold.files.done_once import (
    ArrayDigest,
    WrongChecksumError,
    digest_of_array,
    digest_of_columns,
    read_checked,
    result_key,
    write_checked,
)
from tilefold.files.steps import Steps
from tilefold.files.tensors import map_tensors

TENSORS = {"x": np.arange(1000, dtype=np.float32), "y": np.array([[3], [4]]), "n": np.array(7)}


def flip_bit(path, name: str) -> None:
    """Flips a bit of a tensor, in place."""
    data = bytearray(path.read_bytes())
    tensor = map_tensors(path)[name].tobytes()
    data[data.index(tensor) + len(tensor) // 2] ^= 4
    path.write_bytes(data)


def test_keys_depend_on_kind_version_and_settings_but_not_on_their_order():
    key = result_key("bert", 1, {"steps": 3, "texts": ["ä", "\udc80"]})
    assert key == result_key("bert", 1, {"texts": ["ä", "\udc80"], "steps": 3})
    others = [
        result_key("dpr", 1, {"steps": 3, "texts": ["ä", "\udc80"]}),
        result_key("bert", 2, {"steps": 3, "texts": ["ä", "\udc80"]}),
        result_key("bert", 1, {"steps": 4, "texts": ["ä", "\udc80"]}),
    ]
    assert len({key, *others}) == 4


def test_settings_that_json_cannot_hold_are_refused():
    with pytest.raises(TypeError, match="not JSON serializable"):
        result_key("bert", 1, {"array": np.arange(3)})


def test_columns_of_texts_differ_by_their_boundaries():
    columns = [(["a\0", "b"],), (["a", "\0b"],), (["a\0\0b"],), (["a"], ["b"]), (["a", "b"],)]
    assert len({digest_of_columns(*some) for some in columns}) == len(columns)


def test_arrays_differ_by_dtype_shape_and_every_bit():
    array = np.arange(12, dtype=np.int32)
    changed = array.copy()
    changed[11] ^= 1
    arrays = [array, changed, array.reshape(3, 4), array.view(np.uint32), array[:11]]
    assert len({digest_of_array(some) for some in arrays}) == len(arrays)


@pytest.mark.parametrize("array", [np.arange(600).reshape(50, 12)[:, ::2], np.arange(50)[::-1]])
def test_pieces_of_any_size_and_stride_give_one_digest(array):
    whole, pieces = ArrayDigest(array.dtype), ArrayDigest(array.dtype)
    whole.update(array.copy())
    for begin in range(0, 50, 7):
        pieces.update(array[begin : begin + 7])
    assert whole.hexdigest() == pieces.hexdigest()


def test_a_checked_file_gives_what_was_written(tmp_path):
    write_checked(tmp_path / "file", TENSORS)
    found = read_checked(tmp_path / "file")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert np.array_equal(found[name], tensor)
        assert found[name].shape == tensor.shape


@pytest.mark.parametrize("name", ["x", "y", "n", "checksum"])
def test_a_flipped_bit_is_refused_by_name(name, tmp_path):
    path = tmp_path / "file"
    write_checked(path, TENSORS)
    flip_bit(path, name)
    with pytest.raises(WrongChecksumError, match=f"{path} does not match its checksum: remove"):
        read_checked(path)


def test_a_flipped_bit_of_a_step_is_refused_until_its_file_is_removed(tmp_path):
    Steps(tmp_path).once("a", 1, lambda: TENSORS)
    (path,) = tmp_path.iterdir()
    flip_bit(path, "x")
    with pytest.raises(ValueError, match=f"{path} does not match its checksum: remove"):
        Steps(tmp_path).once("a", 1, lambda: TENSORS)
    path.unlink()
    assert np.array_equal(Steps(tmp_path).once("a", 1, lambda: TENSORS)["x"], TENSORS["x"])
