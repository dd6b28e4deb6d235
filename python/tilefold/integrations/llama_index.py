"""Stores the nodes of LlamaIndex with an exact index: a vector store of llama-index-core."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores.simple import DEFAULT_VECTOR_STORE, NAMESPACE_SEP
    from llama_index.core.vector_stores.types import (
        DEFAULT_PERSIST_DIR,
        DEFAULT_PERSIST_FNAME,
        BasePydanticVectorStore,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import (
        build_metadata_filter_fn,
        metadata_dict_to_node,
        node_to_metadata_dict,
    )
except ImportError as error:
    raise ImportError(
        f"tilefold.integrations.llama_index needs llama-index-core ({error}): "
        'pip install "tilefold[llama-index]"'
    ) from error

from .keyed_content import Entry, KeyedContent, copied
from .keyed_index import KeyedIndex

# Nodes among which "mmr" chooses, for each one that it returns.
_MMR_PREFETCH = 4
_QUERY = "TilefoldVectorStore.query"


class TilefoldVectorStore(BasePydanticVectorStore):
    """Keeps nodes with their texts by id, and finds the nearest ones exactly.

    Nodes with an id that is there are replaced. Nodes with the same similarity come in the order in
    which they were added. Modes of a query are "default" and "mmr". Queries run while others add or
    delete: each sees the nodes of one moment. Nodes are copied on the way in and out, without their
    embeddings, which the index has.

    Args:
        metric: "cosine", or "ip" for inner products; `SimpleVectorStore` has cosines.

    Raises:
        ValueError: another metric.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> store = TilefoldVectorStore()
        >>> store.add([TextNode(id_="a", text="red", embedding=[1.0, 0.0])])
        ['a']
        >>> store.query(VectorStoreQuery(query_embedding=[2.0, 0.0])).similarities
        [1.0]
    """

    stores_text: bool = True
    metric: str = "cosine"

    _index: KeyedIndex = PrivateAttr()

    def __init__(self, metric: str = "cosine", **options: Any) -> None:
        if metric not in ("cosine", "ip"):
            raise ValueError(
                f'TilefoldVectorStore: metric must be "cosine" or "ip", got {metric!r}: LlamaIndex '
                "takes larger similarities for better ones"
            )
        super().__init__(**{"metric": metric, **options})
        self._index = KeyedIndex(metric)

    def __getstate__(self) -> dict[str, Any]:
        return {"fields": dict(vars(self)), "index": self._index}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["fields"])  # type: ignore[misc]
        self._index = state["index"]

    @classmethod
    def class_name(cls) -> str:
        """Returns the name of the class, for LlamaIndex."""
        return "TilefoldVectorStore"

    @property
    def client(self) -> KeyedIndex:
        """The index."""
        return self._index

    def add(self, nodes: Sequence[BaseNode], **add_kwargs: Any) -> list[str]:
        """Adds or replaces nodes, which must have embeddings; returns their ids."""
        ids = [node.node_id for node in nodes]
        vectors = [node.get_embedding() for node in nodes]
        kept = [_copy(node) for node in nodes]
        self._index.put(ids, vectors, kept, "TilefoldVectorStore.add")
        return ids

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes of a document."""
        entries = self._index.content.items()
        self._index.drop([id for _, (id, node) in entries if node.ref_doc_id == ref_doc_id])

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Deletes the nodes with these ids, if any are given, that pass the filters."""
        content, numbers = self._passing(node_ids, filters)
        self._index.drop([content[number][0] for number in numbers])

    def clear(self) -> None:
        """Deletes all nodes."""
        self._index.drop([id for _, (id, _) in self._index.content.items()])

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Returns the nodes with these ids, if any are given, that pass the filters."""
        content, numbers = self._passing(node_ids, filters)
        return [_copy(content[number][1]) for number in numbers]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Finds the `similarity_top_k` nearest nodes.

        An empty list of `node_ids` restricts nothing: LlamaIndex's retriever passes one for stores
        that keep texts.

        Raises:
            ValueError: no embedding, or a mode other than "default" and "mmr".
        """
        if query.query_embedding is None:
            raise ValueError(f"{_QUERY}: the query has no embedding")
        if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
            raise ValueError(f'{_QUERY}: mode must be "default" or "mmr", got {query.mode}')
        node_ids, allowed, content = query.node_ids or None, None, self._index.content
        if (node_ids, query.doc_ids, query.filters) != (None, None, None):
            content, allowed = self._passing(node_ids, query.filters, query.doc_ids)
        k, embedding = query.similarity_top_k, query.query_embedding
        if query.mode == VectorStoreQueryMode.MMR:
            near = content.nearest(_QUERY, embedding, k * _MMR_PREFETCH, allowed)
            threshold = kwargs.get("mmr_threshold", query.mmr_threshold)
            return _result(content, _diverse(content, embedding, near, k, threshold))
        return _result(content, content.nearest(_QUERY, embedding, k, allowed))

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Writes vectors and nodes to a folder of this name.

        Raises:
            NotImplementedError: a file system that is not the local one.
            TypeError: JSON cannot hold a node; names its id.
            ValueError: a node has text that UTF-8 cannot encode; names its id.
        """
        if fs is not None and "file" not in (protocol := fs.protocol):
            raise NotImplementedError(
                f"TilefoldVectorStore.persist: only to local folders, got {protocol}"
            )
        self._index.save(persist_path, node_to_metadata_dict, "TilefoldVectorStore.persist")

    @classmethod
    def from_persist_path(cls, persist_path: str) -> TilefoldVectorStore:
        """Reads what `persist` wrote.

        Raises:
            FileNotFoundError: nothing was saved there.
            ValueError: a file was changed.
        """
        index = KeyedIndex.load(persist_path, _entry)
        store = cls(index.metric)
        store._index = index
        return store

    @classmethod
    def from_persist_dir(
        cls, persist_dir: str = DEFAULT_PERSIST_DIR, namespace: str = DEFAULT_VECTOR_STORE
    ) -> TilefoldVectorStore:
        """Reads the store from a folder that a `StorageContext` wrote.

        `StorageContext.from_defaults` reads stores of its own kind alone; pass it this one, as its
        argument `vector_store`.

        Args:
            persist_dir: the folder of the context.
            namespace: the name of the store in it.

        Raises:
            FileNotFoundError, ValueError: as `from_persist_path`.
        """
        name = f"{namespace}{NAMESPACE_SEP}{DEFAULT_PERSIST_FNAME}"
        return cls.from_persist_path(os.path.join(persist_dir, name))

    def _passing(
        self,
        node_ids: list[str] | None,
        filters: MetadataFilters | None,
        doc_ids: list[str] | None = None,
    ) -> tuple[KeyedContent, list[int]]:
        """Returns what there is now, and the numbers of the nodes that pass."""
        content, numbers = self._index.at(() if node_ids is None else node_ids)
        if node_ids is None:
            numbers = [number for number, _ in content.items()]
        if doc_ids is not None:
            numbers = [n for n in numbers if content[n][1].ref_doc_id in doc_ids]

        def metadata_of(number: Any) -> Any:
            return content[number][1].metadata

        passes: Any = build_metadata_filter_fn(metadata_of, filters)
        return content, [number for number in numbers if passes(number)]


