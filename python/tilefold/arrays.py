"""Converts arrays of any library to NumPy, and results back to the caller's library.

Inside the package vectors are NumPy arrays of float32, float16, int8, or uint16 holding the bits of
bfloat16 (which NumPy does not know). Nothing here imports torch.
"""

from __future__ import annotations

import numbers
import operator
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from .devices import check_device
from .table_columns import column_as_numpy, stacked_rows

Array = Any  # a NumPy array, a torch tensor, or anything with __dlpack__
Vectors = NDArray[Any]

BFLOAT16 = np.dtype(np.uint16)
# Marks bfloat16 bits that come from outside: plain uint16 is not a dtype of vectors.
BFLOAT16_BITS = np.dtype(np.uint16, metadata={"bfloat16": True})
_DTYPE_NAMES = {"float32": "float32", "float16": "float16", "int8": "int8", "uint16": "bfloat16"}

# Numbers of DLPack's DLDeviceType; pinned host memory (3, 11) is read like any other.
_DLPACK_DEVICES = {1: "cpu", 2: "cuda", 3: "cpu", 8: "mps", 10: "rocm", 11: "cpu", 14: "xpu"}


class PrecisionWarning(UserWarning):
    """Warns that float64 vectors were rounded to float32."""


def dtype_name(vectors: Vectors) -> str:
    """Returns the public name of a vector dtype: float32, float16, bfloat16 or int8."""
    return _DTYPE_NAMES[vectors.dtype.name]


def as_vectors(array: Array, op: str, name: str, *, warn: bool = True) -> Vectors:
    """Converts an array to vectors ``[rows, dim]`` that the kernels read, copying only if needed.

    Args:
        array: NumPy array, CPU torch tensor, anything with ``__dlpack__``, a nested list, or a
            column of a table (`table_columns`), of float32, float16, bfloat16 or int8. float64 is
            rounded to float32 with a warning.
        op: the public function, for messages.
        name: the argument, for messages.
        warn: whether to warn of float64.

    Raises:
        TypeError: another dtype, or an object that is not an array.
        ValueError: an array on a device without an implementation, one that is not two-dimensional,
            has dim 0 or negative strides.
    """
    vectors = _supported(as_array(array, op, name), op, name, warn)
    if vectors.ndim != 2:
        raise ValueError(f"{op}: {name} must have 2 dimensions [rows, dim], got {vectors.ndim}")
    if vectors.shape[1] < 1:
        raise ValueError(f"{op}: {name} must have dim >= 1, got {vectors.shape[1]}")
    if not vectors.size:
        return np.empty(vectors.shape, vectors.dtype)  # strides of an empty array do not matter
    row_stride, inner_stride = vectors.strides
    if row_stride < 0 or inner_stride < 0:
        raise ValueError(f"{op}: {name} has negative strides; pass np.ascontiguousarray({name})")
    itemsize = vectors.itemsize
    # Kernels need multiples of the item size; flags.aligned asks for those of the C type alone.
    aligned = vectors.__array_interface__["data"][0] % itemsize == 0
    readable = inner_stride == itemsize and row_stride % itemsize == 0 and aligned
    return vectors if readable else vectors.copy(order="C")


def as_queries(queries: Array, op: str) -> tuple[Vectors, bool]:
    """Converts queries to vectors ``[n, dim]``; also returns whether one came as ``[dim]``."""
    array = as_array(queries, op, "queries")
    single = array.ndim == 1
    return as_vectors(array[None] if single else array, op, "queries"), single


def check_dim(op: str, name: str, dim: int, others: str, expected: int) -> None:
    """Raises where vectors have another dim than those that they meet.

    Args:
        op: the public function, for messages.
        name: the argument, a plural, such as "queries".
        dim: dimensions of its vectors.
        others: what it meets, with a verb, such as "documents have" or "the index has".
        expected: dimensions of theirs.

    Raises:
        ValueError: the two differ.
    """
    if dim != expected:
        raise ValueError(f"{op}: {name} have dim {dim} but {others} dim {expected}")


