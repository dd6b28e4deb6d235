"""Tensors on disk: safetensors files, written from arrays and read as memory maps."""

from __future__ import annotations

import json
import math
import mmap
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, TensorSpec, serialize_file

from ..arrays import BFLOAT16_BITS

_LONGEST_HEADER = 100_000_000  # the limit of the safetensors format
_DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": BFLOAT16_BITS,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}

_MALFORMED = (
    struct.error,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


class CorruptedFolderError(ValueError):
    """A folder on disk is not what its manifest says."""


def write_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], bfloat16: frozenset[str] = frozenset()
) -> None:
    """Writes contiguous arrays as safetensors; those named in `bfloat16` hold bits of bfloat16."""
    # not ascontiguousarray, which makes a vector of a number
    contiguous = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    specs = {
        name: TensorSpec(
            dtype="bfloat16" if name in bfloat16 else tensor.dtype.name,
            shape=list(tensor.shape),
            data_ptr=tensor.ctypes.data,
            data_len=tensor.nbytes,
        )
        for name, tensor in contiguous.items()
    }
    try:
        path.touch()
        mode = path.stat().st_mode
        serialize_file(specs, os.fspath(path))
        path.chmod(mode)  # it comes from a private temporary file
    except SafetensorError as error:  # a full disk, a missing folder
        raise OSError(f"{path} could not be written: {error}") from error


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Maps the tensors of a safetensors file into memory, read-only; bfloat16 as its bits.

    The layout (https://huggingface.co/docs/safetensors): 8 bytes little-endian length, a JSON
    header with dtype, shape and offsets of each tensor, then the data.

    Raises:
        CorruptedFolderError: the file is truncated, its header does not describe it, or it is a
            device or a pipe.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # reading a pipe might never end
        raise CorruptedFolderError(f"{path}: expected a regular file, got a device or a pipe")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_LONGEST_HEADER, size - 8):
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            entries = {name: header[name] for name in header if name != "__metadata__"}
            _check_places(entries)
            return {
                name: _tensor(data, 8 + length, size, entry)
                for name, entry in entries.items()
                if entry["dtype"] in _DTYPES  # NumPy knows no others
            }
        except _MALFORMED as error:
            raise CorruptedFolderError(f"{path}: not a whole safetensors file: {error}") from error


def _check_places(entries: Mapping[str, Any]) -> None:
    """Raises ValueError where tensors overlap, or a shape or an offset is negative."""
    previous = 0
    for begin, end in sorted(entry["data_offsets"] for entry in entries.values()):
        if not previous <= begin <= end:
            raise ValueError(f"offsets {begin} to {end} are negative, falling or overlap others")
        previous = end
    for entry in entries.values():
        if any(size < 0 for size in entry["shape"]):
            raise ValueError(f"the shape {entry['shape']} is negative")


def _tensor(data: mmap.mmap, start: int, size: int, entry: dict[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    begin, end = (start + offset for offset in entry["data_offsets"])
    if end > size or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError("it is truncated")
    if begin == end:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype, math.prod(shape), begin).reshape(shape)
