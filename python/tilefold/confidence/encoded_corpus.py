"""A retriever with the documents that it searches, encoded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, as_vectors, check_dim, widened
from ..models import BiEncoder
from ..models.length_batches import check_texts
from ..retrieval.exact_search import search
from ..retrieval.running_search import SearchResult

_OP = "EncodedCorpus"


class EncodedCorpus:
    """Documents and their embeddings by a retriever, which estimators of confidence share.

    The embeddings of the queries of the last call are kept, because an estimator, a search and the
    labels of a calibration read the same queries one after the other. Changed weights need a new
    `EncodedCorpus`.

    Args:
        model: the retriever.
        documents: m texts; a document's id is its position.
        titles: of the documents; by default none.
        vectors: ``[m, dim]`` embeddings of the documents by the model; by default computed.
        batch_size: texts per forward pass, of documents and of queries.
        progress: whether to show progress of the documents on stderr; a string labels it.

    Raises:
        TypeError: documents that are no list of strings.
        ValueError: no document; not as many titles or vectors as documents.

    Example:
        >>> from tilefold.models import BiEncoder, minilm
        >>> corpus = EncodedCorpus(
        ...     BiEncoder(minilm()), ["bills are due", "cats sleep a lot"], progress=False
        ... )
        >>> corpus.search(["a cat?"], k=2).ids
        array([[1, 0]])
    """

    def __init__(
        self,
        model: BiEncoder,
        documents: Sequence[str],
        titles: Sequence[str] | None = None,
        *,
        vectors: Array | None = None,
        batch_size: int = 32,
        progress: bool | str = True,
    ) -> None:
        check_texts(documents, _OP, "documents")
        if not len(documents):
            raise ValueError(f"{_OP}: expected 1 document or more, got 0")
        if titles is not None and len(titles) != len(documents):
            raise ValueError(f"{_OP}: expected {len(documents)} titles, got {len(titles)}")
        self.model, self.documents, self.titles = model, documents, titles
        self.batch_size = batch_size
        if vectors is None:
            vectors = model.encode_documents(
                documents, titles, batch_size=batch_size, progress=progress
            )
        self.vectors: NDArray[np.float32] = widened(as_vectors(vectors, _OP, "vectors"))
        if len(self.vectors) != len(documents):
            raise ValueError(f"{_OP}: expected {len(documents)} vectors, got {len(self.vectors)}")
        self._last: tuple[tuple[str, ...], NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return len(self.documents)

    def encode_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Computes embeddings of queries, float32 ``[n, dim]``; do not write to them.

        Raises:
            TypeError: queries that are no list of strings.
            ValueError: embeddings of another dimension than the documents have.
        """
        check_texts(queries, f"{_OP}.encode_queries", "queries")
        texts, last = tuple(queries), self._last
        if last is None or last[0] != texts:
            found = self.model.encode_queries(
                list(texts), batch_size=self.batch_size, progress=False
            )
            dim = self.vectors.shape[1]
            check_dim(f"{_OP}.encode_queries", "queries", found.shape[1], "documents have", dim)
            last = self._last = (texts, found)
        return last[1]

    def search(self, queries: Sequence[str], k: int) -> SearchResult:
        """Finds the k best documents of each query, as `tilefold.search` does."""
        scores, ids = search(self.encode_queries(queries), self.vectors, k)[:2]
        return SearchResult(scores, ids)
