"""Ids of new documents: given by the caller and checked, or counted on from the largest so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, as_ids, check_unique


def new_ids(ids: Array | None, n_rows: int, next_id: int, op: str) -> NDArray[np.int64]:
    """Returns an id for each new document; whether an index has them already is not checked.

    Args:
        ids: ``[n_rows]`` integers >= 0, each once; None for next_id, next_id + 1, ...
        n_rows: number of new documents.
        next_id: first id that has never been used.
        op: name of the operation, for messages.

    Returns:
        ``[n_rows]`` int64, never a view of `ids`.

    Raises:
        TypeError: ids are not integers.
        ValueError: ids are negative, repeated, too few or too many, or would reach 2^63.
    """
    if ids is None:
        if next_id + n_rows > 2**63:
            raise ValueError(
                f"{op}: the next id would be {next_id}, and ids must be below 2^63; pass ids"
            )
        return np.arange(next_id, next_id + n_rows, dtype=np.int64)
    checked = as_ids(ids, op, "ids")
    check_count(len(checked), n_rows, op)
    check_unique(op, checked)
    return checked.copy()


def check_count(n_ids: int, n_rows: int, op: str) -> None:
    """Raises ValueError where there is not one id per new document."""
    if n_ids != n_rows:
        raise ValueError(f"{op}: expected {n_rows} ids, one per vector, got {n_ids}")
