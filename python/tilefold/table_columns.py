"""Converts columns of tables to NumPy: of pandas, polars, pyarrow, datasets and h5py.

None of these libraries is imported: what belongs to one has been made with it. A column of vectors
holds a list in each row, so its rows are joined to one matrix.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def column_as_numpy(value: Any, op: str, name: str) -> NDArray[Any] | None:
    """Converts a column of numbers or of vectors; returns None for what is of no table.

    Args:
        value: a pandas or polars Series or DataFrame, a pandas Index, a pyarrow Array or
            ChunkedArray, a column of datasets, or a data set of h5py.
        op: the public function, for messages.
        name: the argument, for messages.

    Raises:
        TypeError: a whole table of which one column is needed.
        ValueError: a row without a value, or rows of different lengths.
    """
    convert = _CONVERSIONS.get(type(value).__module__.partition(".")[0])
    return None if convert is None else convert(value, op, name)


def stacked_rows(rows: Sequence[Any] | NDArray[Any], op: str, name: str) -> NDArray[Any]:
    """Joins rows of numbers, such as lists, to a matrix; rows of Python floats become float32.

    Raises:
        ValueError: a row without a value, or rows of different lengths.
    """
    arrays = []
    for place, row in enumerate(rows):
        if row is None or isinstance(row, float):  # None, or NaN in its stead
            raise _missing(op, name, place)
        array = np.asarray(row)
        python_floats = array.dtype == np.float64 and isinstance(row, (list, tuple))
        arrays.append(array.astype(np.float32) if python_floats else array)
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"{op}: {name} must have rows of one length, got {arrays[0].shape} in row 0 and "
                f"{array.shape} in row {place}"
            )
    return np.stack(arrays) if arrays else np.empty((0, 0), np.float32)


def _missing(op: str, name: str, row: int) -> ValueError:
    return ValueError(f"{op}: {name} has no value in row {row}; leave such rows out")


def _of_objects(array: NDArray[Any], op: str, name: str) -> NDArray[Any]:
    """Joins the rows of a column whose elements are lists or arrays; returns others as they are."""
    if array.dtype != np.object_ or array.ndim != 1 or not len(array):
        return array
    first = next((element for element in array if element is not None), None)
    if isinstance(first, str) or not hasattr(first, "__len__"):
        return array
    return stacked_rows(array, op, name)


def _from_pandas(value: Any, op: str, name: str) -> NDArray[Any] | None:
    if not hasattr(value, "to_numpy"):
        return None
    array: NDArray[Any] = value.to_numpy()
    if array.dtype == np.object_ and array.ndim == 2:
        array = _of_nullable(value, array, op, name)
    return _of_objects(array, op, name)


def _of_nullable(frame: Any, array: NDArray[Any], op: str, name: str) -> NDArray[Any]:
    """Converts a DataFrame with nullable numbers, which pandas makes an array of objects."""
    dtypes = [getattr(dtype, "numpy_dtype", dtype) for dtype in frame.dtypes]
    if not all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in dtypes):
        raise TypeError(
            f"{op}: {name} is a DataFrame whose columns are no numbers; pass the column of "
            "vectors, or the columns of numbers"
        )
    missing = frame.isna().to_numpy().any(1)
    if missing.any():
        raise _missing(op, name, int(missing.argmax()))
    return array.astype(np.result_type(*dtypes))


def _from_polars(value: Any, op: str, name: str) -> NDArray[Any] | None:
    kind = type(value).__name__
    if kind == "LazyFrame":
        raise TypeError(f"{op}: {name} is a LazyFrame; pass {name}.collect()")
    if kind not in ("Series", "DataFrame"):
        return None
    columns = value.get_columns() if kind == "DataFrame" else [value]
    for column in columns:
        if column.null_count():  # to_numpy() would make them NaN
            raise _missing(op, name, int(column.is_null().arg_max()))
    return _of_objects(value.to_numpy(), op, name)


def _from_arrow(value: Any, op: str, name: str) -> NDArray[Any] | None:
    arrow: Any = sys.modules["pyarrow"]
    if isinstance(value, (arrow.Table, arrow.RecordBatch)):
        raise TypeError(
            f"{op}: {name} is a table; pass one of its columns, {', '.join(value.column_names)}"
        )
    if isinstance(value, arrow.ChunkedArray):
        chunks = value.chunks or [arrow.array([], type=value.type)]
        return np.concatenate([_from_array(chunk, op, name) for chunk in chunks])
    return _from_array(value, op, name) if isinstance(value, arrow.Array) else None


def _from_array(value: Any, op: str, name: str) -> NDArray[Any]:
    arrow: Any = sys.modules["pyarrow"]
    if isinstance(value, arrow.ExtensionArray):
        value = value.storage
    if value.null_count:
        missing = value.is_null().to_numpy(zero_copy_only=False)
        raise _missing(op, name, int(missing.argmax()))
    kinds = arrow.types
    if kinds.is_fixed_size_list(value.type):
        size = value.type.list_size
    elif kinds.is_list(value.type) or kinds.is_large_list(value.type):
        sizes = value.value_lengths().to_numpy()
        size = int(sizes[0]) if len(sizes) else 0
        if (sizes != size).any():
            place = int((sizes != size).argmax())
            raise ValueError(
                f"{op}: {name} must have rows of one length, got {size} in row 0 and "
                f"{sizes[place]} in row {place}"
            )
    else:
        array: NDArray[Any] = value.to_numpy(zero_copy_only=False)
        return array
    numbers = value.flatten()
    if numbers.null_count:
        missing = numbers.is_null().to_numpy(zero_copy_only=False)
        raise _missing(op, name, int(missing.argmax()) // max(size, 1))
    return _from_array(numbers, op, name).reshape(len(value), size)


def _from_datasets(value: Any, op: str, name: str) -> NDArray[Any] | None:
    if not hasattr(value, "column_name"):
        columns = ", ".join(getattr(value, "column_names", None) or [])
        raise TypeError(f"{op}: {name} is a {type(value).__name__}; pass a column of it: {columns}")
    source = value.source
    layout = getattr(source, "format", None)  # a streamed data set has none
    if layout is not None and layout["type"] != "custom" and hasattr(source, "select_columns"):
        rows = source.select_columns([value.column_name]).with_format("arrow")[:]
        return _from_arrow(rows[value.column_name], op, name)
    return stacked_rows(list(value), op, name)  # streamed, a transform, or a field of a column


def _from_h5py(value: Any, op: str, name: str) -> NDArray[Any]:
    if not hasattr(value, "shape"):
        raise TypeError(
            f"{op}: {name} is a {type(value).__name__} of h5py; pass a data set of it: "
            f"{', '.join(value)}"
        )
    array: NDArray[Any] = np.asarray(value[()])
    return array


_CONVERSIONS: dict[str, Callable[[Any, str, str], NDArray[Any] | None]] = {
    "pandas": _from_pandas,
    "polars": _from_polars,
    "pyarrow": _from_arrow,
    "datasets": _from_datasets,
    "h5py": _from_h5py,
}
