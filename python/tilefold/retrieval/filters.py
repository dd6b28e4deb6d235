"""Filters of a search: allowed ids, excluded ids per query, and ranges of scores."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, as_array, as_ids

_NOT_IDS = (type(None), str, numbers.Number, Set, Mapping, Iterator)


@dataclass(frozen=True)
class Filters:
    """The filters of one search, checked and in the form that kernels expect."""

    allowed_mask: NDArray[np.bool_] | None = None  # indexed by id
    allowed_ids: NDArray[np.int64] | None = None  # sorted
    exclude_offsets: NDArray[np.int64] | None = None  # [n + 1]
    exclude_ids: NDArray[np.int64] | None = None  # sorted within each query
    min_score: NDArray[np.float32] | None = None  # [n]
    max_score: NDArray[np.float32] | None = None  # [n]

    @property
    def restrict(self) -> bool:
        """Whether `allowed` excludes documents for all queries."""
        return self.allowed_mask is not None or self.allowed_ids is not None

    def allows(self, ids: NDArray[np.int64], op: str) -> NDArray[np.bool_]:
        """Returns a mask of the documents with these ids that may be retrieved.

        Raises:
            ValueError: the mask over ids is too short for an id.
        """
        if self.allowed_mask is not None:
            size = int(ids.max(initial=-1)) + 1
            if size > len(self.allowed_mask):
                raise ValueError(
                    f"{op}: allowed is a mask over ids and must have at least {size} entries, "
                    f"got {len(self.allowed_mask)}"
                )
            return self.allowed_mask[ids]
        if self.allowed_ids is not None:
            return np.isin(ids, self.allowed_ids)
        return np.ones(len(ids), np.bool_)

    def allowed_rows(
        self, ids: NDArray[np.int64], live: NDArray[np.bool_] | None, op: str
    ) -> NDArray[np.bool_] | None:
        """Returns a mask of the live rows that `allowed` leaves; None for all rows.

        Args:
            ids: ``[rows]`` ids of documents.
            live: ``[rows]`` mask of documents that may be retrieved; all by default.
            op: the public function, for messages.
        """
        if not self.restrict:
            return live
        live = np.ones(len(ids), np.bool_) if live is None else live.copy()
        live[live] = self.allows(ids[live], op)
        return live

    def of_queries(self, queries: NDArray[np.int64]) -> Filters:
        """Returns the filters of some of the queries ``[chosen]``, by number."""
        if len(queries) == 0:
            return Filters(self.allowed_mask, self.allowed_ids)
        offsets, excluded = self.exclude_offsets, self.exclude_ids
        if offsets is not None and excluded is not None:
            lengths = np.diff(offsets)[queries]
            ends = np.cumsum(lengths)
            places = np.repeat(offsets[queries] - (ends - lengths), lengths)
            excluded = excluded[places + np.arange(len(places))]
            offsets = np.concatenate([np.zeros(1, np.int64), ends])
        return Filters(
            self.allowed_mask,
            self.allowed_ids,
            offsets,
            excluded,
            None if self.min_score is None else self.min_score[queries],
            None if self.max_score is None else self.max_score[queries],
        )


def make_filters(
    n_queries: int,
    op: str,
    *,
    allowed: Array | None,
    exclude: Any,
    min_score: Any,
    max_score: Any,
) -> Filters:
    """Checks the filter arguments of a search, which are documented in `tilefold.search`."""
    mask = None if allowed is None else _id_array(allowed, op, "allowed")
    is_mask = mask is not None and mask.dtype == np.bool_
    if mask is not None and is_mask and mask.ndim != 1:
        raise ValueError(f"{op}: allowed must have 1 dimension, got {mask.ndim}")
    offsets, excluded = _exclusions(exclude, n_queries, op)
    return Filters(
        allowed_mask=mask if is_mask else None,
        allowed_ids=None if mask is None or is_mask else np.unique(as_ids(mask, op, "allowed")),
        exclude_offsets=offsets,
        exclude_ids=excluded,
        min_score=_score_limit(min_score, n_queries, op, "min_score"),
        max_score=_score_limit(max_score, n_queries, op, "max_score"),
    )


def _id_array(values: Array, op: str, name: str) -> NDArray[Any]:
    if isinstance(values, list) and all(type(id) is int for id in values):
        array = np.asarray(values)  # most lists; the way of all others takes longer
    elif isinstance(values, _NOT_IDS):
        raise TypeError(
            f"{op}: {name} must be an array or a list of ids, got {type(values).__name__}"
        )
    else:
        array = as_array(values, op, name)
    return array if array.size else array.astype(np.int64)


def _score_limit(value: Any, n_queries: int, op: str, name: str) -> NDArray[np.float32] | None:
    if value is None:
        return None
    scores = np.asarray(value) if np.isscalar(value) else as_array(value, op, name)
    if scores.dtype.kind not in "fiu":
        raise TypeError(f"{op}: {name} must be a number or an array of them, got {scores.dtype}")
    if scores.ndim > 1 or (scores.ndim == 1 and len(scores) != n_queries):
        raise ValueError(
            f"{op}: {name} must be a number or have one per query, {n_queries}; "
            f"got shape {scores.shape}"
        )
    with np.errstate(over="ignore"):
        limit = np.broadcast_to(scores.astype(np.float32), (n_queries,))
    if np.isnan(limit).any():
        raise ValueError(f"{op}: {name} must not be NaN")
    return np.ascontiguousarray(limit)


def _exclusions(
    exclude: Any, n_queries: int, op: str
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Returns CSR offsets ``[n + 1]`` and ids, sorted within each query."""
    if exclude is None:
        return None, None
    if _is_csr(exclude, n_queries):
        # Copied, because a caller who changes them while they are in use would mislead a kernel.
        offsets, ids = (
            as_ids(part, op, name).copy()
            for part, name in zip(exclude, ("exclude offsets", "exclude"), strict=True)
        )
        if offsets[0] != 0 or offsets[-1] != len(ids) or (np.diff(offsets) < 0).any():
            raise ValueError(
                f"{op}: exclude offsets must rise from 0 to the number of ids, {len(ids)}"
            )
    elif len(getattr(exclude, "shape", ())) == 2:
        offsets, ids = _rows_of_table(as_array(exclude, op, "exclude"), n_queries, op)
    else:
        exclude = rows_of_column(exclude)
        if not isinstance(exclude, Sequence) or len(exclude) != n_queries:
            raise ValueError(
                f"{op}: exclude must be a list of {n_queries} id lists, one per query, or a pair "
                f"(offsets [{n_queries + 1}], ids); got {_describe(exclude)}"
            )
        names = [f"exclude[{i}]" for i in range(n_queries)]
        lists = [
            as_ids(_id_array(ids, op, name), op, name)
            for ids, name in zip(exclude, names, strict=True)
        ]
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        ids = np.concatenate([*lists, np.empty(0, np.int64)])
    query = np.repeat(np.arange(n_queries), np.diff(offsets))
    return offsets, np.ascontiguousarray(ids[np.lexsort((ids, query))])


