"""Stores the documents of LangChain with an exact index: a `VectorStore` of langchain-core."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as error:
    raise ImportError(
        f"tilefold.integrations.langchain needs langchain-core ({error}): "
        'pip install "tilefold[langchain]"'
    ) from error

import numpy as np

from .keyed_content import Entry, KeyedContent, copied
from .keyed_index import KeyedIndex

Filter = Callable[[Document], bool] | Mapping[str, Any]


class TilefoldVectorStore(VectorStore):
    """Keeps documents by id, and finds the nearest ones exactly.

    Documents with an id that is there are replaced. Searches run while others add or delete: each
    sees the documents of one moment. Documents with the same score come in the order in which they
    were added. Documents are copied on the way in and out, with the containers in their metadata.
    The base class gives the other methods, `as_retriever` and the async ones included.

    Args:
        embedding: of texts and queries.
        metric: "cosine", "ip" or "l2", as of `tilefold.FlatIndex`: scores of searches are cosines,
            inner products (larger is better) or squared L2 distances (smaller is better). Relevance
            scores, with a threshold, are for "cosine" alone: the cosines, and 0 for negative ones.

    Raises:
        ValueError: an unknown metric.

    Example:
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> store = TilefoldVectorStore(DeterministicFakeEmbedding(size=8))
        >>> store.add_texts(["red", "green"], [{"n": 1}, {"n": 2}], ids=["r", "g"])
        ['r', 'g']
        >>> store.similarity_search("red", k=1, filter={"n": 2})[0].page_content
        'green'
    """

    def __init__(self, embedding: Embeddings, *, metric: str = "cosine") -> None:
        self._embedding = embedding
        self._index = KeyedIndex(metric)

    @property
    def embeddings(self) -> Embeddings:
        """The embedding of texts and queries."""
        return self._embedding

    def __len__(self) -> int:
        return len(self._index)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Adds or replaces texts; a text without an id gets a random one.

        Raises:
            ValueError: not one of `metadatas` or `ids` per text, or a vector with NaN.
            TypeError: another argument.
        """
        _refuse("add_texts", kwargs)
        listed = list(texts)
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(listed):
                raise ValueError(
                    f"add_texts: expected {len(listed)} {name}, one per text, got {len(given)}"
                )
        names = [id or str(uuid.uuid4()) for id in (ids or [None] * len(listed))]
        documents = [
            Document(id=id, page_content=text, metadata=copied(metadata))
            for id, text, metadata in zip(
                names, listed, metadatas or [{} for _ in listed], strict=True
            )
        ]
        vectors = self._embedding.embed_documents(listed)
        self._index.put(names, vectors, documents, "TilefoldVectorStore.add_texts")
        return names

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """Deletes documents by id, or all; ids that are not there are passed over."""
        _refuse("delete", kwargs)
        everything = (id for _, (id, _) in self._index.content.items())
        self._index.drop(everything if ids is None else ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns the documents that are there of these ids, in their order."""
        content, numbers = self._index.at(ids)
        return [_document(content, number) for number in numbers]

    def similarity_search(
        self, query: str, k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Returns the k nearest documents.

        Args:
            query: a text.
            k: number of documents; fewer where fewer pass the filter.
            filter: a function of a document, which must leave it as it is, or values that its
                metadata must have.
        """
        found = self.similarity_search_with_score(query, k, filter=filter, **kwargs)
        return [document for document, _ in found]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Returns the k nearest documents and their scores, best first."""
        _refuse("similarity_search", kwargs)
        return self._scored(self._embedding.embed_query(query), k, filter)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, *, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Returns the k documents nearest to a vector."""
        _refuse("similarity_search_by_vector", kwargs)
        return [document for document, _ in self._scored(embedding, k, filter)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """Returns k of the fetch_k nearest documents that are unlike each other."""
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(
            vector, k, fetch_k, lambda_mult, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Returns k of the fetch_k documents nearest to a vector that are unlike each other."""
        _refuse("max_marginal_relevance_search", kwargs)
        content = self._index.content
        near = [number for number, _ in _nearest(content, embedding, fetch_k, filter)]
        if not near:
            return []
        query, vectors = np.asarray(embedding, np.float32), list(content.vectors(near))
        chosen = maximal_marginal_relevance(query, vectors, lambda_mult, k)
        return [_document(content, near[place]) for place in chosen]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        metric: str = "cosine",
        **kwargs: Any,
    ) -> TilefoldVectorStore:
        """Makes a store of texts."""
        _refuse("from_texts", kwargs)
        store = cls(embedding, metric=metric)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def save(self, folder: str | Path) -> None:
        """Writes vectors and documents to a folder.

        Metadata is written as JSON, which has strings for keys and no tuples: after `load`, other
        keys are strings, and tuples are lists.

        Raises:
            TypeError: JSON cannot hold the metadata of a document; names its id.
            ValueError: a document has text that UTF-8 cannot encode; names its id.
        """
        self._index.save(folder, lambda d: (d.id, d.page_content, d.metadata))

    @classmethod
    def load(cls, folder: str | Path, embedding: Embeddings) -> TilefoldVectorStore:
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: nothing was saved there.
            ValueError: a file was changed.
        """
        index = KeyedIndex.load(folder, _entry)
        store = cls(embedding, metric=index.metric)
        store._index = index
        return store

    def _scored(
        self, vector: list[float], k: int, filter: Filter | None
    ) -> list[tuple[Document, float]]:
        content = self._index.content
        found = _nearest(content, vector, k, filter)
        return [(_document(content, number), score) for number, score in found]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        if self._index.metric != "cosine":
            raise NotImplementedError(
                'relevance scores are for metric="cosine"; use similarity_search_with_score'
            )
        return lambda score: min(max(score, 0.0), 1.0)


def _nearest(
    content: KeyedContent, vector: list[float], k: int, filter: Filter | None
) -> list[tuple[int, float]]:
    """Returns at most k numbers of documents that pass a filter, with their scores, best first."""
    allowed = None
    if filter is not None:
        _check_values(filter)
        allowed = [number for number, (_, document) in content.items() if _has(document, filter)]
    return content.nearest("TilefoldVectorStore.similarity_search", vector, k, allowed)


def _document(content: KeyedContent, number: int) -> Document:
    """Returns a copy of a document."""
    document: Document = copied(content[number][1])
    return document


def _entry(row: Any) -> Entry:
    """Returns the id and the document of a row that `save` wrote."""
    id, text, metadata = row
    return id, Document(id=id, page_content=text, metadata=metadata)


def _check_values(filter: Filter) -> None:
    """Raises where a filter has operators of other stores, which would equal no value."""
    if callable(filter):
        return
    for key, value in filter.items():
        operators = (key, *(value if isinstance(value, dict) else ()))
        found = next((name for name in operators if str(name).startswith("$")), None)
        if found is not None:
            raise ValueError(
                f"TilefoldVectorStore: filter has the operator {found!r}, and takes values that "
                "metadata must equal, or a function of a document"
            )


def _has(document: Document, filter: Filter) -> bool:
    """Returns whether a document passes a filter."""
    if callable(filter):
        return filter(document)
    metadata = document.metadata
    return all(key in metadata and metadata[key] == value for key, value in filter.items())


def _refuse(op: str, options: Mapping[str, Any]) -> None:
    if options:
        raise TypeError(f"{op}: there is no argument {next(iter(options))}")
