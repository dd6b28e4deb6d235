"""The vector store for LlamaIndex, against its simple one; and what is saved."""

import copy
import importlib
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from small_collections import embedded, failures_beside

pytest.importorskip("llama_index.core", reason='not installed: pip install "tilefold[llama-index]"')

from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.postprocessor import MetadataReplacementPostProcessor
from llama_index.core.schema import (
    Document,
    IndexNode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from tilefold.integrations.llama_index import TilefoldVectorStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RNG = np.random.default_rng(6)
WORDS = [f"w{i}" for i in range(50)]
TEXTS = [" ".join(RNG.choice(WORDS, 8)) for _ in range(90)]
QUERIES = embedded([" ".join(RNG.choice(WORDS, 4)) for _ in range(8)]).astype(float).tolist()


def nodes() -> list[TextNode]:
    vectors = embedded(TEXTS).astype(float).tolist()
    return [
        TextNode(
            id_=f"n{i}",
            text=text,
            embedding=vector,
            metadata={"place": i, "even": str(i % 2 == 0)},
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"doc{i // 10}")},
        )
        for i, (text, vector) in enumerate(zip(TEXTS, vectors, strict=True))
    ]


def stores() -> tuple[Any, Any]:
    own, theirs = TilefoldVectorStore(), SimpleVectorStore()
    assert own.add(nodes()) == theirs.add(nodes())
    return own, theirs


EVEN = MetadataFilters(filters=[MetadataFilter(key="even", value="True")])
SOME = MetadataFilters(
    filters=[
        MetadataFilter(key="place", value=20, operator=FilterOperator.LT),
        MetadataFilter(key="place", value=80, operator=FilterOperator.GTE),
    ],
    condition=FilterCondition.OR,
)


@pytest.mark.parametrize("k", [1, 7, 200])
@pytest.mark.parametrize(
    "options", [{}, {"filters": EVEN}, {"filters": SOME}, {"node_ids": ["n3", "n4", "no"]}]
)
def test_queries_have_the_results_of_the_simple_store(k, options):
    own, theirs = stores()
    for vector in QUERIES:
        query = VectorStoreQuery(query_embedding=vector, similarity_top_k=k, **options)
        ours, others = own.query(query), theirs.query(query)
        assert ours.ids == others.ids
        assert ours.similarities == pytest.approx(others.similarities, abs=1e-6)
        assert [node.node_id for node in ours.nodes] == ours.ids


def test_diverse_results_are_those_of_the_simple_store_over_the_nearest():
    own, theirs = stores()
    query = VectorStoreQuery(
        query_embedding=QUERIES[0], similarity_top_k=30, mode=VectorStoreQueryMode.MMR
    )
    ours, others = own.query(query, mmr_threshold=0.3), theirs.query(query, mmr_threshold=0.3)
    assert ours.ids == others.ids  # four times thirty are all
    few = VectorStoreQuery(
        query_embedding=QUERIES[0], similarity_top_k=2, mode=VectorStoreQueryMode.MMR
    )
    near = own.query(VectorStoreQuery(query_embedding=QUERIES[0], similarity_top_k=8)).ids
    assert set(own.query(few).ids) <= set(near)


def test_nodes_are_replaced_and_deleted_as_in_the_simple_store():
    own, theirs = stores()
    for store in (own, theirs):
        store.add([TextNode(id_="n5", text="new", embedding=QUERIES[0])])
        store.delete("doc3")
        store.delete_nodes(["n1", "n2", "no"])
        store.delete_nodes(filters=EVEN)
    query = VectorStoreQuery(query_embedding=QUERIES[0], similarity_top_k=100)
    assert own.query(query).ids == theirs.query(query).ids
    assert own.query(query).ids[0] == "n5"
    assert own.get_nodes(["n5", "n1"])[0].get_content() == "new"
    assert len(own.get_nodes()) == len(own.client) == len(theirs.data.embedding_dict)
    one = VectorStoreQuery(query_embedding=QUERIES[0], similarity_top_k=99, doc_ids=["doc4"])
    assert {own.get_nodes([id])[0].ref_doc_id for id in own.query(one).ids} == {"doc4"}
    own.clear()
    assert own.query(query).ids == []


