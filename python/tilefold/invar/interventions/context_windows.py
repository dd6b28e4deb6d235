"""Resizes context windows: documents cut into chunks, or cut off, over one space of documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...arrays import Vectors
from ...integers import as_integer
from ...ragged_lists import Lists
from ...retrieval.exact_search import search


class Chunks(NamedTuple):
    """Texts of a window, and the document that each is part of."""

    texts: list[str]
    owners: NDArray[np.int64]  # [chunks], ascending


@dataclass(frozen=True)
class Window:
    """A context window: how much of a document is one text.

    Args:
        words: of a chunk; words are what white space separates.
        stride: words between the beginnings of two chunks; by default `words`, without overlap.
        truncate: keep the first chunk of a document alone.

    Raises:
        TypeError: numbers that are no integers.
        ValueError: fewer than one word, a stride outside 1 to words, a stride of a window that
            truncates.

    Example:
        >>> Window(2).chunks(["a b c", "d"])
        Chunks(texts=['a b', 'c', 'd'], owners=array([0, 0, 1]))
    """

    words: int
    stride: int | None = None
    truncate: bool = False

    def __post_init__(self) -> None:
        if as_integer(self.words, "Window", "words") < 1:
            raise ValueError(f"Window: words must be 1 or more, got {self.words}")
        if self.stride is not None:
            if not 1 <= as_integer(self.stride, "Window", "stride") <= self.words:
                raise ValueError(f"Window: stride must be 1 to {self.words}, got {self.stride}")
            if self.truncate:
                raise ValueError("Window: stride has no effect where documents are truncated")

    @property
    def name(self) -> str:
        """How reports name it."""
        if self.truncate:
            return f"first {self.words} words"
        overlap = "" if self.stride in (None, self.words) else f" every {self.stride}"
        return f"chunks of {self.words} words{overlap}"

    def chunks(self, documents: Sequence[str]) -> Chunks:
        """Cuts documents; one without any word is one empty chunk.

        A chunk that would only repeat the end of the one before it is left out.

        Args:
            documents: texts.
        """
        texts: list[str] = []
        owners: list[int] = []
        stride = self.stride or self.words
        for row, text in enumerate(documents):
            words = text.split()
            end = 1 if self.truncate else max(1, len(words) - self.words + stride)
            for begin in range(0, end, stride):
                texts.append(" ".join(words[begin : begin + self.words]))
                owners.append(row)
        return Chunks(texts, np.array(owners, np.int64))

    def n_lost(self, documents: Sequence[str], positives: Lists, answers: Any) -> int:
        """Counts queries whose answer stands in a relevant document and in no relevant chunk.

        Args:
            documents: texts.
            positives: relevant documents of each query.
            answers: accepted answers of each query; one without any is not counted.
        """
        lost = 0
        for row, own in enumerate(answers):
            texts = [documents[place] for place in positives.of(row).tolist()]
            if any(answer in text for answer in own for text in texts):
                parts = [" ".join(part.split()) for part in self.chunks(texts).texts]
                lost += not any(
                    " ".join(answer.split()) in part for answer in own for part in parts
                )
        return lost


def search_chunks(
    queries: Vectors, chunks: Vectors, owners: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Searches documents by the largest score of their chunks, exactly.

    With at most c chunks of a document, the best chunk of the k-th document is among the first
    (k - 1) c + 1 chunks, as only chunks of better documents precede it.

    Args:
        queries: ``[n, dim]``.
        chunks: ``[chunks, dim]``.
        owners: the document of each chunk, from 0.
        k: documents of a query.

    Returns:
        Scores ``[n, k]`` and documents ``[n, k]``, best first; of equal scores the lower document
        first. -inf and -1 beyond the last document.

    Raises:
        ValueError: another number of owners, k below 1.

    Example:
        >>> chunks = np.eye(3, dtype=np.float32)
        >>> search_chunks(chunks[2:], chunks, np.array([0, 1, 1]), k=2)[1]
        array([[1, 0]])
    """
    owners = np.asarray(owners, np.int64)
    if len(owners) != len(chunks):
        raise ValueError(f"search_chunks: expected {len(chunks)} owners, got {len(owners)}")
    if as_integer(k, "search_chunks", "k") < 1:
        raise ValueError(f"search_chunks: k must be 1 or more, got {k}")
    most = int(np.bincount(owners).max()) if len(owners) else 0
    depth = min((k - 1) * most + 1, len(owners))
    # Equal scores may go beyond the last rank: one chunk more shows whether they do.
    while True:
        found = search(queries, chunks, max(1, min(depth, len(owners))))
        scores, ids = np.asarray(found.scores), np.asarray(found.ids)
        if depth >= len(owners) or not _cut_through_ties(scores, ids, owners, k):
            break
        depth = min(2 * depth, len(owners))
    best = np.full((len(scores), k), -np.inf, np.float32)
    documents = np.full((len(scores), k), -1, np.int64)
    for row, (own, places) in enumerate(zip(scores, ids, strict=True)):
        kept = places >= 0
        own, listed = own[kept], owners[places[kept]]
        first = np.unique(listed, return_index=True)[1]
        order = np.lexsort((listed[first], -own[first]))[:k]
        best[row, : len(order)] = own[first][order]
        documents[row, : len(order)] = listed[first][order]
    return best, documents


def _cut_through_ties(
    scores: NDArray[np.float32], ids: NDArray[np.int64], owners: NDArray[np.int64], k: int
) -> bool:
    """Returns whether documents beyond the last chunk may have the score of the k-th document."""
    for own, places in zip(scores, ids, strict=True):
        first = np.unique(owners[places[places >= 0]], return_index=True)[1]
        if len(first) < k or np.sort(-own[first])[k - 1] == -own[-1]:
            return True
    return False
