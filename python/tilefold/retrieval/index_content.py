"""IndexContent: the documents of an index at one moment, and the ids by which callers know them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..integers import as_integer
from .dense_numbers import renumbered
from .id_table import GivenIds, IdTable, Names, given_ids
from .removed_rows import no_rows
from .search_options import SearchOptions
from .segment import Segment, merge
from .string_ids import allowed_numbers, excluded_numbers


class IndexContent(NamedTuple):
    """What a search sees. An index replaces it as a whole.

    Attributes:
        segments: documents, by number.
        table: the string of each number, also of numbers that were added since; None where ids are
            integers, which are their own numbers, or where none was given yet.
    """

    segments: tuple[Segment, ...] = ()
    table: IdTable | None = None

    def ids(self) -> NDArray[Any]:
        """Returns the ids of documents, in the order of addition."""
        numbers = np.concatenate([np.empty(0, np.int64), *(s.live_ids() for s in self.segments)])
        return numbers if self.table is None else self.table.names(numbers)

    def contains(self, id: object) -> bool:
        """Returns whether a document has this id; False for what is no id."""
        if self.table is not None:
            numbers = self.table.numbers([id] if isinstance(id, str) else [])
        else:
            try:
                number = as_integer(id, "FlatIndex", "id")
            except TypeError:
                return False
            numbers = np.array([number] if 0 <= number < 2**63 else [], np.int64)
        return any(bool((s.find(numbers) >= 0).any()) for s in self.segments)

    def given(self, ids: Any, op: str) -> GivenIds:
        """Looks up the argument `ids` of an operation; absent ones are no error here."""
        return given_ids(ids, self.table, op)

    def check_free(self, op: str, given: GivenIds, advice: str) -> None:
        """Raises ValueError where an id is in the index."""
        for segment in self.segments:
            taken = segment.find(given.numbers) >= 0
            if taken.any():
                id = given.shown(int(np.argmax(taken)))
                raise ValueError(f"{op}: id {id} is already in the index; {advice}")

    def with_numbers(self, options: SearchOptions) -> SearchOptions:
        """Returns the options of a search with the numbers of the strings in its filters."""
        allowed, exclude = options.allowed, options.exclude
        if self.table is None or (allowed is None and exclude is None):
            return options
        lookup = self.table.numbers
        if allowed is not None:
            allowed = allowed_numbers(allowed, lookup, options.op)
        if exclude is not None:
            exclude = excluded_numbers(exclude, lookup, options.op)
        return replace(options, allowed=allowed, exclude=exclude)

    def to_merge(
        self, into: IndexContent, offset: int, op: str
    ) -> tuple[list[Segment], Names | None]:
        """Returns the segments under the numbers that another index will have, and their strings.

        Args:
            into: of the other index.
            offset: added to integer ids.
            op: the public function, for messages.

        Raises:
            ValueError: an id leaves the range 0 to 2^63 - 1.
        """
        if self.table is None:
            return [_with_offset(segment, offset, op) for segment in self.segments], None
        if not self.segments:
            return [], np.empty(0, object)
        nothing = no_rows(self.segments[0].vectors.shape[1])
        first = 0 if into.table is None else len(into.table)
        anew = renumbered(self.segments, nothing, self.table.names, first=first)
        return list(anew.segments), anew.names


def _with_offset(segment: Segment, offset: int, op: str) -> Segment:
    """Returns a segment with other ids; rows that are removed keep any."""
    live = segment.live_ids()
    low, high = int(live.min()) + offset, int(live.max()) + offset
    if low < 0 or high >= 2**63:
        raise ValueError(f"{op}: ids of other would be {low} to {high}, and must be 0 to 2^63 - 1")
    if not offset:
        return segment
    if segment.live is not None:  # the ids of removed rows could leave the range
        segment = merge([segment])
    return replace(segment, ids=segment.ids + offset)
