"""Checks the arguments of mining: lists of documents, groups, ranks and scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Vectors, as_ids
from ..integers import as_integer
from ..ragged_lists import Integers, Lists, checked
from ..retrieval.running_search import finite_rows


def packed(lists: Any, op: str, name: str) -> Lists:
    """Returns lists of documents as offsets and indices.

    Args:
        lists: a list with the documents of each query, or a pair (offsets, indices).
        op: the public function, for messages.
        name: the argument, for messages.

    Raises:
        TypeError: neither, or documents that are no integers.
    """
    if isinstance(lists, list):
        own = [as_ids(part, op, f"{name}[{i}]") for i, part in enumerate(lists)]
        offsets = np.cumsum([0, *map(len, own)], dtype=np.int64)
        return Lists(offsets, np.concatenate([np.empty(0, np.int64), *own]))
    pair = isinstance(lists, tuple) and len(lists) == 2
    if not pair or any(isinstance(part, list | tuple) for part in lists):
        raise TypeError(
            f"{op}: {name} must be a list of lists of documents, or tilefold.ragged_lists.Lists, a "
            f"pair (offsets, indices) of integer arrays; got {type(lists).__name__}"
        )
    return Lists(*(as_ids(array, op, f"{name}[{i}]") for i, array in enumerate(lists)))


def as_lists(lists: Any, op: str, name: str, n: int, m: int) -> Lists:
    """Lists of n queries over m documents, in the caller's order; see `packed`."""
    found = packed(lists, op, name)
    if len(found.offsets) != n + 1:
        more, what = (0, "lists") if isinstance(lists, list) else (1, "offsets")
        got = len(found.offsets) - 1 + more
        raise ValueError(f"{op}: {name} must have {n + more} {what} for {n} queries, got {got}")
    checked(found, op, name, m)
    return found


def as_positives(positives: Any, op: str, n: int, m: int) -> Lists:
    """Checks lists that have at least one document for each query."""
    lists = as_lists(positives, op, "positives", n, m)
    counts = np.diff(lists.offsets)
    if n and not counts.all():
        raise ValueError(f"{op}: query {counts.argmin()} has no positive; leave such queries out")
    return lists


def first_of_groups(groups: Any, op: str, m: int) -> Integers | None:
    """``[m]`` the first document of the group of each; None if each is a group of its own."""
    if groups is None:
        return None
    numbers = as_ids(groups, op, "groups")
    if len(numbers) != m:
        raise ValueError(f"{op}: groups must have one entry per document, {m}, got {len(numbers)}")
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    rows: Integers = first[inverse]
    return rows


def check_finite(vectors: Vectors, op: str, name: str) -> None:
    """Refuses vectors with NaN or infinity, of which no score can be compared."""
    finite = finite_rows(vectors)
    if not finite.all():
        row = int(np.argmin(finite))
        raise ValueError(f"{op}: row {row} of {name} has a NaN or an infinity")


def checked_batch_size(batch_size: Any, op: str) -> int:
    """Checks the number of queries per batch."""
    number = as_integer(batch_size, op, "batch_size")
    if number < 1:
        raise ValueError(f"{op}: batch_size must be at least 1, got {number}")
    return number


@dataclass(frozen=True)
class Ranks:
    """The number of negatives and the window of their ranks."""

    op: str
    n_negatives: int
    range_min: int
    range_max: int | None

    def __post_init__(self) -> None:
        for name in ("n_negatives", "range_min", "range_max"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_integer(getattr(self, name), self.op, name))
        if self.n_negatives < 1:
            raise ValueError(f"{self.op}: n_negatives must be at least 1, got {self.n_negatives}")
        if self.range_min < 0:
            raise ValueError(f"{self.op}: range_min must not be negative, got {self.range_min}")
        if self.range_max is None:
            return
        if self.range_max <= self.range_min:
            raise ValueError(
                f"{self.op}: range_max must be above range_min, {self.range_min}; "
                f"got {self.range_max}"
            )
        if self.range_max - self.range_min < self.n_negatives:
            raise ValueError(
                f"{self.op}: {self.n_negatives} negatives do not fit between range_min "
                f"{self.range_min} and range_max {self.range_max}"
            )


@dataclass(frozen=True)
class ScoreWindow:
    """The window of scores that negatives may have."""

    op: str
    min_score: float | None
    max_score: float | None
    absolute_margin: float | None
    relative_margin: float | None

    def __post_init__(self) -> None:
        for name in ("min_score", "max_score", "absolute_margin", "relative_margin"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _number(value, self.op, name))
        for name in ("absolute_margin", "relative_margin"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(
                    f"{self.op}: {name} must be 0 or more, how far negatives stay below the "
                    f"positive; got {value}"
                )
        if None not in (self.min_score, self.max_score) and self.min_score > self.max_score:  # type: ignore[operator]
            raise ValueError(
                f"{self.op}: min_score {self.min_score} is above max_score {self.max_score}"
            )

    @property
    def margins(self) -> bool:
        """Returns whether scores of positives limit those of negatives."""
        return self.absolute_margin is not None or self.relative_margin is not None

    def ceilings(self, p: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        """Computes the highest score that each option allows a negative of each query.

        Args:
            p: ``[n]`` the score of each query's positive.
        """
        found: dict[str, NDArray[np.float64]] = {}
        if self.max_score is not None:
            found["max_score"] = np.full(len(p), self.max_score)
        if self.absolute_margin is not None:
            found["absolute_margin"] = p - self.absolute_margin
        if self.relative_margin is not None:
            found["relative_margin"] = p - np.abs(p) * self.relative_margin
        with np.errstate(over="ignore"):
            return {name: limit.astype(np.float32) for name, limit in found.items()}


def _number(value: Any, op: str, name: str) -> float:
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise TypeError(f"{op}: {name} must be a number, got {kind}") from None
    if math.isnan(number):
        raise ValueError(f"{op}: {name} must not be NaN")
    return number
