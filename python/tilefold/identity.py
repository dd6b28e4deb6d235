"""Which documents are no negatives because of what they are: masks by id.

A query's positives, and those of queries with its id, make its group's ids; a document with one of
these is no negative. Groups rather than pairs, so that many rows of few ids cost no more than few.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lists import Integers, Lists


class Identity(NamedTuple):
    """Document d is no negative of query i where ``document_ids[d]`` is among ids of its group."""

    groups: Integers  # [n]
    ids: Lists  # of each group
    document_ids: Integers  # [m] from 0 on

    def pairs(self) -> Lists:
        """All such documents of each query."""
        order = np.argsort(self.document_ids, kind="stable")
        rising = self.document_ids[order]
        rows, ids = self._ids_of_queries()
        begin = np.searchsorted(rising, ids)
        counts = np.searchsorted(rising, ids, side="right") - begin
        keys = np.repeat(rows, counts) * len(order) + order[_runs(begin, counts)]
        keys.sort()
        totals = np.bincount(keys // len(order), minlength=len(self.groups))
        return Lists(np.concatenate([[0], np.cumsum(totals)]), keys % len(order))

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


def _runs(begin: Integers, counts: Integers) -> Integers:
    """All of ``begin, begin + 1, ..., begin + count - 1``, one after the other."""
    ends = np.cumsum(counts)
    return np.repeat(begin - (ends - counts), counts) + np.arange(int(counts.sum()))
