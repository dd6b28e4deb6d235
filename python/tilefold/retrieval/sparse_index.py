"""SparseIndex: exact search of sparse vectors, by an inverted index of their features."""

from __future__ import annotations

import importlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..integers import as_integer
from ..progress import Progress
from .running_search import SearchResult, checked_k

_CELLS = 1 << 22  # scores of a block of queries, at most: 32 MiB of float64
Sparse = Any  # a matrix or an array of scipy.sparse


class SparseIndex:
    """Inverted index of sparse vectors: for each feature, the documents in which it is not zero.

    Documents are found if they share a feature with the query, whatever their score.

    Args:
        documents: ``[m, features]`` of scipy.sparse, in any format, of finite numbers; a document's
            id is its row. Stored as float32.
        weighting: "idf" multiplies the weights of each feature by
            ``ln(1 + (m - df + 0.5) / (df + 0.5))``, where df documents have it (the inverse
            document frequency of Lucene's BM25: Kamphuis et al., ECIR 2020); None leaves them.

    Attributes:
        nnz: number of weights that are not zero.
        nbytes: bytes of weights, of numbers of documents, and of the offsets of the lists.

    Raises:
        ImportError: scipy is not installed.
        TypeError: documents that are no matrix of scipy.sparse.
        ValueError: another weighting, or a weight that is not finite.

    Example:
        >>> from scipy.sparse import csr_array
        >>> index = SparseIndex(csr_array([[1.0, 0.0], [2.0, 3.0], [0.0, 1.0]]))
        >>> index.search(csr_array([[1.0, 0.0]]), k=3).ids
        array([[ 1,  0, -1]])
    """

    def __init__(self, documents: Sparse, *, weighting: Literal["idf"] | None = None) -> None:
        if weighting not in (None, "idf"):
            raise ValueError(f"SparseIndex: weighting must be None or 'idf', got {weighting!r}")
        lists = _checked(documents, "SparseIndex", "documents").T.tocsr()
        lists.sort_indices()
        self._size: int = lists.shape[1]
        if weighting == "idf":
            frequencies = np.diff(lists.indptr)
            idf = np.log1p((self._size - frequencies + 0.5) / (frequencies + 0.5))
            lists.data *= np.repeat(idf, frequencies).astype(np.float32)
        if max(lists.nnz, *lists.shape) < 2**31:  # scipy takes the integers that it was given
            lists.indices, lists.indptr = (
                part.astype(np.int32, copy=False) for part in (lists.indices, lists.indptr)
            )
        self._lists = lists
        self._signed = bool((lists.data < 0).any())

    def __len__(self) -> int:
        return self._size

    @property
    def n_features(self) -> int:
        """Number of features, which queries must have as well."""
        return int(self._lists.shape[0])

    @property
    def nnz(self) -> int:
        """Number of weights that are not zero."""
        return int(self._lists.nnz)

    @property
    def density(self) -> float:
        """Share of all weights that are not zero; NaN if there are no documents or features."""
        cells = self._size * self.n_features
        return self.nnz / cells if cells else float("nan")

    @property
    def nbytes(self) -> int:
        """Bytes of weights, of numbers of documents, and of the offsets of the lists."""
        parts = self._lists.data, self._lists.indices, self._lists.indptr
        return sum(int(part.nbytes) for part in parts)

    def search(self, queries: Sparse, k: int, *, progress: Progress | None = None) -> SearchResult:
        """Finds the k best documents that share a feature with each query: score, then id.

        Inner products are summed in float64 and rounded to float32.

        Args:
            queries: ``[n, features]`` of scipy.sparse, of finite numbers, read as float32.
            k: answers per query, at least 1.
            progress: called as ``progress(queries_done, queries)``.

        Returns:
            `SearchResult` of scores float32 and ids int64, ``[n, k]``, best first, ties by id;
            padded with -inf and -1 where fewer documents share a feature with the query.

        Raises:
            TypeError: queries that are no matrix of scipy.sparse.
            ValueError: k below 1, another number of features than the index has, or a weight that
                is not finite.
        """
        op = "SparseIndex.search"
        k, rows = checked_k(k, op), _checked(queries, op, "queries")
        if rows.shape[1] != self.n_features:
            raise ValueError(
                f"{op}: queries have {rows.shape[1]} features but the index has {self.n_features}"
            )
        n = rows.shape[0]
        scores = np.full((n, k), -np.inf, np.float32)
        ids = np.full((n, k), -1, np.int64)
        lists = self._lists.astype(np.float64)
        signed = self._signed or bool((rows.data < 0).any())
        step = max(1, _CELLS // max(1, self._size))
        for begin in range(0, n, step):
            found = _products(rows[begin : begin + step].astype(np.float64), lists, signed)
            _take_best(found, scores[begin : begin + step], ids[begin : begin + step])
            if progress is not None:
                progress(min(begin + step, n), n)
        return SearchResult(scores, ids)

    def postings(self, feature: int, k: int) -> SearchResult:
        """Returns the k documents with the largest weights of a feature.

        Args:
            feature: its number.
            k: how many, at least 1.

        Returns:
            `SearchResult` of weights float32 and ids int64, ``[k]``, largest first, ties by id;
            padded with -inf and -1 where fewer documents have the feature. Weights are those of
            the index, multiplied by idf if it has that weighting.

        Raises:
            ValueError: k below 1, or there is no such feature.
        """
        op = "SparseIndex.postings"
        k, row = checked_k(k, op), as_integer(feature, op, "feature")
        if not 0 <= row < self.n_features:
            raise ValueError(f"{op}: feature must be 0 to {self.n_features - 1}, got {row}")
        scores, ids = np.full((1, k), -np.inf, np.float32), np.full((1, k), -1, np.int64)
        _take_best(self._lists[row : row + 1], scores, ids)
        return SearchResult(scores[0], ids[0])


def _checked(matrix: Sparse, op: str, name: str) -> Sparse:
    """Returns a matrix as CSR of float32, each cell once and zeros left out."""
    sparse = _scipy_sparse()
    if not sparse.issparse(matrix) or matrix.ndim != 2:
        raise TypeError(
            f"{op}: {name} must be a matrix of scipy.sparse [rows, features], got "
            f"{type(matrix).__name__}"
        )
    made = sparse.csr_array(matrix, dtype=np.float32, copy=True)
    made.sum_duplicates()
    made.eliminate_zeros()
    if not np.isfinite(made.data).all():
        raise ValueError(f"{op}: {name} must be finite, got NaN or infinity")
    return made


def _products(queries: Sparse, lists: Sparse, signed: bool) -> Sparse:
    """Returns the inner products of all pairs that share a feature, as CSR with rising ids.

    scipy drops sums that are zero, which happens only where weights have both signs: then the
    pairs are those of a second product.
    """
    found = queries @ lists
    found.sort_indices()
    if not signed:
        return found
    pairs = _pattern(queries) @ _pattern(lists)
    pairs.sort_indices()
    wanted, known = _cells(pairs), _cells(found)
    pairs.data = np.zeros(len(wanted))
    pairs.data[np.searchsorted(wanted, known)] = found.data
    return pairs


def _pattern(matrix: Sparse) -> Sparse:
    ones = matrix.copy()
    ones.data = np.ones(len(ones.data))
    return ones


def _cells(matrix: Sparse) -> NDArray[np.int64]:
    """Numbers the cells of a matrix that it stores, row by row."""
    owners = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return np.asarray(owners * matrix.shape[1] + matrix.indices, np.int64)


def _take_best(found: Sparse, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
    """Writes the best cells of each row, in order."""
    for row, (begin, end) in enumerate(zip(found.indptr[:-1], found.indptr[1:], strict=True)):
        values = found.data[begin:end].astype(np.float32)
        columns = found.indices[begin:end]
        k = scores.shape[1]
        if len(values) > k:
            kept = values >= np.partition(values, -k)[-k]
            values, columns = values[kept], columns[kept]
        best = np.lexsort((columns, -values))[:k]
        scores[row, : len(best)] = values[best]
        ids[row, : len(best)] = columns[best]


def _scipy_sparse() -> Any:
    try:
        return importlib.import_module("scipy.sparse")
    except ImportError as error:
        raise ImportError(
            'SparseIndex needs the package scipy: pip install "tilefold[analysis]"'
        ) from error
