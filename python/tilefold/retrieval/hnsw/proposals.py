"""Answers from a graph: it proposes rows, and their scores are computed again canonically.

So a score has the bits of the exact search, and an answer is short only when fewer than k documents
are eligible: queries that the graph cannot answer are scored against all eligible rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import _native
from ...arrays import widened
from ...progress import Progress
from ..running_search import RunningSearch
from ..search_options import SearchOptions
from .vector_table import REMOVED, VectorTable

# Candidates between two chances for Ctrl-C and the progress callback.
_SEARCH_BLOCK = 16384


class EligibleRows(NamedTuple):
    """Rows that a search may return."""

    mask: NDArray[np.bool_] | None  # [n_rows]; None for all that are not removed
    n_rows: int


def eligible_rows(table: VectorTable, running: RunningSearch) -> EligibleRows:
    """Applies the filter `allowed` of a search to the rows of a table."""
    filters = running.filters
    if not filters.restrict:
        return EligibleRows(None, len(table))
    mask = table.ids != REMOVED
    mask[mask] = filters.allows(table.ids[mask], running.op)
    return EligibleRows(mask, int(np.count_nonzero(mask)))


@dataclass(frozen=True)
class GraphSearch:
    """One search of an index in the state that it has under the read lock.

    Attributes:
        table: vectors and ids.
        graph: ``hnswlib.Index`` over the rows of the table; None if there is none.
        ef_search: candidates that the graph considers.
    """

    table: VectorTable
    graph: Any
    ef_search: int

    def run(self, running: RunningSearch, progress: Progress | None) -> None:
        """Fills the answers of `running`."""
        eligible = eligible_rows(self.table, running)
        n_queries = len(running.queries)
        if self.graph is None or eligible.n_rows <= max(running.k, self.ef_search):
            self._fold_all(running, eligible)
            if progress is not None:
                progress(n_queries, n_queries)
        else:
            self._fold_proposals(running, eligible, progress)

    def _fold_all(self, running: RunningSearch, eligible: EligibleRows) -> None:
        """Scores every eligible row."""
        if eligible.n_rows:
            ids = self.table.ids
            live = ids != REMOVED if eligible.mask is None else eligible.mask
            running.fold(self.table.vectors, ids=ids, live=live)

    def _fold_proposals(
        self, running: RunningSearch, eligible: EligibleRows, progress: Progress | None
    ) -> None:
        """Scores rows that the graph proposes; all eligible rows where it proposes too few."""
        queries = widened(running.queries)
        threads = running.num_threads or _native.num_threads()
        n, n_candidates = len(queries), max(running.k, self.ef_search)
        step = max(1, _SEARCH_BLOCK // n_candidates)
        blocks = [(begin, min(begin + step, n)) for begin in range(0, n, step)][::-1]
        unanswered: list[int] = []
        while blocks:
            begin, end = blocks.pop()
            rows = self._propose(queries[begin:end], n_candidates, eligible, threads)
            if rows is not None:
                scores, ids = self._best(queries[begin:end], rows, running.k, threads)
                running.scores[begin:end], running.ids[begin:end] = scores, ids
            elif end - begin == 1:
                unanswered.append(begin)
            else:
                # Some query of the block met too few rows, and hnswlib does not say which: bisect.
                middle = (begin + end) // 2
                blocks += [(middle, end), (begin, middle)]
                continue
            if progress is not None:
                progress(end, n)
        if unanswered:
            options = SearchOptions(op=running.op, num_threads=threads)
            rest = RunningSearch(queries[unanswered], running.k, options)
            self._fold_all(rest, eligible)
            running.scores[unanswered], running.ids[unanswered] = rest.scores, rest.ids

    def _propose(
        self, queries: NDArray[np.float32], n: int, eligible: EligibleRows, threads: int
    ) -> NDArray[np.int64] | None:
        """Returns the rows ``[n_queries, n]`` that the graph finds; None if a query meets fewer."""
        options: dict[str, Any] = {"k": n, "num_threads": threads}
        if eligible.mask is not None:
            # hnswlib calls this for every row that a search meets; indexing bytes is the cheapest.
            options |= {"num_threads": 1, "filter": eligible.mask.tobytes().__getitem__}
        try:
            # The end of the interpreter waits for it, as for `add_rows`.
            rows: NDArray[Any] = _native.before_exit(
                lambda: self.graph.knn_query(queries, **options)[0]
            )
        except RuntimeError as error:
            if "contiguous 2D array" not in str(error):
                raise
            return None  # hnswlib 0.8 leaks 12 n bytes per query here
        return rows.astype(np.int64)

    def _best(
        self, queries: NDArray[np.float32], rows: NDArray[np.int64], k: int, threads: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Selects the k best of the proposed rows by canonical score, then id ascending."""
        scores = np.empty(rows.shape, np.float32)
        _native.score(queries, self.table.vectors, rows, scores, num_threads=threads)
        ids = self.table.ids[rows]
        order = np.lexsort((ids, -scores))[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
