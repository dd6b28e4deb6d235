"""Ids that are strings: what is one, and the filters of a search that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import as_array
from .filters import rows_of_column

Lookup = Callable[[list[str]], NDArray[np.int64]]


def holds_strings(ids: Any) -> bool:
    """Returns whether ids begin with a string; False for none at all."""
    if isinstance(ids, np.ndarray) and ids.dtype.kind in "iub":
        return False
    if isinstance(ids, (str, list, tuple)):
        return bool(len(ids)) and isinstance(ids[0], str)
    try:
        array = as_array(ids, "ids", "ids")
    except (TypeError, ValueError):  # whoever reads them as integers says why
        return False
    return bool(array.ndim and array.size) and isinstance(array.flat[0], str)


def as_strings(ids: Any, op: str, name: str) -> list[str]:
    """Converts ids to a list of strings: a list or tuple, a NumPy array, or a column of a table.

    Strings are compared code point by code point; none is stripped or normalized.

    Args:
        ids: the argument.
        op, name: of the function and the argument, for messages.

    Raises:
        TypeError: an id is not a string.
        ValueError: an id is empty or holds a lone surrogate, which no file in UTF-8 can; ids have
            not one dimension, or a row of a column has no value.
    """
    if isinstance(ids, (list, tuple)):
        values = list(ids)
    elif isinstance(ids, (str, bytes)):
        raise TypeError(f"{op}: {name} must be a list of strings, got a single {_kind(ids)}")
    else:
        array = as_array(ids, op, name)
        if array.ndim != 1:
            raise ValueError(f"{op}: {name} must have 1 dimension, got {array.ndim}")
        values = array.tolist()
    if set(map(type, values)) <= {str}:
        strings = values
    else:
        wrong = next((i for i, id in enumerate(values) if not isinstance(id, str)), None)
        if wrong is not None:
            raise TypeError(
                f"{op}: {name} must be strings, as the first one or the ids of the index are, "
                f"got {_kind(values[wrong])} at place {wrong}"
            )
        strings = list(map(str, values))  # from np.str_
    _check_text(strings, op, name)
    return strings


def check_distinct(op: str, ids: Sequence[str]) -> None:
    """Raises ValueError for the first id that is there twice."""
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for id in ids:
        if id in seen:
            raise ValueError(f"{op}: id {id!r} is repeated")
        seen.add(id)


def allowed_numbers(allowed: Any, lookup: Lookup, op: str) -> NDArray[np.int64]:
    """Returns the numbers of the ids in the filter `allowed`.

    Raises:
        TypeError: no strings, such as a mask over integer ids.
    """
    if getattr(allowed, "dtype", None) == np.bool_:
        raise TypeError(
            f"{op}: allowed is a mask over integer ids, but this index has strings; pass the ids "
            "that are allowed"
        )
    return lookup(as_strings(allowed, op, "allowed"))


def excluded_numbers(exclude: Any, lookup: Lookup, op: str) -> Any:
    """Returns the filter `exclude` with numbers for ids, in the form that it came in.

    Args:
        exclude: lists of strings, one per query, or a column of them; a table ``[n, ids]`` padded
            with None; or a CSR pair ``(offsets [n + 1], ids)``.
        lookup: returns the numbers of strings.
        op: the public function, for messages.
    """
    if isinstance(exclude, tuple) and _is_csr(exclude):
        return exclude[0], lookup(as_strings(exclude[1], op, "exclude"))
    if len(getattr(exclude, "shape", ())) == 2:
        table = exclude.to_numpy() if hasattr(exclude, "to_numpy") else np.asarray(exclude)
        if table.dtype.kind not in "OUT":
            raise TypeError(f"{op}: exclude must be strings, got {table.dtype}")
        # None pads answers; tables have NaN in its stead.
        there = np.array([id is not None and id == id for id in table.flat], np.bool_)
        there = there.reshape(table.shape)
        numbers = np.full(table.shape, -1, np.int64)
        numbers[there] = lookup(as_strings(table[there], op, "exclude"))
        return numbers
    lists = rows_of_column(exclude)
    if not isinstance(lists, Sequence) or isinstance(lists, str):
        return exclude  # refused where all exclusions are checked
    return [lookup(as_strings(ids, op, f"exclude[{i}]")) for i, ids in enumerate(lists)]


def _is_csr(exclude: tuple[Any, ...]) -> bool:
    """Returns whether a pair begins with integer offsets, and not with the ids of a query."""
    kinds = [getattr(getattr(part, "dtype", None), "kind", "") for part in exclude]
    return len(kinds) == 2 and kinds[0] in ("i", "u")


def _check_text(strings: Sequence[str], op: str, name: str) -> None:
    if "" in strings:
        raise ValueError(f"{op}: {name} must not be empty strings, got one at {strings.index('')}")
    try:
        "".join(strings).encode()
    except UnicodeEncodeError:
        for place, string in enumerate(strings):
            if any("\ud800" <= letter <= "\udfff" for letter in string):
                raise ValueError(
                    f"{op}: {name} must be text that UTF-8 can encode, got {string!r} at {place}"
                ) from None


def _kind(value: Any) -> str:
    hint = "; decode them" if isinstance(value, bytes) else ""
    return f"{type(value).__name__}{hint}"