class HashedWords(BaseEmbedding):
    def _get_text_embedding(self, text: str) -> list[float]:
        return embedded([text])[0].astype(float).tolist()

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


def test_an_index_of_llama_index_retrieves_from_it_also_after_saving(tmp_path):
    store = TilefoldVectorStore()
    context = StorageContext.from_defaults(vector_store=store)
    bare = [TextNode(id_=f"n{i}", text=text) for i, text in enumerate(TEXTS)]
    index = VectorStoreIndex(bare, storage_context=context, embed_model=HashedWords())
    found = index.as_retriever(similarity_top_k=3).retrieve(TEXTS[8])
    assert found[0].node.node_id == "n8"
    assert found[0].score == pytest.approx(1, abs=1e-6)
    store.persist(str(tmp_path / "store"))
    loaded = TilefoldVectorStore.from_persist_path(str(tmp_path / "store"))
    again = VectorStoreIndex.from_vector_store(loaded, embed_model=HashedWords())
    expected = [(hit.node.node_id, hit.node.get_content(), hit.score) for hit in found]
    hits = again.as_retriever(similarity_top_k=3).retrieve(TEXTS[8])
    assert [(hit.node.node_id, hit.node.get_content(), hit.score) for hit in hits] == expected


def test_a_storage_context_that_was_persisted_is_loaded(tmp_path):
    context = StorageContext.from_defaults(vector_store=TilefoldVectorStore())
    bare = [TextNode(id_=f"n{i}", text=text) for i, text in enumerate(TEXTS)]
    index = VectorStoreIndex(bare, storage_context=context, embed_model=HashedWords())
    context.persist(str(tmp_path))
    store = TilefoldVectorStore.from_persist_dir(str(tmp_path))
    again = StorageContext.from_defaults(vector_store=store, persist_dir=str(tmp_path))
    loaded = load_index_from_storage(again, embed_model=HashedWords())
    assert loaded.index_id == index.index_id
    hits = loaded.as_retriever(similarity_top_k=3).retrieve(TEXTS[8])
    assert hits[0].node.node_id == "n8"


def test_metadata_and_documents_survive_saving(tmp_path):
    own, _ = stores()
    own.persist(str(tmp_path / "store"))
    loaded = TilefoldVectorStore.from_persist_path(str(tmp_path / "store"))
    assert loaded.get_nodes(["n7"])[0].metadata == {"place": 7, "even": "False"}
    query = VectorStoreQuery(query_embedding=QUERIES[1], similarity_top_k=5, filters=SOME)
    assert loaded.query(query).similarities == own.query(query).similarities
    loaded.delete("doc0")
    assert len(loaded.get_nodes()) == 80


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_the_nodes_and_is_independent(copied):
    own = TilefoldVectorStore("ip")
    own.add(nodes())
    other = copied(own)
    query = VectorStoreQuery(query_embedding=QUERIES[1], similarity_top_k=5, filters=SOME)
    assert other.metric == "ip"
    assert other.query(query).similarities == own.query(query).similarities
    assert other.get_nodes() == own.get_nodes()
    other.clear()
    assert (len(other.get_nodes()), len(own.get_nodes())) == (0, 90)


