"""mine_bm25(): mines hard negatives by the words of queries and documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..arrays import Array
from ..data.prompts import document_texts
from ..data.self_retrieval import same_texts
from ..progress import Progress
from ..ragged_lists import Integers, Lists, ListsLike
from ..retrieval.bm25 import Bm25, warn_of_unmatched
from ..retrieval.running_search import SearchResult
from .mined import Mined, joined, listed
from .mining_inputs import Ranks, as_lists, as_positives, checked_batch_size, first_of_groups

IsPositive = Callable[[int, int], bool]


def mine_bm25(
    queries: Sequence[str],
    documents: Sequence[str] | Bm25,
    positives: ListsLike,
    *,
    n_negatives: int = 1,
    range_min: int = 0,
    range_max: int | None = None,
    is_positive: IsPositive | None = None,
    groups: Array | None = None,
    exclude: ListsLike | None = None,
    titles: Sequence[str] | None = None,
    remove_query: Literal["text", "none"] | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Mined:
    """Finds documents that BM25 ranks high for a query and that are none of its positives.

    The hard negatives of DPR: the best passages by BM25 that do not contain an answer, as
    `is_positive` decides. Ranks count documents that are neither positives nor excluded, including
    those that `is_positive` rejects; documents that share no word with the query have no rank. A
    warning counts the queries that share no word with any document.

    Args:
        queries: n texts.
        documents: m texts, or the index of them.
        positives: for each query a list of rows of documents, at least one; or `Lists`.
        n_negatives: how many to find for each query; fewer where fewer pass.
        range_min: ranks below this are passed over.
        range_max: ranks from this on are not looked at; all are by default, until enough are found.
        is_positive: called as ``is_positive(query_row, document_row)`` for documents in the order
            of their ranks; those for which it holds are no negatives.
        groups: ``[m]`` integers, equal for documents that are the same: the first stands for all.
        exclude: rows of documents, in the same form, that are no negatives beside the positives.
        titles: m titles, "" where a document has none: their words count like those of its text.
            None for no titles at all; an index of texts has its own.
        remove_query: "text" leaves out documents with the text of the query (see
            `tilefold.data.same_texts`), beside `exclude`; "none" does not. None for "text" where
            documents are texts; an index has none to compare.
        batch_size: queries at a time. The result does not depend on it.
        progress: called as ``progress(queries_done, queries)``.

    Returns:
        `Mined`, without `positive_scores`; ``removed["is_positive"]`` counts the documents that
        it held for.

    Raises:
        ImportError: bm25s is not installed.
        TypeError: a string in place of texts, no lists, titles or remove_query="text" beside an
            index.
        ValueError: a query without positives, rows that are no documents, ranks out of range.

    Source: Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", EMNLP
    2020, section 3.2.

    Example:
        >>> documents = ["the red fox", "a red fox hunts", "a red hen", "a blue barn"]
        >>> hunts = lambda query, document: "hunts" in documents[document]
        >>> mined = mine_bm25(
        ...     ["red fox"], documents, [[1]], n_negatives=3, is_positive=hunts
        ... )
        >>> mined.negatives.indices, mined.short
        (array([0, 2]), array([0]))
    """
    ranks = Ranks("mine_bm25", n_negatives, range_min, range_max)
    step = checked_batch_size(batch_size, "mine_bm25")
    if isinstance(queries, str) or isinstance(documents, str):
        raise TypeError("mine_bm25: queries and documents must be lists of texts, got a string")
    n, m = len(queries), len(documents)
    if titles is not None and isinstance(documents, Bm25):
        raise TypeError("mine_bm25: titles go with texts, but documents is an index of them")
    own = as_positives(positives, "mine_bm25", n, m)
    others = None if exclude is None else as_lists(exclude, "mine_bm25", "exclude", n, m)
    first = first_of_groups(groups, "mine_bm25", m)
    first = np.arange(m) if first is None else first
    words = documents
    if not isinstance(words, Bm25):
        words = Bm25(document_texts(words, titles))
    same = _same_texts(queries, documents, titles, remove_query)
    lists = [some for some in (own, others, same) if some is not None]
    miner = _Miner(words, ranks, lists, first, is_positive)
    found = []
    for begin in range(0, n, step):
        end = min(n, begin + step)
        found.append(miner.mine(queries[begin:end], begin))
        if progress is not None:
            progress(end, n)
    warn_of_unmatched("mine_bm25", queries, np.array(miner.unmatched, np.int64))
    scores = [negatives.scores[negatives.ids >= 0] for negatives in found]
    return Mined(
        joined([listed(negatives.ids) for negatives in found]),
        np.concatenate([np.empty(0, np.float32), *scores]),
        ranks.n_negatives,
        removed=miner.removed,
    )


def _same_texts(
    queries: Sequence[str],
    documents: Sequence[str] | Bm25,
    titles: Sequence[str] | None,
    remove_query: str | None,
) -> Lists | None:
    """Returns the documents with the text of each query; None where they are not left out."""
    if remove_query not in ("text", "none", None):
        raise ValueError(f"mine_bm25: remove_query must be 'text' or 'none', got {remove_query!r}")
    if isinstance(documents, Bm25):
        if remove_query == "text":
            raise TypeError("mine_bm25: remove_query='text' needs texts, but documents is an index")
        return None
    return None if remove_query == "none" else same_texts(queries, documents, titles)


class _Miner:
    """Follows the ranking of each query, deeper for those with too few negatives."""

    def __init__(
        self,
        words: Bm25,
        ranks: Ranks,
        left_out: Sequence[Lists],
        first: Integers,
        is_positive: IsPositive | None,
    ) -> None:
        self._words, self._ranks, self._first = words, ranks, first
        self._left_out, self._is_positive = left_out, is_positive
        self.removed: Counter[str] = Counter()
        self.unmatched: list[int] = []  # queries that share no word with any document

    def mine(self, queries: Sequence[str], begin: int) -> SearchResult:
        """Mines negatives ``[b, n_negatives]`` of queries from row `begin` on, padded with -1."""
        n = self._ranks.n_negatives
        result = SearchResult(
            np.full((len(queries), n), -np.inf, np.float32), np.full((len(queries), n), -1)
        )
        walks = [_Walk(begin + row, self._left_out_of(begin + row)) for row in range(len(queries))]
        depth = n + self._ranks.range_min + max(len(walk.left_out) for walk in walks)
        pending = list(range(len(queries)))
        while pending:
            depth = min(depth, len(self._words))
            ranked = self._words.search([queries[row] for row in pending], depth, warn=False)
            for row, scores, ids in zip(pending, *ranked, strict=True):
                if ids[0] < 0:
                    self.unmatched.append(begin + row)
                columns = self._follow(walks[row], ids)
                result.scores[row, : len(columns)] = scores[columns]
                result.ids[row, : len(columns)] = ids[columns]
            pending = [row for row in pending if not walks[row].ended and depth < len(self._words)]
            depth *= 4
        return result

    def _left_out_of(self, row: int) -> set[int]:
        parts = (lists.indices[slice(*lists.offsets[row : row + 2])] for lists in self._left_out)
        return {int(document) for part in parts for document in self._first[part]}

    def _follow(self, walk: _Walk, ids: Integers) -> list[int]:
        """Continues a walk down a deeper ranking; returns the columns of all its negatives."""
        for column in range(walk.column, len(ids)):
            document = int(ids[column])
            if document < 0 or walk.rank == self._ranks.range_max:
                walk.ended = True
                break
            if self._first[document] != document or document in walk.left_out:
                continue
            walk.rank += 1
            if walk.rank <= self._ranks.range_min or self._rejects(walk.row, document):
                continue
            walk.found.append(column)
            if len(walk.found) == self._ranks.n_negatives:
                walk.ended = True
                break
        walk.column = len(ids)
        return walk.found

    def _rejects(self, row: int, document: int) -> bool:
        """Returns whether `is_positive` holds, and counts it."""
        positive = self._is_positive is not None and bool(self._is_positive(row, document))
        self.removed["is_positive"] += positive
        return positive


@dataclass
class _Walk:
    """Progress of one query down its ranking; a deeper ranking begins with the same documents."""

    row: int
    left_out: set[int]
    column: int = 0
    rank: int = 0
    found: list[int] = field(default_factory=list)
    ended: bool = False
