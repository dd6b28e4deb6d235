"""Columns of texts, such as titles: optional ones are filled, equal rows are found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def text_groups(*columns: Sequence[str]) -> NDArray[np.int64]:
    """Numbers rows so that two have the same number exactly if they agree in every column.

    Equals ``np.unique(rows, axis=0, return_inverse=True)[1]`` up to the order of the numbers,
    without an array in which every text takes the space of the longest.

    Args:
        *columns: texts, of equal lengths, such as titles and texts of documents.

    Returns:
        ``[rows]`` int64, counted from 0 in the order of first appearance.

    >>> text_groups(["Rome", "", "Rome"], ["a city", "a city", "a city"])
    array([0, 1, 0])
    """
    numbers: dict[tuple[str, ...], int] = {}
    rows = zip(*columns, strict=True)
    return np.fromiter((numbers.setdefault(row, len(numbers)) for row in rows), np.int64)


def fill_column(table: Any, name: str, length: int) -> None:
    """Sets an empty column of a frozen dataclass to so many empty texts, 8 bytes each."""
    if not getattr(table, name):
        object.__setattr__(table, name, [""] * length)


def is_text(value: str) -> bool:
    """Returns whether a string can be written: half a surrogate pair cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
