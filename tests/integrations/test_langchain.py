"""The vector store for LangChain, against its store in memory; and what is saved."""

import asyncio
import copy
import importlib
import json
import sys
from typing import Any

import numpy as np
import pytest
from small_collections import embedded, failures_beside

langchain_core: Any = pytest.importorskip(
    "langchain_core", reason='not installed: pip install "tilefold[langchain]"'
)

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore

from tilefold.integrations.langchain import TilefoldVectorStore


class HashedWords(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return embedded(texts).astype(float).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


RNG = np.random.default_rng(5)
WORDS = [f"w{i}" for i in range(50)]
TEXTS = [" ".join(RNG.choice(WORDS, 8)) for _ in range(120)]
DOCUMENTS = [
    Document(id=f"d{i}", page_content=text, metadata={"place": i, "even": i % 2 == 0})
    for i, text in enumerate(TEXTS)
]
QUERIES = [" ".join(RNG.choice(WORDS, 4)) for _ in range(10)]


def stores() -> tuple[Any, Any]:
    own, theirs = TilefoldVectorStore(HashedWords()), InMemoryVectorStore(HashedWords())
    for store in (own, theirs):
        assert store.add_documents(DOCUMENTS) == [d.id for d in DOCUMENTS]
    return own, theirs


def is_even(document: Document) -> bool:
    return bool(document.metadata["even"])


@pytest.mark.parametrize("k", [1, 5, 200])
@pytest.mark.parametrize("filter", [None, is_even])
def test_searches_have_the_results_of_the_store_in_memory(k, filter):
    own, theirs = stores()
    for query in QUERIES:
        ours = own.similarity_search_with_score(query, k, filter=filter)
        others = theirs.similarity_search_with_score(query, k, filter=filter)
        assert [d for d, _ in ours] == [d for d, _ in others]
        assert [s for _, s in ours] == pytest.approx([s for _, s in others], abs=1e-6)
        assert own.similarity_search(query, k, filter=filter) == [d for d, _ in ours]
        vector = HashedWords().embed_query(query)
        assert own.similarity_search_by_vector(vector, k, filter=filter) == [d for d, _ in ours]


def test_a_filter_may_be_values_of_the_metadata():
    own, _ = stores()
    found = own.similarity_search(QUERIES[0], 3, filter={"even": True})
    assert found == own.similarity_search(QUERIES[0], 3, filter=is_even)
    assert own.similarity_search(QUERIES[0], 3, filter={"even": True, "place": 7}) == []
    assert own.similarity_search(QUERIES[0], 3, filter={"no such key": None}) == []


@pytest.mark.parametrize("filter", [{"place": {"$in": [1, 2]}}, {"$and": [{"place": 1}]}])
def test_operators_of_other_stores_are_refused(filter):
    """They would equal the metadata of no document, and nothing would say so."""
    own, _ = stores()
    with pytest.raises(ValueError, match=r"^TilefoldVectorStore: filter has the operator '\$"):
        own.similarity_search(QUERIES[0], filter=filter)


def test_diverse_results_are_those_of_the_store_in_memory():
    own, theirs = stores()
    for query in QUERIES:
        options = {"k": 4, "fetch_k": 12, "lambda_mult": 0.3}
        ours = own.max_marginal_relevance_search(query, **options)
        assert ours == theirs.max_marginal_relevance_search(query, **options)
        assert ours != own.similarity_search(query, 4) or len(ours) == 4


def test_a_retriever_and_the_async_methods_work():
    own, _ = stores()
    expected = own.similarity_search(QUERIES[0], 3)
    assert own.as_retriever(search_kwargs={"k": 3}).invoke(QUERIES[0]) == expected
    assert asyncio.run(own.asimilarity_search(QUERIES[0], 3)) == expected
    diverse = own.as_retriever(search_type="mmr", search_kwargs={"k": 3, "fetch_k": 3})
    assert len(diverse.invoke(QUERIES[0])) == 3
    near = own.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.5, "k": 100}
    )
    scores = own.similarity_search_with_score(QUERIES[0], 100)
    assert near.invoke(QUERIES[0]) == [d for d, score in scores if score >= 0.5]


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_other_metrics_have_their_scores(metric):
    store = TilefoldVectorStore.from_texts(TEXTS, HashedWords(), ids=None, metric=metric)
    rows, query = embedded(TEXTS).astype(float), embedded(QUERIES[:1])[0].astype(float)
    scores = rows @ query if metric == "ip" else ((rows - query) ** 2).sum(1)
    order = np.argsort(-scores if metric == "ip" else scores, kind="stable")[:5]
    found = store.similarity_search_with_score(QUERIES[0], 5)
    assert [d.page_content for d, _ in found] == [TEXTS[i] for i in order]
    assert [s for _, s in found] == pytest.approx(scores[order], rel=1e-6)
    with pytest.raises(NotImplementedError, match="use similarity_search_with_score"):
        store.similarity_search_with_relevance_scores(QUERIES[0], score_threshold=0.5)