def check_unique(op: str, ids: NDArray[np.int64]) -> None:
    """Raises where an id is there twice.

    Raises:
        ValueError: names the smallest such id.
    """
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        raise ValueError(f"{op}: id {unique[np.argmax(counts > 1)]} is repeated")


def as_ids(ids: Array, op: str, name: str) -> NDArray[np.int64]:
    """Converts ids to a one-dimensional int64 array, and checks that none is negative."""
    array = as_array(ids, op, name)
    if array.size == 0 and isinstance(ids, Sequence):
        array = np.empty(0, np.int64)  # NumPy makes an empty list float64
    if array.dtype.kind not in "iu":
        raise TypeError(f"{op}: {name} must be integers, got {array.dtype}{_ids_hint(array)}")
    if array.ndim != 1:
        raise ValueError(f"{op}: {name} must have 1 dimension, got {array.ndim}")
    if array.size and array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{op}: {name} must be below 2^63, got {array.max()}")
    array = np.ascontiguousarray(array, np.int64)
    if array.__array_interface__["data"][0] % array.itemsize:  # see as_vectors
        array = array.copy()
    if array.size and array.min() < 0:
        raise ValueError(f"{op}: {name} must not be negative, got {array.min()}")
    return array


def as_id_list(ids: Array, op: str, name: str) -> tuple[NDArray[np.int64], bool]:
    """Converts ids as `as_ids` does; also returns whether a single id came instead of a list."""
    single = isinstance(ids, numbers.Integral) or getattr(ids, "ndim", None) == 0
    return as_ids([ids] if single else ids, op, name), single


def kind_of(array: Array) -> Callable[[NDArray[Any]], Any]:
    """Returns a function that converts NumPy arrays to the library that `array` came from."""
    if _is_torch(array):
        torch: Any = sys.modules["torch"]
        return lambda result: torch.from_numpy(result)
    if not isinstance(array, np.ndarray) and hasattr(array, "__array_namespace__"):
        namespace = array.__array_namespace__()
        if hasattr(namespace, "from_dlpack"):
            return lambda result: namespace.from_dlpack(result)
    return lambda result: result


