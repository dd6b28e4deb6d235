"""The exact index behind the names and results of faiss's flat indexes, for code that has those.

faiss itself is not imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, as_array, as_ids, check_dim, is_bfloat16
from ..integers import as_integer
from ..retrieval.flat_index import FlatIndex
from .model_output import as_float32, check_finite

METRIC_INNER_PRODUCT, METRIC_L2 = 0, 1
_LARGEST = float(np.finfo(np.float32).max)


class IndexFlat:
    """Searches exactly, as ``faiss.IndexFlat`` and, after `add_with_ids`, as ``IndexIDMap2`` of it.

    Arguments, shapes and dtypes are faiss's, padding included: label -1, and as distance the
    lowest float32 number for inner products, the largest for squared L2 distances. What differs:

    - Scores are sums in fp64 rounded once, the same on every machine; faiss's differ in the last
      bits. Vectors with the same score are ordered by label, where faiss has no order.
    - A NaN or an infinity is an error in `add` and `search`; faiss never returns such a vector.
    - `range_search` gives the hits of a query best first; in faiss they have no order. Hits are
      strictly above the radius (below it for L2), as in faiss and unlike in `FlatIndex`.
    - Ids of `add_with_ids` are unique and not negative, and are not mixed with `add`. There is no
      ``IndexIDMap`` around the index: it has them itself.
    - ``params`` is refused, and there are no arguments for arrays of results. The number of threads
      is that of `tilefold.set_num_threads`.

    `flat_index` is the `FlatIndex` inside, which filters, saves and takes other dtypes.

    Args:
        d: dimensions.
        metric: `METRIC_INNER_PRODUCT` or `METRIC_L2`.

    Raises:
        ValueError: d below 1, or another metric.

    Example:
        >>> index = IndexFlatIP(2)
        >>> index.add(np.float32([[1, 0], [0, 1], [1, 1]]))
        >>> D, I = index.search(np.float32([[2, 1]]), 2)
        >>> I
        array([[2, 0]])
    """

    is_trained = True

    def __init__(self, d: int, metric: int = METRIC_L2) -> None:
        if metric not in (METRIC_INNER_PRODUCT, METRIC_L2):
            raise ValueError(
                f"IndexFlat: metric must be METRIC_INNER_PRODUCT (0) or METRIC_L2 (1), got {metric}"
            )
        self.metric_type = int(metric)
        self.flat_index = FlatIndex(d, metric="ip" if self._is_ip else "l2")
        self._own_ids: bool | None = None  # whether add_with_ids gave them
        self._has_gaps = False  # whether labels are places among ids with gaps

    @property
    def _is_ip(self) -> bool:
        return self.metric_type == METRIC_INNER_PRODUCT

    @property
    def d(self) -> int:
        """Dimensions."""
        return self.flat_index.dim

    @property
    def ntotal(self) -> int:
        """Number of vectors."""
        return len(self.flat_index)

    def train(self, x: Array) -> None:
        """Does nothing, as in faiss: a flat index has nothing to learn."""

    def add(self, x: Array) -> None:
        """Adds vectors ``[n, d]`` under the next labels."""
        self._check_labels(False, "add")
        self.flat_index.add(self._rows(x, "add"))
        self._own_ids = False

    def add_with_ids(self, x: Array, ids: Array) -> None:
        """Adds vectors ``[n, d]`` under ids ``[n]``, which are integers."""
        self._check_labels(True, "add_with_ids")
        labels = as_ids(ids, "IndexFlat.add_with_ids", "ids")
        self.flat_index.add(self._rows(x, "add_with_ids"), ids=labels)
        self._own_ids = True

    def search(
        self, x: Array, k: int, *, params: None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Finds the k nearest vectors of each query ``[n, d]``.

        Returns:
            Distances ``[n, k]``, best first, and labels ``[n, k]``.
        """
        _refuse("search", params)
        queries = self._rows(x, "search")
        shape = len(queries), as_integer(k, "IndexFlat.search", "k", at_least=1)
        if not self.ntotal:
            return np.full(shape, self._padding, np.float32), np.full(shape, -1, np.int64)
        found = self.flat_index.search(queries, k)
        distances, numbers = found.scores, found.ids
        distances[numbers < 0] = self._padding
        return distances, self._labels(numbers)

    def range_search(
        self, x: Array, thresh: float, *, params: None = None
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32], NDArray[np.int64]]:
        """Finds every vector strictly above the threshold, or nearer than it for L2.

        Returns:
            Limits ``[n + 1]``, and distances and labels ``[hits]``: those of query i are at
            ``lims[i]:lims[i + 1]``.
        """
        _refuse("range_search", params)
        queries, edge = self._rows(x, "range_search"), np.float32(thresh)
        if self._is_ip:
            limit = {"min_score": np.nextafter(edge, np.float32(np.inf))}
        else:
            limit = {"max_score": np.nextafter(edge, np.float32(-np.inf))}
        found = self.flat_index.range_search(queries, **limit)
        return found.offsets.astype(np.uint64), found.scores, self._labels(found.ids)

    def reconstruct(self, key: int) -> NDArray[np.float32]:
        """Returns the vector ``[d]`` of a label."""
        found: NDArray[np.float32] = self.reconstruct_batch([key])[0]
        return found

    def reconstruct_batch(self, key: Array) -> NDArray[np.float32]:
        """Returns the vectors ``[n, d]`` of labels ``[n]``."""
        labels = as_ids(key, "IndexFlat.reconstruct", "key")
        return self.flat_index.reconstruct(self._numbers(labels, "IndexFlat.reconstruct"))

    def reconstruct_n(self, n0: int = 0, ni: int = -1) -> NDArray[np.float32]:
        """Returns `ni` vectors from place `n0` in the order of addition; all from there for -1."""
        op = "IndexFlat.reconstruct_n"
        begin, count = as_integer(n0, op, "n0", at_least=0), as_integer(ni, op, "ni", at_least=-1)
        end = self.ntotal if count < 0 else begin + count
        if not begin <= end <= self.ntotal:
            raise ValueError(
                f"{op}: n0 is {begin} and ni {ni}, but there are {self.ntotal} vectors"
            )
        return self.flat_index.reconstruct(self.flat_index.ids[begin:end])

    def remove_ids(self, x: Array) -> int:
        """Removes vectors by label, and returns how many there were; others are passed over.

        After `add`, the labels of later vectors move up, as in faiss.
        """
        op = "IndexFlat.remove_ids"
        given = as_array(x, op, "x")
        if given.dtype.kind == "i" and given.ndim == 1:
            x = given[given >= 0]
        labels = np.unique(as_ids(x, op, "x"))
        if self._own_ids:
            there = labels[np.isin(labels, self.flat_index.ids)]
        else:
            there = self.flat_index.ids[labels[labels < self.ntotal]]
            self._has_gaps |= len(there) > 0
        self.flat_index.remove(there)
        return len(there)

    def reset(self) -> None:
        """Removes all vectors; labels start at 0 again."""
        self.flat_index = FlatIndex(self.d, metric=self.flat_index.metric)
        self._own_ids, self._has_gaps = None, False

    @property
    def _padding(self) -> float:
        return -_LARGEST if self._is_ip else _LARGEST

    def _rows(self, x: Array, name: str) -> NDArray[np.float32]:
        """Converts to float32, which faiss does as well and without a warning."""
        op = f"IndexFlat.{name}"
        array = as_array(x, op, "x")
        if array.ndim != 2 or not (array.dtype.kind in "fiu" or is_bfloat16(array.dtype)):
            raise ValueError(
                f"{op}: x must be numbers [n, {self.d}], got {array.dtype} of shape {array.shape}"
            )
        check_dim(op, "vectors", array.shape[1], "the index has", self.d)
        rows = as_float32(array)
        check_finite(rows, op, lambda row: f"row {row} of x")
        return rows

    def _check_labels(self, own_ids: bool, name: str) -> None:
        if self._own_ids is (not own_ids):
            other = "add" if own_ids else "add_with_ids"
            raise ValueError(f"IndexFlat.{name}: this index has labels of {other}; keep to that")

    def _labels(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns places in the order of addition, which are labels without ids; -1 stays."""
        if not self._has_gaps:
            return numbers
        return np.where(numbers < 0, -1, np.searchsorted(self.flat_index.ids, numbers))

    def _numbers(self, labels: NDArray[np.int64], op: str) -> NDArray[np.int64]:
        if self._own_ids:
            return labels
        if len(labels) and labels.max() >= self.ntotal:
            raise ValueError(f"{op}: label {labels.max()} is not in the index of {self.ntotal}")
        return self.flat_index.ids[labels]


def _refuse(name: str, params: Any) -> None:
    if params is not None:
        raise NotImplementedError(
            f"IndexFlat.{name}: params is not implemented; flat_index.search takes filters and a "
            "number of threads"
        )


class IndexFlatIP(IndexFlat):
    """`IndexFlat` with inner products."""

    def __init__(self, d: int) -> None:
        super().__init__(d, METRIC_INNER_PRODUCT)


class IndexFlatL2(IndexFlat):
    """`IndexFlat` with squared L2 distances."""

    def __init__(self, d: int) -> None:
        super().__init__(d, METRIC_L2)