def test_documents_are_replaced_and_deleted():
    own, _ = stores()
    own.add_documents([Document(id="d3", page_content=QUERIES[0]), Document(page_content="new")])
    assert len(own) == 121
    assert own.similarity_search(QUERIES[0], 1)[0].id == "d3"
    assert own.get_by_ids(["d3", "nowhere"])[0].page_content == QUERIES[0]
    assert own.delete(["d3", "nowhere"]) is True
    assert own.get_by_ids(["d3"]) == []
    assert "d3" not in {d.id for d in own.similarity_search(QUERIES[0], 200)}
    own.delete()
    assert own.similarity_search(QUERIES[0], 3) == []
    assert len(own) == 0
    own.add_texts(["a", "b"], ids=["x", "x"])  # the last one counts
    assert [d.page_content for d in own.similarity_search("a", 5)] == ["b"]


def test_an_error_changes_nothing():
    class Broken(HashedWords):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            rows = embedded(texts).astype(float)
            rows[-1, 0] = np.nan
            return rows.tolist()

    own, _ = stores()
    before = own.similarity_search_with_score(QUERIES[0], 200)
    own._embedding = Broken()
    with pytest.raises(
        ValueError, match=r"the vector of document 'fresh' has a NaN or an infinity$"
    ):
        own.add_texts(["a", "b"], ids=["d0", "fresh"])
    own._embedding = HashedWords()
    assert own.similarity_search_with_score(QUERIES[0], 200) == before


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_vector_that_is_too_large_changes_nothing(metric):
    class Huge(HashedWords):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1e30 if text == "huge" else 5.0, 1.0] for text in texts]

    store = TilefoldVectorStore(Huge(), metric=metric)
    store.add_texts(["a"], ids=["known"])
    before = store.similarity_search_with_score("a", 5)
    if metric == "l2":
        with pytest.raises(ValueError, match="row 1 of vectors has a norm of 2"):
            store.add_texts(["b", "huge"], ids=["known", "fresh"])
        assert store.similarity_search_with_score("a", 5) == before
        with pytest.raises(ValueError, match=r"similarity_search: .* of the query has a NaN or"):
            store.similarity_search_by_vector([float("nan"), 1.0])
    else:
        store.add_texts(["b", "huge"], ids=["known", "fresh"])
        assert len(store) == 2


def test_what_callers_do_with_documents_does_not_change_the_store():
    given = {"n": 1, "tags": ["x"], "deep": {"a": [1]}, "pair": ([2], {3})}
    store = TilefoldVectorStore(HashedWords())
    store.add_texts(["red"], [given], ids=["r"])
    expected = Document(id="r", page_content="red", metadata=copy.deepcopy(given))

    def spoil(document: Document) -> None:
        document.page_content = "spoiled"
        document.metadata["n"] = 2
        document.metadata["tags"].append("y")
        document.metadata["deep"]["a"].clear()
        for part in document.metadata["pair"]:
            part.clear()

    spoil(Document(id="r", page_content="red", metadata=given))
    for found in (
        store.similarity_search("red"),
        store.get_by_ids(["r"]),
        store.max_marginal_relevance_search("red", filter={"n": 1}),
    ):
        assert found == [expected]
        spoil(found[0])
    assert store.get_by_ids(["r"]) == [expected]