def widened(vectors: Vectors) -> NDArray[np.float32]:
    """Converts vectors to float32; exact for every dtype."""
    if vectors.dtype == BFLOAT16:
        return (vectors.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # ARM reports signalling NaN of float16 as invalid
        return vectors.astype(np.float32)


def _is_torch(array: Array) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def as_array(array: Array, op: str, name: str) -> NDArray[Any]:
    """Converts an array of any library, a nested list or a column of a table to NumPy.

    Memory is shared where possible. bfloat16 becomes its bits, marked as `BFLOAT16_BITS`; Python
    floats become float32.

    Raises:
        TypeError: no array; the message names a conversion where there is one.
        ValueError: a ragged list, a column with missing values, an array on a device without an
            implementation.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{op}: {name} is a masked array; fill it first")
    if isinstance(array, np.ndarray):
        return array
    if isinstance(array, (list, tuple, range)):
        return _from_list(array, op, name)
    column = column_as_numpy(array, op, name)
    if column is not None:
        return column
    if not hasattr(array, "__dlpack__"):
        return _from_protocol(array, op, name)
    device = _device_of(array, op, name)
    if str(device).startswith("cuda") and _native.CUDA != "none":
        raise ValueError(
            f"{op}: {name} must be on the host here, got {device}; move it with .cpu(), or use "
            "what runs on a GPU: search, search_shards, mine, FlatIndex(device=...)"
        )
    check_device(op, name, device, "search")
    if _is_torch(array):
        array = array.detach().resolve_conj().resolve_neg()
        torch: Any = sys.modules["torch"]
        if array.dtype == torch.bfloat16:
            return np.asarray(array.view(torch.int16).numpy().view(BFLOAT16_BITS))
        return np.asarray(array.numpy())
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError):
        return np.asarray(array)


def _from_list(values: Sequence[Any], op: str, name: str) -> NDArray[Any]:
    if len(values) and _is_torch(values[0]):
        rows = stacked_rows([as_array(row, op, name) for row in values], op, name)
        bits = values[0].dtype == sys.modules["torch"].bfloat16  # stacking loses the mark
        return rows.view(BFLOAT16_BITS) if bits else rows
    try:
        converted = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{op}: {name} is a ragged list") from error
    return converted.astype(np.float32) if converted.dtype == np.float64 else converted


def _from_protocol(array: Array, op: str, name: str) -> NDArray[Any]:
    """Converts an object that NumPy converts by ``__array__``, such as those of xarray or zarr."""
    if hasattr(array, "__array__"):
        return np.asarray(array)
    if hasattr(array, "toarray"):
        hint = f"; pass {name}.toarray()"
    elif isinstance(array, (str, bytes, os.PathLike)):
        hint = "; encode texts and load files first"
    elif isinstance(array, Iterator):
        hint = f"; pass np.stack(list({name}))"
    else:
        hint = ""
    raise TypeError(
        f"{op}: {name} must be a NumPy array, a torch tensor, an array with __dlpack__ or a column "
        f"of a table, got {type(array).__name__}{hint}"
    )


def _ids_hint(array: NDArray[Any]) -> str:
    """Returns what to do about ids that are strings, or integers that are too large."""
    first = array.flat[0] if array.size else None
    if array.dtype == np.object_ and isinstance(first, int):
        return "; they must be below 2^63"
    if array.dtype.kind not in "USO" or not isinstance(first, (str, bytes)):
        return ""
    return (
        "; a FlatIndex has strings as ids if those of its first add are strings; elsewhere, keep "
        "the strings in a list and pass their positions"
    )


def _device_of(array: Array, op: str, name: str) -> str:
    """Returns the device of an array with ``__dlpack__`` under its name in torch."""
    if _is_torch(array):  # includes devices that DLPack has no number for, such as meta
        return str(array.device)
    if not hasattr(array, "__dlpack_device__"):
        raise TypeError(f"{op}: {name} has __dlpack__ but no __dlpack_device__")
    place = array.__dlpack_device__()
    try:
        kind, index = (operator.index(part) for part in place)
    except (TypeError, ValueError):
        raise TypeError(
            f"{op}: {name} must have a __dlpack_device__ that returns two integers, got {place!r}"
        ) from None
    return _DLPACK_DEVICES.get(kind, f"DLPack device {kind}") + (f":{index}" if index else "")


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Returns whether a dtype is that of ml_dtypes, or marked as `BFLOAT16_BITS`."""
    return dtype.name == "bfloat16" or bool(dtype.metadata and dtype.metadata.get("bfloat16"))


def _supported(array: NDArray[Any], op: str, name: str, warn: bool) -> Vectors:
    dtype = array.dtype
    if dtype.char == "f" and dtype.isnative:  # most vectors; names of dtypes cost microseconds
        return array
    if is_bfloat16(dtype):
        return array.view(BFLOAT16)
    if dtype.newbyteorder("=") == np.float64:
        if warn:
            warnings.warn(
                f"{op}: {name} are float64 and were rounded to float32; convert them yourself to "
                "silence this",
                PrecisionWarning,
                stacklevel=frames_of_this_package(),
            )
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if dtype.newbyteorder("=") in (np.float32, np.float16, np.int8):
        return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
    hint = ""
    if dtype.kind in "US":
        hint = "; encode texts to vectors first"
    elif dtype.kind in "iub":
        hint = f"; convert them: np.asarray({name}, np.float32)"
    elif dtype == np.object_:
        hint = f"; stack them: np.stack({name})"
    raise TypeError(f"{op}: {name} must be float32, float16, bfloat16 or int8, got {dtype}{hint}")


def frames_of_this_package() -> int:
    """Returns the stacklevel by which a warning points to the line that called the package."""
    package = f"{__package__}."
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(package):
        level, frame = level + 1, frame.f_back
    return level
