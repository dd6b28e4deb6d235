"""KeyedIndex: vectors by strings that may be given again, and records that are saved with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, as_vectors, check_dim
from ..files.done_once import read_checked, write_checked
from ..files.published_folder import written_aside
from ..files.storage import published_checksum
from ..files.tensors import CorruptedFolderError
from ..retrieval.document_fold import finite_rows, nonfinite_error
from ..retrieval.flat_index import FlatIndex
from ..retrieval.locks import renew_in_children
from ..retrieval.string_ids import as_strings

_INDEX, _RECORDS = "index", "records.safetensors"


class KeyedIndex:
    """A `FlatIndex` for stores that insert or update, and delete what may be absent.

    Args:
        metric: that of `FlatIndex`; its dim is that of the first vectors.

    Example:
        >>> index = KeyedIndex("cosine")
        >>> index.put(["a", "b"], np.float32([[1, 0], [1, 1]]))
        >>> index.put(["a"], np.float32([[0, 1]]))
        >>> index.nearest(np.float32([0, 2]), 1)
        [('a', 1.0)]
    """

    def __init__(self, metric: str) -> None:
        FlatIndex(1, metric=metric)  # refuses others here rather than in the first `put`
        self.metric = metric
        self._index: FlatIndex | None = None
        self._start_locks()
        renew_in_children(self)

    def _start_locks(self) -> None:
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            return {"metric": self.metric, "index": self._index}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["metric"])  # type: ignore[misc]
        self._index = state["index"]

    def __len__(self) -> int:
        return 0 if self._index is None else len(self._index)

    def __contains__(self, id: object) -> bool:
        return self._index is not None and id in self._index

    def put(self, ids: Sequence[str], vectors: Array) -> None:
        """Adds vectors ``[n, dim]``, or replaces those of ids that are there.

        Of an id that is given twice, the last vector counts. Nothing is changed by an error.
        """
        if not len(ids):
            return
        place_of = {id: place for place, id in enumerate(as_strings(ids, "put", "ids"))}
        rows = as_vectors(_float32(vectors), "put", "vectors")
        if len(rows) != len(ids):
            raise ValueError(f"put: expected {len(ids)} vectors, one per id, got {len(rows)}")
        finite = finite_rows(rows)
        if not finite.all():
            raise nonfinite_error("put", "vectors", int(np.argmin(finite)))
        check_dim("put", "vectors", rows.shape[1], "the store has", self._dim(rows.shape[1]))
        with self._lock:
            index = FlatIndex(rows.shape[1], metric=self.metric)
            index = index if self._index is None else self._index
            known = [id for id in place_of if id in index]
            fresh = [id for id in place_of if id not in index]
            for change, changed in ((index.replace, known), (index.add, fresh)):
                if changed:
                    change(rows[[place_of[id] for id in changed]], ids=changed)
            self._index = index

    def _dim(self, dim: int) -> int:
        return dim if self._index is None else self._index.dim

    def drop(self, ids: Iterable[str]) -> list[str]:
        """Removes what is there of these ids, and returns it."""
        with self._lock:
            there = [id for id in dict.fromkeys(ids) if id in self]
            if there and self._index is not None:
                self._index.remove(there)
            return there

    def nearest(
        self, query: Array, k: int, allowed: Sequence[str] | None = None
    ) -> list[tuple[str, float]]:
        """Returns at most k ids with their scores, best first; `allowed` limits the ids."""
        index = self._index
        if index is None or not len(index) or (allowed is not None and not len(allowed)):
            return []
        found = index.search(_float32(query), k, allowed=allowed)
        pairs = zip(found.ids.tolist(), found.scores.tolist(), strict=True)
        return [(id, score) for id, score in pairs if id is not None]

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Returns the vectors ``[n, dim]`` of ids; unit vectors where the metric is "cosine"."""
        assert self._index is not None
        return self._index.reconstruct(list(ids))

    def save(self, folder: str | Path, records: Any) -> None:
        """Writes the index and records, which JSON can hold, to a folder that appears whole."""
        text = json.dumps({"metric": self.metric, "records": records}, ensure_ascii=False)
        with written_aside(folder, _RECORDS) as aside:
            tensors: dict[str, NDArray[Any]] = {"json": np.frombuffer(text.encode(), np.uint8)}
            if self._index is not None:
                self._index.save(aside / _INDEX)
                checksum = published_checksum(aside / _INDEX)
                tensors["index"] = np.frombuffer(checksum.encode(), np.uint8)
            write_checked(aside / _RECORDS, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> tuple[KeyedIndex, Any]:
        """Reads an index and the records that `save` wrote with it.

        Raises:
            FileNotFoundError: nothing was saved there.
            ValueError: a file was changed, or belongs to another index.
        """
        root = Path(folder)
        tensors = read_checked(root / _RECORDS)
        try:
            content = json.loads(tensors["json"].tobytes())
            keyed, records = cls(content["metric"]), content["records"]
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptedFolderError(f"load: {root / _RECORDS}: no records: {error}") from error
        if "index" in tensors:
            if tensors["index"].tobytes().decode() != published_checksum(root / _INDEX):
                raise CorruptedFolderError(f"load: {root / _RECORDS} belongs to another index")
            keyed._index = FlatIndex.load(root / _INDEX)
        return keyed, records


def _float32(vectors: Array) -> Array:
    """Converts lists of numbers, as these libraries keep vectors, and float64 without a warning."""
    if isinstance(vectors, (list, tuple)) or getattr(vectors, "dtype", None) == np.float64:
        return np.asarray(vectors, np.float32)
    return vectors
