"""Holds lists of documents, one per query: positives, negatives, excluded documents.

Lists of different lengths are CSR: offsets ``[n + 1]`` and indices, those of query i being
``indices[offsets[i]:offsets[i + 1]]``. They are NumPy arrays, because for small batches waking the
threads of torch takes longer than the work itself; all is vectorised, so it costs a sort of the
lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Lists(NamedTuple):
    """Lists of documents in CSR form, one list per query."""

    offsets: Integers  # [n + 1]
    indices: Integers  # rising within each query

    @classmethod
    def pack(cls, lists: Sequence[Sequence[int] | Integers]) -> Lists:
        """Packs one sequence of documents per query, keeping their order.

        >>> Lists.pack([[4, 1], [], [2]])
        Lists(offsets=array([0, 2, 2, 3]), indices=array([4, 1, 2]))
        """
        offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        return cls(offsets, np.array([i for part in lists for i in part], np.int64))

    def of(self, query: int) -> Integers:
        """Returns the documents listed for a query."""
        return self.indices[self.offsets[query] : self.offsets[query + 1]]

    def owners(self) -> Integers:
        """Returns the query of each index."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def keys(self, m: int) -> Integers:
        """Encodes query and document of each index as one number, ``query * m + document``."""
        return self.owners() * m + self.indices


# What functions take: a list with the documents of each query, or arrays of offsets and indices.
ListsLike = list[list[int]] | list[Integers] | Lists | tuple[Integers, Integers]


def checked(lists: Lists, op: str, name: str, m: int) -> Lists:
    """Checks lists of m documents, and returns them with rising indices in each list.

    Args:
        lists: offsets ``[n + 1]`` and indices, both int64.
        op: the public function, for messages.
        name: the argument, for messages.
        m: number of documents.

    Raises:
        ValueError: offsets that do not rise to the number of indices, an index that is not one of
            the m documents, or a document listed twice for a query.
    """
    check_offsets(lists, op, name)
    offsets, indices = lists
    wrong = (indices < 0) | (indices >= m)
    if wrong.any():
        place = int(wrong.argmax())
        query = int(np.searchsorted(offsets, place, side="right")) - 1
        raise ValueError(
            f"{op}: {name} must be indices of documents, 0 to {m - 1}, got {indices[place]} "
            f"for query {query}"
        )
    if np.diff(offsets).max(initial=0) <= 1:
        return lists
    owners = lists.owners()
    if m * len(offsets) < 2**63:
        keys = lists.keys(m)
        rising = bool((np.diff(keys) > 0).all())
        order = None if rising else np.argsort(keys, kind="stable")
    else:  # of ids such as digests
        order = np.lexsort((indices, owners))
    if order is None:
        return lists
    indices = indices[order]
    twice = np.flatnonzero((np.diff(indices) == 0) & (np.diff(owners) == 0))
    if len(twice):
        query, document = int(owners[twice[0]]), int(indices[twice[0]])
        raise ValueError(f"{op}: {name} of query {query} name document {document} twice")
    return Lists(offsets, indices)


def check_offsets(lists: Lists, op: str, name: str) -> None:
    """Raises where offsets do not rise from 0 to the number of indices."""
    offsets, indices = lists
    if not len(offsets):
        raise ValueError(
            f"{op}: offsets of {name} must have one element more than queries, got none"
        )
    if offsets[0] != 0 or offsets[-1] != len(indices) or (np.diff(offsets) < 0).any():
        raise ValueError(
            f"{op}: offsets of {name} must rise from 0 to the number of indices, {len(indices)}, "
            f"got {_shown(offsets)}"
        )


def shares(
    lists: Lists, values: NDArray[np.float64], op: str, name: str, m: int
) -> NDArray[np.float64]:
    """Normalises the values of each list to sum to one, in the order of indices of `checked`.

    Raises:
        ValueError: a value that is negative or not finite, or a sum that differs from one by more
            than 1 %, which half precision stays within.
    """
    wrong = ~(values >= 0)  # NaN, too
    if wrong.any():
        place = int(wrong.argmax())
        query = int(np.searchsorted(lists.offsets, place, side="right")) - 1
        raise ValueError(
            f"{op}: {name} must be numbers of 0 or more, got {values[place]} for query {query}"
        )
    owners = lists.owners()
    sums = np.bincount(owners, values, minlength=len(lists.offsets) - 1)
    wrong = ~(np.abs(sums - 1) <= 0.01)
    if wrong.any():
        query = int(wrong.argmax())
        raise ValueError(
            f"{op}: {name} of a query must sum to one, got {sums[query]:.6g} for query {query}"
        )
    return (values / sums[owners])[np.argsort(lists.keys(m), kind="stable")]


def united(one: Lists, other: Lists, m: int) -> Lists:
    """Returns the union of both lists of each query; m is the number of documents."""
    keys = np.union1d(one.keys(m), other.keys(m))
    counts = np.bincount(keys // m, minlength=len(one.offsets) - 1)
    return Lists(np.concatenate([[0], np.cumsum(counts)]), keys % m)


def transposed(lists: Lists, documents: Integers) -> Lists:
    """Lists, for each of these documents in rising order, the queries that list it."""
    rows = np.searchsorted(documents, lists.indices)
    there = np.append(documents, -1)[rows] == lists.indices
    rows, queries = rows[there], lists.owners()[there]
    counts = np.bincount(rows, minlength=len(documents))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Lists(offsets, queries[np.argsort(rows, kind="stable")])


def _shown(offsets: Integers) -> str:
    values = offsets.tolist()
    return str(values) if len(values) <= 6 else f"[{values[0]}, ..., {values[-1]}]"
