"""Results that are computed once and kept: their keys, and files that carry a checksum.

A key is a digest of three things: a version constant, which is raised by hand whenever the code
gives other results for the same inputs; the settings as canonical JSON; and digests of the contents
of inputs. Source code is not part of it, so that an edited comment computes nothing again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atomic import replacing
from .memory_advice import release
from .tensors import CorruptedFolderError, map_tensors, write_tensors

_KEY_BYTES = 8  # of names of files and folders; collisions among thousands are unlikely
_CHECKSUM = "checksum"
_CHUNK = 8 << 20  # bytes digested at a time of arrays that are mapped or not contiguous


def result_key(kind: str, version: int, settings: Any) -> str:
    """Computes the key of a result, 16 hexadecimal digits.

    Args:
        kind: what the result is, so that equal settings of two kinds have different keys.
        version: of the code that computes it; see the head of this file.
        settings: everything else that the result depends on, as JSON can hold it. Large inputs are
            given by their digests.

    Raises:
        TypeError: settings that JSON cannot hold.

    Example:
        >>> result_key("square", 1, {"x": 3, "y": 4}) == result_key("square", 1, {"y": 4, "x": 3})
        True
    """
    return digest_of([kind, version, settings])


def digest_of(value: Any) -> str:
    """Computes a digest of texts or other values as canonical JSON, 16 hexadecimal digits.

    Raises:
        TypeError: a value that JSON cannot hold.
    """
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES
    ).hexdigest()


def digest_of_columns(*columns: Sequence[str]) -> str:
    """Computes a digest of columns of texts without joining them, 16 hexadecimal digits.

    The length of every column and text is part of it, so that no text can imitate a boundary.
    """
    digest = hashlib.blake2b(digest_size=_KEY_BYTES)
    for column in columns:
        digest.update(len(column).to_bytes(8, "little"))
        for text in column:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


class ArrayDigest:
    """Digests the rows of an array, in pieces of any size, in order.

    Reads about 1 GB per second on one core.

    Args:
        dtype: of the array; part of the digest.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._digest = hashlib.blake2b(dtype.str.encode() + b" ", digest_size=32)

    def update(self, rows: NDArray[Any]) -> None:
        """Adds the next rows."""
        if rows.flags.c_contiguous:
            self._digest.update(_as_bytes(rows))
            return
        step = max(1, _CHUNK * len(rows) // max(1, rows.nbytes))
        for begin in range(0, len(rows), step):
            self._digest.update(_as_bytes(np.ascontiguousarray(rows[begin : begin + step])))

    def hexdigest(self) -> str:
        """Returns the digest of all rows so far, 64 hexadecimal digits."""
        return self._digest.hexdigest()


def digest_of_array(array: NDArray[Any]) -> str:
    """Computes a digest of dtype, shape and contents of an array, 64 hexadecimal digits."""
    contents = ArrayDigest(array.dtype)
    contents.update(np.atleast_1d(array))
    return _digest_of_shape(array, contents)


def write_checked(
    path: Path, tensors: Mapping[str, NDArray[Any]], bfloat16: frozenset[str] = frozenset()
) -> None:
    """Replaces a safetensors file by one that carries a checksum of its tensors.

    Args:
        path: the file.
        tensors: contiguous arrays.
        bfloat16: names of tensors that hold bits of bfloat16.

    Raises:
        OSError: it could not be written; what was there before is intact.
    """
    with replacing(path) as partial:
        write_tensors(partial, {**tensors, _CHECKSUM: _checksum(tensors)}, bfloat16)


def read_checked(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the tensors of `write_checked` into memory.

    Raises:
        FileNotFoundError: no such file.
        CorruptedFolderError: not a whole safetensors file.
        WrongChecksumError: its tensors are not those that were written.
    """
    return _without_checksum(path, {name: np.array(x) for name, x in map_tensors(path).items()})


def map_checked(path: Path, *, verify: bool = True) -> dict[str, NDArray[Any]]:
    """Maps the tensors of `write_checked` into memory.

    Args:
        path: the file.
        verify: whether to compare the checksum, which reads every byte once; pages are released
            behind it.

    Raises:
        FileNotFoundError: no such file.
        CorruptedFolderError: not a whole safetensors file.
        WrongChecksumError: it has no checksum, or its tensors are not those that were written.
    """
    return _without_checksum(path, map_tensors(path), verify=verify, mapped=True)


def kept_checksum(path: Path) -> str:
    """Returns the checksum that a file of `write_checked` carries, without comparing it.

    Raises:
        FileNotFoundError: no such file.
        WrongChecksumError: it carries none.
    """
    written = map_tensors(path).get(_CHECKSUM)
    if written is None:
        raise WrongChecksumError(f"{path} carries no checksum of its tensors")
    return written.tobytes().hex()


class WrongChecksumError(CorruptedFolderError):
    """A file was changed after it was written, by a faulty disk for example."""


def _without_checksum(
    path: Path, tensors: dict[str, NDArray[Any]], *, verify: bool = True, mapped: bool = False
) -> dict[str, NDArray[Any]]:
    written = tensors.pop(_CHECKSUM, None)
    if written is None:
        raise WrongChecksumError(f"{path} carries no checksum of its tensors")
    if verify and not np.array_equal(written, _checksum(tensors, mapped)):
        raise WrongChecksumError(
            f"{path} does not match its checksum: remove it, and it is computed again"
        )
    return tensors


def _checksum(tensors: Mapping[str, NDArray[Any]], mapped: bool = False) -> NDArray[np.uint8]:
    digest = _digest_of_mapped if mapped else digest_of_array
    digests = {name: digest(np.asarray(tensor)) for name, tensor in tensors.items()}
    text = json.dumps(digests, sort_keys=True)
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=32).digest(), np.uint8)


def _digest_of_mapped(tensor: NDArray[Any]) -> str:
    """Computes `digest_of_array` of a tensor of `map_tensors`, and releases its pages."""
    contents, rows = ArrayDigest(tensor.dtype), np.atleast_1d(tensor)
    step = max(1, _CHUNK * len(rows) // max(1, rows.nbytes))
    for begin in range(0, len(rows), step):
        contents.update(rows[begin : begin + step])
        release(rows, begin, min(begin + step, len(rows)))
    return _digest_of_shape(tensor, contents)


def _digest_of_shape(array: NDArray[Any], contents: ArrayDigest) -> str:
    return hashlib.blake2b(
        json.dumps([array.shape, contents.hexdigest()]).encode(), digest_size=32
    ).hexdigest()


def _as_bytes(rows: NDArray[Any]) -> Any:
    return rows.reshape(-1).view(np.uint8).data
