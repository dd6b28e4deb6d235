"""KeyedContent: the vectors and records of a `KeyedIndex` at one moment."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Vectors, as_queries
from ..retrieval.flat_index import FlatIndex
from .model_output import check_finite, narrowed

Entry = tuple[str, Any]  # an id and its record
_Blocks = Mapping[int, Mapping[int, Entry]]

# Numbers whose entries are copied together where one of them changes.
_BLOCK = 1024


class KeyedContent:
    """Vectors and entries by number. Changes return another content, which shares the rest.

    Numbers count up in the order of addition and are never given again.

    Args:
        index: the vectors; it is never changed.
        blocks: the entries of 1024 numbers each.
        end: more than every number that was given.
    """

    def __init__(
        self, index: FlatIndex | None = None, blocks: _Blocks | None = None, end: int = 0
    ) -> None:
        self.index, self.end = index, end
        self._blocks: _Blocks = {} if blocks is None else blocks

    def __len__(self) -> int:
        return 0 if self.index is None else len(self.index)

    def get(self, number: int) -> Entry | None:
        """Returns the entry of a number, None if there is none."""
        return self._blocks.get(number // _BLOCK, {}).get(number)

    def __getitem__(self, number: int) -> Entry:
        """Returns the entry of a number that is there."""
        return self._blocks[number // _BLOCK][number]

    def items(self) -> Iterator[tuple[int, Entry]]:
        """Gives numbers and entries in the order of addition."""
        for block in self._blocks.values():
            yield from block.items()

    def with_rows(self, entries: Mapping[int, Entry], rows: Vectors, metric: str) -> KeyedContent:
        """Returns what there is after entries and their vectors are added or replaced."""
        numbers = np.fromiter(entries, np.int64, len(entries))
        known = np.array([self.get(number) is not None for number in entries], np.bool_)
        index = self._other(rows.shape[1], metric)
        for change, which in ((index.replace, known), (index.add, ~known)):
            if which.any():
                change(rows[which], ids=numbers[which])
        return KeyedContent(index, self._changed(entries), max(self.end, int(numbers.max()) + 1))

    def with_entries(self, entries: Mapping[int, Entry]) -> KeyedContent:
        """Returns what there is with entries whose vectors are in the index already."""
        return KeyedContent(
            self.index, self._changed(entries), max([self.end, *(number + 1 for number in entries)])
        )

    def without(self, numbers: Sequence[int]) -> KeyedContent:
        """Returns what there is after numbers are removed."""
        assert self.index is not None
        index = self._other(self.index.dim, self.index.metric)
        index.remove(numbers)
        return KeyedContent(index, self._changed(dict.fromkeys(numbers)), self.end)

    def nearest(
        self, op: str, query: Array, k: int, allowed: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """Returns at most k numbers with their scores, best first; `allowed` limits the numbers."""
        if not len(self) or self.index is None or (allowed is not None and not len(allowed)):
            return []
        query = narrowed(query)
        check_finite(as_queries(query, op)[0], op, lambda row: "the vector of the query")
        found = self.index.search(query, k, allowed=allowed)
        pairs = zip(found.ids.tolist(), found.scores.tolist(), strict=True)
        return [(number, score) for number, score in pairs if number >= 0]

    def vectors(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        """Returns the vectors ``[n, dim]``; unit vectors where the metric is "cosine"."""
        assert self.index is not None
        return self.index.reconstruct(list(numbers))

    def _other(self, dim: int, metric: str) -> FlatIndex:
        """Returns an index with the same documents, which are shared."""
        return FlatIndex(dim, metric=metric) if self.index is None else copy.copy(self.index)

    def _changed(self, entries: Mapping[int, Entry | None]) -> _Blocks:
        """Returns the blocks with entries put in, or taken out for None."""
        copies: dict[int, dict[int, Entry]] = {}
        for number, entry in entries.items():
            place = number // _BLOCK
            block = copies.get(place)
            if block is None:
                block = copies[place] = dict(self._blocks.get(place, {}))
            if entry is None:
                block.pop(number, None)
            else:
                block[number] = entry
        blocks = {**self._blocks, **copies}
        for place in [place for place, block in copies.items() if not block]:
            del blocks[place]
        return blocks


def copied(value: Any) -> Any:
    """Copies containers of Python and models of pydantic in depth; everything else is shared."""
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, list):
        return [copied(part) for part in value]
    if type(value) is tuple:
        return tuple(map(copied, value))
    if isinstance(value, set):
        return set(value)
    if hasattr(value, "model_copy"):
        return value.model_copy(update={name: copied(x) for name, x in vars(value).items()})
    return value
