"""Masks documents that are no negatives because of their ids.

A query's positives, and those of queries with its id, make its group's ids; a document with one of
these is no negative. Groups rather than pairs, so that many rows of few ids cost no more than few.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ragged_lists import Integers, Lists, check_offsets, checked, united


class Identity(NamedTuple):
    """Document d is no negative of query i where ``document_ids[d]`` is among ids of its group."""

    groups: Integers  # [n]
    ids: Lists  # of each group
    document_ids: Integers  # [m] from 0 on

    def pairs(self) -> Lists:
        """All such documents of each query."""
        counts = np.diff(self.ids.offsets)[self.groups]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return rows_of(Lists(offsets, self._ids_of_queries()[1]), self.document_ids)

    def counts(self) -> Integers:
        """How many each query has, without listing them."""
        rows, ids = self._ids_of_queries()
        sizes = np.bincount(self.document_ids)[ids]
        return np.bincount(rows, sizes, minlength=len(self.groups)).astype(np.int64)

    def has(self, lists: Lists) -> NDArray[np.bool_]:
        """Whether each listed document is one of them."""
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
    everyone: tuple[Lists | None, Integers | None] = (None, None),
) -> Identity | None:
    """The masks of ids, or None without any.

    Args:
        positives: of each query.
        m: documents.
        query_ids: ``[n]``.
        document_ids: ``[m]``; without them each document is its own.
        everyone: where other queries are elsewhere, positives and ids of all, these among them.
    """
    if query_ids is None and document_ids is None:
        return None
    dense = np.arange(m)
    if document_ids is not None:
        dense = np.unique(document_ids, return_inverse=True)[1]
    owners, groups, n_groups = positives.owners(), np.arange(len(positives.offsets) - 1), None
    if query_ids is not None:
        lists, ids = everyone
        positives = positives if lists is None else lists
        known, of_all = np.unique(query_ids if ids is None else ids, return_inverse=True)
        groups, owners = np.searchsorted(known, query_ids), of_all[positives.owners()]
        n_groups = len(known)
    n_groups = len(groups) if n_groups is None else n_groups
    keys = np.unique(owners * m + dense[positives.indices])  # ids are fewer than documents
    counts = np.bincount(keys // m, minlength=n_groups)
    return Identity(groups, Lists(np.concatenate([[0], np.cumsum(counts)]), keys % m), dense)


def excluded(
    op: str, m: int, rows: Lists | None, ids: Lists | None, document_ids: Integers | None
) -> Lists | None:
    """What is no candidate of each query, named by its row or by its id.

    Args:
        op: for messages.
        m: documents.
        rows: of documents.
        ids: of documents.
        document_ids: ``[m]``.

    Raises:
        ValueError: lists that are not of m documents, ids without `document_ids`.
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
    """Documents that have one of the ids listed for each query.

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
    """All of ``begin, begin + 1, ..., begin + count - 1``, one after the other."""
    ends = np.cumsum(counts)
    return np.repeat(begin - (ends - counts), counts) + np.arange(int(counts.sum()))