def _entry(record: dict[str, Any]) -> Entry:
    """Returns the id and the node of a record that `persist` wrote."""
    node = metadata_dict_to_node(record)
    return node.node_id, node


def _copy(node: BaseNode) -> BaseNode:
    """Returns a copy of a node without its embedding; an object that it points to is shared."""
    fields = vars(node).items()
    parts = {name: copied(part) for name, part in fields if name not in ("embedding", "obj")}
    return node.model_copy(update={**parts, "embedding": None})


def _diverse(
    content: KeyedContent,
    embedding: list[float],
    near: list[tuple[int, float]],
    k: int,
    threshold: float | None,
) -> list[tuple[int, float]]:
    if not near:
        return []
    numbers = [number for number, _ in near]
    scores, chosen = get_top_k_mmr_embeddings(
        embedding,
        content.vectors(numbers).tolist(),
        similarity_top_k=k,
        embedding_ids=numbers,
        mmr_threshold=threshold,
    )
    return list(zip(chosen, scores, strict=True))


def _result(content: KeyedContent, found: list[tuple[int, float]]) -> VectorStoreQueryResult:
    nodes = [_copy(content[number][1]) for number, _ in found]
    return VectorStoreQueryResult(
        nodes=nodes,
        similarities=[score for _, score in found],
        ids=[node.node_id for node in nodes],
    )