def test_a_store_is_searched_while_another_thread_adds_and_deletes():
    store, ids = TilefoldVectorStore(HashedWords()), [f"f{i}" for i in range(20)]
    store.add_texts(TEXTS[:40])
    vector = HashedWords().embed_query(QUERIES[0])

    def change(step: int) -> None:
        store.add_texts([QUERIES[0]] * 20, [{"step": step}] * 20, ids=ids)
        store.delete(ids)

    def look() -> None:
        found = store.similarity_search_by_vector(vector, 10)
        assert len(found) == 10
        assert len({document.metadata.get("step") for document in found}) == 1
        assert len(store.get_by_ids(ids)) in (0, 20)
        assert len(store.similarity_search_by_vector(vector, 10, filter={})) == 10
        diverse = store.max_marginal_relevance_search_by_vector(vector, 4, 10, filter=bool)
        assert len(diverse) == 4

    assert failures_beside(change, look) == []


def test_a_saved_store_answers_as_before(tmp_path):
    own, _ = stores()
    own.delete(["d1"])
    for folder in (tmp_path / "store", tmp_path / "store"):  # over itself, too
        own.save(folder)
        loaded = TilefoldVectorStore.load(folder, HashedWords())
        for query in QUERIES:
            expected = own.similarity_search_with_score(query, 9)
            assert loaded.similarity_search_with_score(query, 9) == expected
    loaded.add_texts(["more"])
    assert len(loaded) == 120
    path = tmp_path / "store" / "records.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"records\.safetensors"):
        TilefoldVectorStore.load(tmp_path / "store", HashedWords())


def test_an_empty_store_is_saved_and_metadata_must_be_json(tmp_path):
    store = TilefoldVectorStore(HashedWords(), metric="l2")
    store.save(tmp_path / "store")
    loaded = TilefoldVectorStore.load(tmp_path / "store", HashedWords())
    assert loaded.similarity_search("x") == []
    assert loaded._index.metric == "l2"
    loaded.add_texts(["x"], [{"a": object()}])
    (id,) = [document.id for document in loaded.similarity_search("x")]
    with pytest.raises(TypeError, match=f"^save: document '{id}': .* not JSON serializable"):
        loaded.save(tmp_path / "store")
    loaded.add_texts(["\ud800"], [{}], ids=[id])
    with pytest.raises(
        ValueError, match=f"^save: document '{id}' cannot be JSON in UTF-8"
    ) as error:
        loaded.save(tmp_path / "store")
    assert type(error.value) is ValueError
    again = TilefoldVectorStore.load(tmp_path / "store", HashedWords())
    assert json.dumps(again.similarity_search("x")) == "[]"


def test_files_of_two_stores_are_not_mixed(tmp_path):
    own, _ = stores()
    own.save(tmp_path / "a")
    own.delete(["d0"])
    own.save(tmp_path / "b")
    (tmp_path / "a" / "records.safetensors").rename(tmp_path / "b" / "records.safetensors")
    with pytest.raises(ValueError, match="belongs to another index"):
        TilefoldVectorStore.load(tmp_path / "b", HashedWords())


def test_arguments_that_do_not_fit_are_refused():
    own, _ = stores()
    with pytest.raises(ValueError, match="expected 2 ids, one per text, got 1"):
        own.add_texts(["a", "b"], ids=["x"])
    with pytest.raises(ValueError, match="expected 2 metadatas, one per text, got 1"):
        own.add_texts(["a", "b"], [{}])
    with pytest.raises(TypeError, match="similarity_search: there is no argument score"):
        own.similarity_search("a", score=3)
    with pytest.raises(ValueError, match="metric must be"):
        TilefoldVectorStore(HashedWords(), metric="dot")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_core.documents", None)
    monkeypatch.delitem(sys.modules, "tilefold.integrations.langchain")
    with pytest.raises(ImportError, match=r'pip install "tilefold\[langchain\]"'):
        importlib.import_module("tilefold.integrations.langchain")
