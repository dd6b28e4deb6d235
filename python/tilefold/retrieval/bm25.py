"""Bm25: lexical search with bm25s, with tilefold's conventions for results.

bm25s stores the index and computes the scores; top-k selection is done here, because bm25s breaks
ties arbitrarily and returns documents that share no word with the query.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..progress import Progress
from .running_search import SearchResult
from .words import words_of


class Bm25:
    """Index of texts for BM25 search (Lucene's variant, k1 = 1.5, b = 0.75, English stop words).

    Words are sequences of two or more letters, digits or underscores with their combining marks,
    lowercased, not stemmed. Scripts without blanks between words (Chinese, Japanese, Thai, Lao,
    Khmer, Burmese) are indexed by pairs of characters, as by Lucene's CJK analyser.

    Args:
        documents: texts; a document's id is its position.

    Raises:
        ImportError: bm25s is not installed.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009;
    Kamphuis et al., ECIR 2020, for the variants.

    >>> Bm25(["a red fox", "a red red hen"]).search(["red fox"], k=3).ids
    array([[ 0,  1, -1]])
    """

    def __init__(self, documents: Sequence[str]) -> None:
        bm25s = _bm25s()
        self._stop_words = frozenset(bm25s.stopwords.STOPWORDS_EN)
        words = self._words(documents)
        self._size = len(documents)
        self._index: Any = None
        if any(words):  # otherwise bm25s would divide by a mean length of zero
            self._index = bm25s.BM25()
            self._index.index(words, create_empty_token=False, show_progress=False)

    def __len__(self) -> int:
        return self._size

    def search(
        self,
        queries: Sequence[str],
        k: int,
        *,
        progress: Progress | None = None,
        warn: bool = True,
    ) -> SearchResult:
        """Finds the k best documents that share a word with each query: score, then id ascending.

        Args:
            queries: texts.
            k: answers per query, at least 1.
            progress: called as ``progress(queries_done, queries)``.
            warn: warn of queries none of whose words is in the documents: they find nothing.

        Returns:
            `SearchResult` of scores float32 and ids int64, ``[n, k]``, best first; padded with -inf
            and -1 where fewer documents match.

        Raises:
            ValueError: k is below 1.
        """
        if k < 1:
            raise ValueError(f"Bm25.search: k must be at least 1, got {k}")
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        for row, words in enumerate(self._words(queries)):
            all_scores = self._scores(words)
            best = _top_k(all_scores, k)
            scores[row, : len(best)] = all_scores[best]
            ids[row, : len(best)] = best
            if progress is not None:
                progress(row + 1, len(queries))
        if warn:
            warn_of_unmatched("Bm25.search", queries, np.flatnonzero(ids[:, 0] < 0))
        return SearchResult(scores, ids)

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        return words_of(texts, self._stop_words)

    def _scores(self, words: list[str]) -> NDArray[np.float32]:
        tokens = self._index.get_tokens_ids(words) if self._index is not None else []
        if not tokens:
            return np.zeros(self._size, np.float32)
        scores: NDArray[np.float32] = self._index.get_scores_from_ids(tokens)
        return scores


def _top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Selects the positions of the k largest positive scores, best first, ties by position."""
    matched = np.flatnonzero(scores > 0)
    if len(matched) > k:
        kth_score = np.partition(scores[matched], -k)[-k]
        matched = matched[scores[matched] >= kth_score]
    return matched[np.lexsort((matched, -scores[matched]))[:k]]


def warn_of_unmatched(op: str, queries: Sequence[str], rows: NDArray[np.intp]) -> None:
    """Warns of queries that share no word with any document; nothing where there are none."""
    if len(rows):
        shown = queries[rows[0]][:60]
        warnings.warn(
            f"{op}: {len(rows)} of {len(queries)} queries share no word with any document and find "
            f"nothing, the first is {shown!r}",
            stacklevel=3,
        )


def _bm25s() -> Any:
    try:
        importlib.import_module("bm25s.stopwords")
        return importlib.import_module("bm25s")
    except ImportError as error:
        raise ImportError('Bm25 needs the package bm25s: pip install "tilefold[demo]"') from error
