"""Checks rankings, scores and lists of documents, and finds what is listed twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...mining.mining_inputs import as_lists, first_of_groups, packed
from ...ragged_lists import Integers, Lists

# Ids from here on, such as digests, are numbered, so that query and document make one number.
_LARGE = 2**31


def as_ranking(ranking: Any, op: str, name: str = "ranking") -> Integers:
    """Returns the ids ``[n, k]`` of a ranking, best first, -1 where there is no document.

    Args:
        ranking: a `SearchResult`, or its ids alone.
        op: the public function, for messages.
        name: the argument, for messages.

    Raises:
        TypeError: ids that are no integers.
        ValueError: an array that has not two dimensions, or an id below -1.
    """
    ids = _as_array(getattr(ranking, "ids", ranking), f"{op}: {name} must be ids [n, k]")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"{op}: {name} must be integer ids of documents, got {ids.dtype}")
    if ids.ndim != 2:
        raise ValueError(f"{op}: {name} must be ids [n, k], got shape {ids.shape}")
    if ids.size and ids.min() < -1:
        row, column = np.argwhere(ids < -1)[0]
        raise ValueError(
            f"{op}: {name} must have ids of 0 or more, or -1 for none, got {ids[row, column]} for "
            f"query {row}"
        )
    return ids.astype(np.int64, copy=False)


def as_scores(scores: Any, op: str, ids: Integers) -> NDArray[np.float64]:
    """Returns preference scores as float64, and checks that they fit a ranking.

    Args:
        scores: ``[n, N]`` real numbers, larger is preferred, -inf where there is no passage.
        op: the public function, for messages.
        ids: ``[n, k]``, of which the first N are scored.

    Raises:
        TypeError: other than real numbers.
        ValueError: another shape; a NaN; a score where the ranking has no document.
    """
    raw = _as_array(scores, f"{op}: scores must be real numbers [n, N]")
    if raw.dtype.kind not in "fiu":
        raise TypeError(f"{op}: scores must be real numbers, got {raw.dtype}")
    found = raw.astype(np.float64, copy=False)
    n, k = ids.shape
    if found.ndim != 2 or len(found) != n or not 1 <= found.shape[1] <= k:
        raise ValueError(
            f"{op}: scores must be [n, N] for a ranking of shape {ids.shape}, with N from 1 to "
            f"{k}, got shape {found.shape}"
        )
    if np.isnan(found).any():
        row, column = np.argwhere(np.isnan(found))[0]
        raise ValueError(f"{op}: the score of passage {column} of query {row} is NaN")
    misplaced = (ids[:, : found.shape[1]] < 0) & (found != -np.inf)
    if misplaced.any():
        row, column = np.argwhere(misplaced)[0]
        raise ValueError(
            f"{op}: query {row} has the score {found[row, column]} at rank {column}, where the "
            "ranking has no document; are these scores of another ranking?"
        )
    return found


def _as_array(values: Any, expected: str) -> NDArray[Any]:
    """Returns an array; lists of different lengths, and tensors that NumPy cannot read, are named.

    Raises:
        TypeError: begins with what is expected.
    """
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{expected}, got a {type(values).__name__}: {error}") from error


class SameTexts:
    """Says which documents are the same, because they have equal titles and texts.

    Args:
        op: the public function, for messages.
        groups: ``[m]`` integers, equal for equal documents; None if no two documents are equal.
        *ids: arrays of ids; without groups, the largest says how many documents there are.
    """

    def __init__(self, op: str, groups: Any, *ids: Integers) -> None:
        largest = max((int(some.max(initial=-1)) for some in ids), default=-1)
        self._known: Integers | None = None
        self.m = max(1, largest + 1 if groups is None else len(groups))
        if groups is None and self.m > _LARGE:
            self._known = np.unique(np.concatenate([some.ravel() for some in ids]))
            self.m = len(self._known)
        self._first = first_of_groups(groups, op, self.m)
        if groups is not None and largest >= self.m:
            raise ValueError(f"{op}: expected ids below {self.m} as groups has, got {largest}")

    def standing_for(self, ids: Integers) -> Integers:
        """Returns the number of each document, equal for equal ones and below m; -1 stays -1."""
        if self._known is not None:
            return np.where(ids < 0, -1, np.searchsorted(self._known, ids))
        return ids if self._first is None else np.where(ids < 0, -1, self._first[ids])

    def keys(self, lists: Lists) -> Integers:
        """Encodes query and document as one number, equal for equal documents of a query."""
        return lists.owners() * self.m + self.standing_for(lists.indices)

    def once(self, lists: Lists) -> Lists:
        """Drops documents that equal an earlier one of the same query."""
        keep = first_places(self.keys(lists))
        counts = np.bincount(lists.owners()[keep], minlength=len(lists.offsets) - 1)
        return Lists(np.concatenate([[0], np.cumsum(counts)]), lists.indices[keep])


def first_places(keys: Integers) -> NDArray[np.bool_]:
    """Marks the first appearance of each key.

    >>> first_places(np.array([5, 3, 5, 5, 4])).tolist()
    [True, True, False, False, True]
    """
    first = np.zeros(len(keys), np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


def n_queries(lists: Any, op: str, name: str) -> int:
    """Returns the number of queries of lists.

    Raises:
        TypeError: another kind of object.
    """
    return len(packed(lists, op, name).offsets) - 1


def as_document_lists(lists: Any, op: str, name: str, n: int, groups: Any) -> Lists:
    """Returns lists of n queries, checked; documents are those of groups, if there are any."""
    largest = int(packed(lists, op, name).indices.max(initial=0))
    return as_lists(lists, op, name, n, largest + 1 if groups is None else len(groups))