def test_what_callers_do_with_nodes_does_not_change_the_store():
    own, given = TilefoldVectorStore(), nodes()[:3]
    given[0].metadata = {"window": "wide", "tags": ["x"]}
    target = object()
    own.add([*given, IndexNode(id_="i", text="i", index_id="t", obj=target, embedding=QUERIES[0])])
    assert given[0].embedding is not None
    assert own.get_nodes(["i"])[0].obj is target
    expected = own.get_nodes(["n0"])[0]
    assert expected.embedding is None  # the index has it
    assert (expected.text, expected.ref_doc_id) == (TEXTS[0], "doc0")

    def spoil(node: TextNode) -> None:
        node.metadata["tags"].append("y")
        node.metadata["even"] = "no"
        node.relationships[NodeRelationship.SOURCE].node_id = "other"
        MetadataReplacementPostProcessor("window").postprocess_nodes([NodeWithScore(node=node)])
        assert node.get_content() == "wide"

    spoil(given[0])
    spoil(own.get_nodes(["n0"])[0])
    query = VectorStoreQuery(query_embedding=QUERIES[0], similarity_top_k=5, node_ids=["n0"])
    spoil(own.query(query).nodes[0])
    assert own.get_nodes(["n0"]) == [expected]
    assert expected.metadata == {"window": "wide", "tags": ["x"]}


def test_documents_are_copied_with_their_resources():
    own = TilefoldVectorStore()
    own.add([Document(id_="d", text="red", embedding=QUERIES[0])])
    own.get_nodes(["d"])[0].text_resource.text = "spoiled"
    assert own.get_nodes(["d"])[0].get_content() == "red"


def test_a_store_is_queried_while_another_thread_adds_and_deletes():
    own = TilefoldVectorStore()
    own.add(nodes()[40:])
    fresh = [node.model_copy(update={"embedding": QUERIES[0]}) for node in nodes()[:20]]
    ids = [node.node_id for node in fresh]

    def change(step: int) -> None:
        for node in fresh:
            node.metadata = {"step": step}
        own.add(fresh)
        own.delete_nodes(ids)

    def look() -> None:
        for mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
            query = VectorStoreQuery(query_embedding=QUERIES[0], similarity_top_k=8, mode=mode)
            assert len(own.query(query).nodes) == 8
        query = VectorStoreQuery(query_embedding=QUERIES[0], similarity_top_k=8, node_ids=ids)
        assert len({node.metadata["step"] for node in own.query(query).nodes}) <= 1
        assert len(own.get_nodes(ids)) in (0, 20)

    assert failures_beside(change, look) == []


def test_a_node_that_is_not_finite_or_cannot_be_saved_is_named(tmp_path):
    own, _ = stores()
    with pytest.raises(ValueError, match=r"^TilefoldVectorStore.add: .* document 'x' has a NaN or"):
        own.add([TextNode(id_="x", text="x", embedding=[float("nan")] * len(QUERIES[0]))])
    nan = VectorStoreQuery(query_embedding=[float("nan")] * len(QUERIES[0]))
    with pytest.raises(ValueError, match=r"^TilefoldVectorStore.query: .* query has a NaN or an i"):
        own.query(nan)
    own.add([TextNode(id_="x", text="\ud800", embedding=QUERIES[0])])
    with pytest.raises(ValueError, match=r"^TilefoldVectorStore.persist: document 'x' cannot be"):
        own.persist(str(tmp_path / "store"))


def test_what_is_not_possible_is_refused():
    own, _ = stores()
    with pytest.raises(ValueError, match="the query has no embedding"):
        own.query(VectorStoreQuery())
    with pytest.raises(ValueError, match='mode must be "default" or "mmr", got'):
        own.query(VectorStoreQuery(query_embedding=QUERIES[0], mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(ValueError, match=r'metric must be "cosine" or "ip", got .l2.'):
        TilefoldVectorStore("l2")
    with pytest.raises(ValueError, match="embedding not set"):
        own.add([TextNode(id_="x", text="x")])

    class Remote:
        protocol = ("s3",)

    with pytest.raises(NotImplementedError, match=r"only to local folders, got \('s3',\)"):
        own.persist("store", fs=Remote())


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llama_index.core.schema", None)
    monkeypatch.delitem(sys.modules, "tilefold.integrations.llama_index")
    with pytest.raises(ImportError, match=r'pip install "tilefold\[llama-index\]"'):
        importlib.import_module("tilefold.integrations.llama_index")
