"""Stores the nodes of LlamaIndex with an exact index: a vector store of llama-index-core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores.types import (
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

from .keyed_index import KeyedIndex

# Nodes among which "mmr" chooses, for each one that it returns.
_MMR_PREFETCH = 4


class TilefoldVectorStore(BasePydanticVectorStore):
    """Keeps nodes with their texts by id, and finds the nearest ones exactly.

    Nodes with an id that is there are replaced. Nodes with the same similarity come in the order in
    which they were added. Modes of a query are "default" and "mmr".

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
    _nodes: dict[str, BaseNode] = PrivateAttr(default_factory=dict)

    def __init__(self, metric: str = "cosine", **options: Any) -> None:
        if metric not in ("cosine", "ip"):
            raise ValueError(
                f'TilefoldVectorStore: metric must be "cosine" or "ip", got {metric!r}: LlamaIndex '
                "takes larger similarities for better ones"
            )
        super().__init__(**{"metric": metric, **options})
        self._index = KeyedIndex(metric)

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
        self._index.put(ids, [node.get_embedding() for node in nodes])
        self._nodes |= dict(zip(ids, nodes, strict=True))
        return ids

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Deletes the nodes of a document."""
        self._drop([id for id, node in list(self._nodes.items()) if node.ref_doc_id == ref_doc_id])

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Deletes the nodes with these ids, if any are given, that pass the filters."""
        self._drop(self._passing(node_ids, filters))

    def clear(self) -> None:
        """Deletes all nodes."""
        self._drop(list(self._nodes))

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Returns the nodes with these ids, if any are given, that pass the filters."""
        return [self._nodes[id] for id in self._passing(node_ids, filters)]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Finds the `similarity_top_k` nearest nodes.

        An empty list of `node_ids` restricts nothing: LlamaIndex's retriever passes one for stores
        that keep texts.

        Raises:
            ValueError: no embedding, or a mode other than "default" and "mmr".
        """
        if query.query_embedding is None:
            raise ValueError("TilefoldVectorStore.query: the query has no embedding")
        if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
            raise ValueError(
                f'TilefoldVectorStore.query: mode must be "default" or "mmr", got {query.mode}'
            )
        node_ids, allowed = query.node_ids or None, None
        if (node_ids, query.doc_ids, query.filters) != (None, None, None):
            allowed = self._passing(node_ids, query.filters, query.doc_ids)
        k = query.similarity_top_k
        if query.mode == VectorStoreQueryMode.MMR:
            near = self._index.nearest(query.query_embedding, k * _MMR_PREFETCH, allowed)
            threshold = kwargs.get("mmr_threshold", query.mmr_threshold)
            return self._result(self._diverse(query.query_embedding, near, k, threshold))
        return self._result(self._index.nearest(query.query_embedding, k, allowed))

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Writes vectors and nodes to a folder of this name.

        Raises:
            NotImplementedError: a file system that is not the local one.
        """
        if fs is not None and "file" not in (protocol := fs.protocol):
            raise NotImplementedError(
                f"TilefoldVectorStore.persist: only to local folders, got {protocol}"
            )
        nodes = [node_to_metadata_dict(node) for node in self._nodes.values()]
        self._index.save(persist_path, nodes)

    @classmethod
    def from_persist_path(cls, persist_path: str) -> TilefoldVectorStore:
        """Reads what `persist` wrote.

        Raises:
            FileNotFoundError: nothing was saved there.
            ValueError: a file was changed.
        """
        index, records = KeyedIndex.load(persist_path)
        store = cls(index.metric)
        store._index = index
        nodes = [metadata_dict_to_node(record) for record in records]
        store._nodes = {node.node_id: node for node in nodes}
        return store

    def _passing(
        self,
        node_ids: list[str] | None,
        filters: MetadataFilters | None,
        doc_ids: list[str] | None = None,
    ) -> list[str]:
        nodes = dict(self._nodes)
        passes = build_metadata_filter_fn(lambda id: nodes[id].metadata, filters)
        ids = list(nodes) if node_ids is None else [id for id in node_ids if id in nodes]
        if doc_ids is not None:
            ids = [id for id in ids if nodes[id].ref_doc_id in doc_ids]
        return [id for id in ids if passes(id)]

    def _drop(self, ids: list[str]) -> None:
        for id in self._index.drop(ids):
            self._nodes.pop(id, None)

    def _diverse(
        self, embedding: list[float], near: list[tuple[str, float]], k: int, threshold: float | None
    ) -> list[tuple[str, float]]:
        if not near:
            return []
        ids = [id for id, _ in near]
        scores, chosen = get_top_k_mmr_embeddings(
            embedding,
            self._index.vectors(ids).tolist(),
            similarity_top_k=k,
            embedding_ids=ids,
            mmr_threshold=threshold,
        )
        return list(zip(chosen, scores, strict=True))

    def _result(self, found: list[tuple[str, float]]) -> VectorStoreQueryResult:
        there = [(self._nodes[id], score) for id, score in found if id in self._nodes]
        return VectorStoreQueryResult(
            nodes=[node for node, _ in there],
            similarities=[score for _, score in there],
            ids=[node.node_id for node, _ in there],
        )
