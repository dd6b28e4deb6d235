"""RunningSearch: the k best documents so far, into which documents are folded part by part.

Every exact search uses this class: over an array, the segments of an index, or the shards of a
corpus that does not fit into memory. The order and the size of the parts do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _native
from ..arrays import Array, Vectors
from ..integers import as_integer
from .document_fold import HostFold
from .document_fold import finite_rows as finite_rows
from .document_fold import nonfinite_error as nonfinite_error
from .packing import Packed, bitmap, kernel_arguments
from .search_options import SearchOptions


@dataclass(frozen=True)
class Certificate:
    """Evidence, per query, that an answer is exact.

    A document was left unscored only if an upper bound of its score is strictly below `threshold`.
    The bound is a theorem (Cauchy-Schwarz on the quantisation error, rounded up), so `holds` says
    that no unscored document can belong to the answer. `refined` and `bound` describe this run:
    they depend on the instruction set and the number of threads, the answer does not.

    Attributes:
        refined: ``[n]`` documents scored canonically.
        threshold: ``[n]`` the k-th best score, or min_score where that is higher.
        bound: ``[n]`` the largest upper bound of a document that was not scored; -inf if none.
        nonfinite_queries: queries with NaN or infinity, answered with padding.
        nonfinite_documents: documents with NaN or infinity, never retrieved.
    """

    refined: NDArray[np.int64]
    threshold: NDArray[np.float32]
    bound: NDArray[np.float32]
    nonfinite_queries: int = 0
    nonfinite_documents: int = 0

    @property
    def gap(self) -> NDArray[np.float32]:
        """``[n]`` threshold - bound: the margin of the unscored document with the largest bound."""
        all_scored = np.isneginf(self.bound)
        nearest = np.where(all_scored, 0, self.bound)
        return np.where(all_scored, np.float32(np.inf), self.threshold - nearest)

    @property
    def holds(self) -> bool:
        """Whether no unscored document can belong to the answer; False would be a bug."""
        return bool((np.isneginf(self.bound) | (self.bound < self.threshold)).all())


class SearchResult(NamedTuple):
    """Answers of a search, best first: score descending, then id ascending.

    Attributes:
        scores: ``[n, k]`` float32 inner products; -inf where there are fewer than k documents.
        ids: ``[n, k]`` int64, -1 where there are fewer than k documents; or strings, as an array
            of objects with None there, from a `FlatIndex` whose ids are strings.
    """

    scores: Any
    ids: Any


class CertifiedResult(NamedTuple):
    """A `SearchResult` with its `Certificate`."""

    scores: Any
    ids: Any
    certificate: Certificate


class RunningSearch(HostFold):
    """The best k documents for some queries among those folded in so far.

    Args:
        queries: ``[n, dim]``, or ``[dim]`` for a single one.
        k: answers per query.
        options: checked options; their filters are checked here, against the queries.
        total: number of documents, for the progress.
    """

    def __init__(
        self,
        queries: Array,
        k: int,
        options: SearchOptions,
        *,
        total: int = 0,
    ) -> None:
        self.k = checked_k(k, options.op)
        super().__init__(queries, options, total=total)
        n = len(self.queries)
        self.scores: NDArray[np.float32] = np.full((n, self.k), -np.inf, np.float32)
        self.ids: NDArray[np.int64] = np.full((n, self.k), -1, np.int64)
        self._refined = np.zeros(n, np.int64) if options.return_certificate else None
        self._bound = np.full(n, -np.inf, np.float32) if options.return_certificate else None

    def fold(
        self,
        documents: Vectors,
        *,
        packed: Packed | None = None,
        ids: NDArray[np.int64] | None = None,
        first_id: int = 0,
        live: NDArray[np.bool_] | None = None,
    ) -> None:
        """Folds documents ``[rows, dim]`` into the answers.

        Args:
            documents: vectors as `as_vectors` returns them.
            packed: their packed form; if None, every document is scored canonically.
            ids: ``[rows]``; by default first_id, first_id + 1, ...
            first_id: see `ids`.
            live: ``[rows]`` mask of documents that may be retrieved; all by default.
        """
        rows = len(documents)
        filters = self.filters
        live = self._allowed_rows(rows, ids, first_id, live)
        _native.search(
            self.queries,
            documents,
            self.scores,
            self.ids,
            self.k,
            **kernel_arguments(packed),
            document_ids=ids,
            first_id=first_id,
            allowed=None if live is None else bitmap(live),
            exclude_offsets=filters.exclude_offsets,
            exclude_ids=filters.exclude_ids,
            min_score=filters.min_score,
            max_score=filters.max_score,
            refined=self._refined,
            pruned_bound=self._bound,
            num_threads=self.num_threads,
            progress=self._reporter(rows),
        )
        self._advance(rows)

    @property
    def batches(self) -> list[tuple[int, int]]:
        """All queries at once."""
        return [(len(self.queries), self.k)]

    def answers(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Returns scores and ids ``[n, k]`` so far."""
        return self.scores, self.ids

    def restore(self, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
        """Continues with the answers of a search before."""
        self.scores[:], self.ids[:] = scores, ids

    def queries_on_host(self) -> Vectors:
        """Returns the queries."""
        return self.queries

    def result(self) -> SearchResult | CertifiedResult:
        """Returns the answers in the kind of array that the queries have."""
        self.scores[self._bad_queries] = -np.inf
        self.ids[self._bad_queries] = -1
        scores, ids = (self._converted(a) for a in (self.scores, self.ids))
        if self._refined is None or self._bound is None:
            return SearchResult(scores, ids)
        certificate = certificate_of(
            self.scores,
            self._refined,
            self._bound,
            self.filters.min_score,
            self._bad_queries,
            self.nonfinite_documents,
        )
        return CertifiedResult(scores, ids, certificate)

    def _converted(self, array: NDArray[Any]) -> Any:
        return self._kind(array[0] if self._single else array)


def certificate_of(
    scores: NDArray[np.float32],
    refined: NDArray[np.int64],
    bound: NDArray[np.float32],
    min_score: NDArray[np.float32] | None,
    bad_queries: NDArray[np.bool_],
    nonfinite_documents: int,
) -> Certificate:
    """Makes the certificate of answers.

    Args:
        scores: ``[n, k]`` of the answers.
        refined: ``[n]``, as in `Certificate`.
        bound: ``[n]``, as in `Certificate`.
        min_score: ``[n]``, a filter of the search.
        bad_queries: ``[n]`` mask of queries with NaN or infinity.
        nonfinite_documents: as in `Certificate`.
    """
    threshold = scores[:, -1].copy()
    if min_score is not None:
        threshold = np.maximum(threshold, min_score)
    bound[bad_queries] = -np.inf
    return Certificate(refined, threshold, bound, int(bad_queries.sum()), nonfinite_documents)


def checked_k(k: int, op: str) -> int:
    """Checks and returns a number of answers."""
    number = as_integer(k, op, "k")
    if not 1 <= number < 2**31 - 64:
        raise ValueError(f"{op}: k must be at least 1 and below 2^31, got {number}")
    return number
