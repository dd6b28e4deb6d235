"""KeyedIndex: vectors and records by strings that may be given again, and their files."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, as_vectors, check_dim
from ..files.done_once import read_checked, write_checked
from ..files.published_folder import written_aside
from ..files.storage import published_checksum
from ..files.tensors import CorruptedFolderError
from ..retrieval.flat_index import FlatIndex
from ..retrieval.l2_search import check_norms
from ..retrieval.locks import renew_in_children
from ..retrieval.string_ids import as_strings
from .keyed_content import Entry, KeyedContent
from .model_output import check_finite, narrowed

_INDEX, _RECORDS = "index", "records.safetensors"


class KeyedIndex:
    """A `FlatIndex` with a record per vector, for stores that insert or update by string.

    Any number of threads read `content`, or `at` for some ids, while others change the index one at
    a time: what they got does not change.

    Args:
        metric: that of `FlatIndex`; its dim is that of the first vectors.

    Example:
        >>> index = KeyedIndex("cosine")
        >>> index.put(["a", "b"], np.float32([[1, 0], [1, 1]]), ["red", "green"])
        >>> index.put(["a"], np.float32([[0, 1]]), ["blue"])
        >>> content = index.content
        >>> [(number, score)] = content.nearest("search", np.float32([0, 2]), 1)
        >>> content[number], score
        (('a', 'blue'), 1.0)
    """

    def __init__(self, metric: str) -> None:
        FlatIndex(1, metric=metric)  # refuses others here rather than in the first `put`
        self.metric = metric
        self._begin(KeyedContent())
        self._start_locks()
        renew_in_children(self)

    def _begin(self, content: KeyedContent) -> None:
        self._content = content
        self._numbers = {id: number for number, (id, _) in content.items()}

    def _start_locks(self) -> None:
        # Of changes, and of the moment in which one is seen.
        self._changes, self._moment = threading.Lock(), threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"metric": self.metric, "content": self._content}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["metric"])  # type: ignore[misc]
        self._begin(state["content"])

    def __len__(self) -> int:
        return len(self._content)

    def __contains__(self, id: object) -> bool:
        return bool(self.at([id])[1])

    @property
    def content(self) -> KeyedContent:
        """What there is now."""
        return self._content

    def at(self, ids: Iterable[Any]) -> tuple[KeyedContent, list[int]]:
        """Returns what there is now, and in their order the numbers of those ids that are there."""
        listed = list(ids)
        with self._moment:
            content = self._content
            numbers = [self._numbers.get(id, -1) for id in listed]
        return content, [number for number in numbers if content.get(number) is not None]

    def put(
        self, ids: Sequence[str], vectors: Array, records: Sequence[Any], op: str = "put"
    ) -> None:
        """Adds vectors ``[n, dim]`` and records, or replaces those of ids that are there.

        Of an id that is given twice, the last vector and record count. Nothing is changed by an
        error.
        """
        if not len(ids):
            return
        names = as_strings(ids, op, "ids")
        rows = as_vectors(narrowed(vectors), op, "vectors")
        if len(rows) != len(names):
            raise ValueError(f"{op}: expected {len(names)} vectors, one per id, got {len(rows)}")
        check_finite(rows, op, lambda row: f"the vector of document {names[row]!r}")
        if self.metric == "l2":
            check_norms(rows, op, "vectors")
        place_of = {id: place for place, id in enumerate(names)}
        with self._changes:
            content, following = self._content, itertools.count(self._content.end)
            if content.index is not None:
                check_dim(op, "vectors", rows.shape[1], "the store has", content.index.dim)
            numbers = {id: self._numbers.get(id, -1) for id in place_of}
            for id, number in numbers.items():
                if content.get(number) is None:
                    numbers[id] = next(following)
            entries = {numbers[id]: (id, records[place]) for id, place in place_of.items()}
            changed = content.with_rows(entries, rows[list(place_of.values())], self.metric)
            with self._moment:
                self._content = changed
                self._numbers.update(numbers)

    def drop(self, ids: Iterable[str]) -> None:
        """Removes what is there of these ids."""
        with self._changes:
            content, numbers = self.at(dict.fromkeys(ids))
            if not numbers:
                return
            left = content.without(numbers)
            with self._moment:
                self._content = left
                for number in numbers:
                    del self._numbers[content[number][0]]

    def save(self, folder: str | Path, as_json: Callable[[Any], Any], op: str = "save") -> None:
        """Writes everything, as of one moment, to a folder that appears whole.

        Args:
            folder: the folder.
            as_json: returns what JSON can hold of a record.
            op: the public function, for messages.

        Raises:
            TypeError: JSON cannot hold a record; names its id.
            ValueError: a record has text that UTF-8 cannot encode; names its id.
        """
        content = self._content
        numbers, lines = [], []
        for number, entry in content.items():
            numbers.append(number)
            lines.append(_line(entry, as_json, op))
        records = b", ".join(lines)
        text = b'{"metric": %b, "numbers": %b, "records": [%b]}' % (
            json.dumps(self.metric).encode(),
            json.dumps(numbers).encode(),
            records,
        )
        with written_aside(folder, _RECORDS) as aside:
            tensors: dict[str, NDArray[Any]] = {"json": np.frombuffer(text, np.uint8)}
            if content.index is not None:
                content.index.save(aside / _INDEX)
                checksum = published_checksum(aside / _INDEX)
                tensors["index"] = np.frombuffer(checksum.encode(), np.uint8)
            write_checked(aside / _RECORDS, tensors)

    @classmethod
    def load(cls, folder: str | Path, entry_of: Callable[[Any], Entry]) -> KeyedIndex:
        """Reads what `save` wrote.

        Args:
            folder: the folder.
            entry_of: returns the id and the record of what `as_json` returned.

        Raises:
            FileNotFoundError: nothing was saved there.
            ValueError: a file was changed, or belongs to another index.
        """
        root = Path(folder)
        tensors = read_checked(root / _RECORDS)
        try:
            saved = json.loads(tensors["json"].tobytes())
            keyed, entries = cls(saved["metric"]), [entry_of(line) for line in saved["records"]]
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptedFolderError(f"load: {root / _RECORDS}: no records: {error}") from error
        if "index" in tensors:
            if tensors["index"].tobytes().decode() != published_checksum(root / _INDEX):
                raise CorruptedFolderError(f"load: {root / _RECORDS} belongs to another index")
            index, numbers = FlatIndex.load(root / _INDEX), saved.get("numbers")
            if index.has_string_ids:  # written by tilefold before there were numbers
                index, names = index.with_integer_ids()
                number_of = {name: number for number, name in enumerate(names)}
                numbers = sorted(number_of[id] for id, _ in entries)
                entries.sort(key=lambda entry: number_of[entry[0]])
            content = KeyedContent(index)
            keyed._begin(content.with_entries(dict(zip(numbers or [], entries, strict=True))))
        return keyed


def _line(entry: Entry, as_json: Callable[[Any], Any], op: str) -> bytes:
    """Returns a record as a line of JSON."""
    id, record = entry
    try:
        return json.dumps(as_json(record), ensure_ascii=False).encode()
    except TypeError as error:
        raise TypeError(f"{op}: document {id!r}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{op}: document {id!r} cannot be JSON in UTF-8: {error}") from error