def rows_of_column(lists: Any) -> Any:
    """Returns the rows of a column of lists (of pandas, polars, pyarrow or NumPy), or the value."""
    if isinstance(lists, Sequence):
        return lists
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(lists, method):
            return getattr(lists, method)()
    return lists


def _rows_of_table(
    table: NDArray[Any], n_queries: int, op: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns CSR offsets and ids of a table with a row per query, without its padding of -1."""
    if table.dtype.kind not in "iu":
        raise TypeError(f"{op}: exclude must be integers, got {table.dtype}")
    if len(table) != n_queries:
        raise ValueError(
            f"{op}: exclude must have a row per query, {n_queries}, got {len(table)} rows"
        )
    kept = table != -1 if table.dtype.kind == "i" else np.ones(table.shape, np.bool_)
    offsets = np.cumsum([0, *kept.sum(1)], dtype=np.int64)
    return offsets, as_ids(table[kept], op, "exclude")


def _is_csr(exclude: Any, n_queries: int) -> bool:
    """Returns whether exclude is a pair of arrays, the first with n_queries + 1 offsets."""
    return (
        isinstance(exclude, tuple)
        and len(exclude) == 2
        and all(hasattr(part, "dtype") for part in exclude)
        and len(exclude[0]) == n_queries + 1
    )


def _describe(exclude: Any) -> str:
    length = f" of {len(exclude)}" if hasattr(exclude, "__len__") else ""
    return f"{type(exclude).__name__}{length}"
