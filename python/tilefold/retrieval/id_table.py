"""IdTable: string ids of an index, and the number by which its segments know each document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import as_id_list, check_unique
from .string_ids import as_strings, check_distinct

Names = NDArray[np.object_]

# No document has this number, so a filter that names an unknown id filters nothing.
ABSENT = np.iinfo(np.int64).max


class IdTable:
    """Strings by number and numbers by string, for one thread that changes it and many that read.

    Numbers count up from 0 in the order of addition and are never given again. A number keeps its
    string for as long as the table lives, so a search that began earlier can still name what it
    finds; a string may be forgotten, or be given a later number.

    It takes 67 to 80 bytes per document beside the strings themselves, measured for 10^5 to 10^6.

    Args:
        names: ``[numbers]`` the string of each number, None for a number without one.

    Example:
        >>> table = IdTable(np.array(["d1", "d7"], object))
        >>> table.numbers(["d7", "d9"]) == [1, ABSENT]
        array([ True,  True])
        >>> table.names(np.array([1, -1]))
        array(['d7', None], dtype=object)
    """

    def __init__(self, names: Names | None = None) -> None:
        self._names: Names = np.empty(0, object) if names is None else names
        self._size = len(self._names)
        # A string that was forgotten and given again is there twice: the later number counts.
        self._numbers = {
            name: number for number, name in enumerate(self._names.tolist()) if name is not None
        }

    def __len__(self) -> int:
        """Returns how many numbers were given."""
        return self._size

    @property
    def n_known(self) -> int:
        """How many strings have a number."""
        return len(self._numbers)

    def numbers(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Returns the number of each string, `ABSENT` for those that have none."""
        get = self._numbers.get
        return np.fromiter((get(name, ABSENT) for name in names), np.int64)

    def names(self, numbers: NDArray[np.int64]) -> Names:
        """Returns the string of each number, in the same shape; None for -1."""
        if not self._size:
            return np.full(numbers.shape, None, object)
        names: Names = self._names[numbers]  # -1 takes the last one, for now
        names[numbers < 0] = None
        return names

    def append(self, names: Sequence[str] | Names) -> NDArray[np.int64]:
        """Gives the next numbers to strings; None takes a number without a string."""
        begin, end = self._size, self._size + len(names)
        if end > len(self._names):
            grown: Names = np.full(max(end, 2 * len(self._names)), None, object)
            grown[:begin] = self._names[:begin]
            self._names = grown  # threads that have the earlier array know all that they search
        self._names[begin:end] = names
        for number, name in enumerate(names, begin):
            if name is not None:
                self._numbers[name] = number
        self._size = end
        return np.arange(begin, end, dtype=np.int64)

    def forget(self, numbers: NDArray[np.int64]) -> None:
        """Forgets strings, unless they were given a later number."""
        for number, name in zip(numbers.tolist(), self.names(numbers), strict=True):
            if self._numbers.get(name) == number:
                del self._numbers[name]

    def by_number(self) -> Names:
        """Returns a copy ``[len(self)]`` of the strings, forgotten ones included."""
        return self._names[: self._size].copy()


@dataclass(frozen=True)
class GivenIds:
    """Ids as a caller gave them.

    Attributes:
        numbers: ``[n]`` as segments have them.
        strings: ``[n]``, where the index has such ids.
        single: whether one id came instead of a list.
    """

    numbers: NDArray[np.int64]
    strings: list[str] | None
    single: bool

    def shown(self, place: int) -> str:
        """Returns an id for a message."""
        return str(self.numbers[place]) if self.strings is None else repr(self.strings[place])

    def check_unique(self, op: str) -> None:
        """Raises ValueError where an id is there twice."""
        if self.strings is None:
            check_unique(op, self.numbers)
        else:
            check_distinct(op, self.strings)


def given_ids(ids: Any, table: IdTable | None, op: str) -> GivenIds:
    """Looks up ids of an index, integers or those of its table; absent ones are no error here.

    Raises:
        TypeError: ids are not of the kind that the index has.
    """
    if table is None:
        numbers, single = as_id_list(ids, op, "ids")
        return GivenIds(numbers, None, single)
    strings = as_strings([ids] if isinstance(ids, str) else ids, op, "ids")
    return GivenIds(table.numbers(strings), strings, isinstance(ids, str))
