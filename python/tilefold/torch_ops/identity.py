"""Masks documents that are not negatives because of their ids.

Queries with one id form a group, and the ids of all their positives are the ids of the group; a
document with one of these ids is not a negative. Groups take less memory than pairs of queries and
documents where many rows share few ids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ragged_lists import Integers, Lists, check_offsets, checked, united


class Identity(NamedTuple):
    """Masks document d for query i where ``document_ids[d]`` is an id of the query's group."""

    groups: Integers  # [n] group of each query
    ids: Lists  # ids of each group
    document_ids: Integers  # [m] consecutive ids from 0

    def pairs(self) -> Lists:
        """Lists the masked documents of each query."""
        counts = np.diff(self.ids.offsets)[self.groups]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return rows_of(Lists(offsets, self._ids_of_queries()[1]), self.document_ids)

    def counts(self) -> Integers:
        """Counts the masked documents of each query, without listing them."""
        rows, ids = self._ids_of_queries()
        sizes = np.bincount(self.document_ids)[ids]
        return np.bincount(rows, sizes, minlength=len(self.groups)).astype(np.int64)

    def has(self, lists: Lists) -> NDArray[np.bool_]:
        """Returns for each listed document whether it is masked."""
        bound = int(self.document_ids.max(initial=0)) + 1
        known = self.ids.keys(bound)  # rising
        wanted = self.groups[lists.owners()] * bound + self.document_ids[lists.indices]
        found: NDArray[np.bool_] = np.isin(wanted, known)
        return found

    def _ids_of_queries(self) -> tuple[Integers, Integers]:
        begin, counts = self.ids.offsets[self.groups], np.diff(self.ids.offsets)[self.groups]
        rows = np.repeat(np.arange(len(self.groups)), counts)
        return rows, self.ids.indices[_runs(begin, counts)]


def identity(
    positives: Lists,
    m: int,
    query_ids: Integers | None,
    document_ids: Integers | None,
    all_ranks: tuple[Lists | None, Integers | None] = (None, None),
) -> Identity | None:
    """Computes the masks of ids, or returns None without ids.

    Args:
        positives: the positives of each query.
        m: number of documents.
        query_ids: ``[n]`` int64.
        document_ids: ``[m]`` int64; without them each document has an id of its own.
        all_ranks: where the batch is spread over ranks, positives and ids of the queries of all
            ranks.
    """
    if query_ids is None and document_ids is None:
        return None
    dense = np.arange(m)
    if document_ids is not None:
        dense = np.unique(document_ids, return_inverse=True)[1]
    owners, groups, n_groups = positives.owners(), np.arange(len(positives.offsets) - 1), None
    if query_ids is not None:
        lists, ids = all_ranks
        positives = positives if lists is None else lists
        known, inverse = np.unique(query_ids if ids is None else ids, return_inverse=True)
        groups, owners = np.searchsorted(known, query_ids), inverse[positives.owners()]
        n_groups = len(known)
    n_groups = len(groups) if n_groups is None else n_groups
    keys = np.unique(owners * m + dense[positives.indices])  # ids are fewer than documents
    counts = np.bincount(keys // m, minlength=n_groups)
    return Identity(groups, Lists(np.concatenate([[0], np.cumsum(counts)]), keys % m), dense)


def excluded(
    op: str, m: int, rows: Lists | None, ids: Lists | None, document_ids: Integers | None
) -> Lists | None:
    """Lists the documents that are not candidates of each query, by row or by id.

    Args:
        op: the public function, for messages.
        m: number of documents.
        rows: rows of excluded documents for each query.
        ids: ids of excluded documents for each query.
        document_ids: ``[m]`` int64; needed with `ids`.

    Raises:
        ValueError: an index that is not a row of documents, ids without `document_ids`.
    """
    if rows is not None:
        rows = checked(rows, op, "exclude", m)
    if ids is None:
        return rows
    if document_ids is None:
        raise ValueError(f"{op}: exclude_ids need document_ids")
    check_offsets(ids, op, "exclude_ids")
    named = rows_of(ids, document_ids)
    return named if rows is None else united(rows, named, m)


def rows_of(ids: Lists, document_ids: Integers) -> Lists:
    """Lists the rows of documents that have one of the ids listed for each query.

    >>> rows_of(Lists.pack([[7], [], [9, 7, 7]]), np.array([7, 8, 7]))
    Lists(offsets=array([0, 2, 2, 4]), indices=array([0, 2, 0, 2]))
    """
    n, m = len(ids.offsets) - 1, len(document_ids)
    order = np.argsort(document_ids, kind="stable")
    rising = document_ids[order]
    begin = np.searchsorted(rising, ids.indices)
    counts = np.searchsorted(rising, ids.indices, side="right") - begin
    keys = np.unique(np.repeat(ids.owners(), counts) * m + order[_runs(begin, counts)])
    totals = np.bincount(keys // m, minlength=n)
    return Lists(np.concatenate([[0], np.cumsum(totals)]), keys % m)


def _runs(begin: Integers, counts: Integers) -> Integers:
    """Concatenates the ranges ``begin, begin + 1, ..., begin + count - 1``."""
    ends = np.cumsum(counts)
    return np.repeat(begin - (ends - counts), counts) + np.arange(int(counts.sum()))
