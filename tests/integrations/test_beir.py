"""Collections searched by tilefold and by BEIR itself, with the same embeddings."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from small_collections import Collection, embedded

beir: Any = pytest.importorskip("beir", reason='not installed: pip install "tilefold[beir]"')
torch: Any = pytest.importorskip("torch")

from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.search.dense import DenseRetrievalExactSearch

from tilefold.integrations.beir import ExactBeirSearch

QUIET = {"show_progress_bar": False}


class HashedWords:
    """Keeps embeddings by text, so that two searches encode once."""

    def __init__(self, kind: str = "torch") -> None:
        self.kind = kind
        self.known: dict[str, np.ndarray] = {}
        self.calls: list[int] = []

    def encode_queries(self, texts: list[str], **options: Any) -> Any:
        assert options["batch_size"] == 128
        fresh = [text for text in texts if text not in self.known]
        self.known |= dict(zip(fresh, embedded(fresh), strict=True))
        rows = np.stack([self.known[text] for text in texts])
        return torch.from_numpy(rows) if self.kind == "torch" else rows

    def encode_corpus(self, documents: list[dict[str, str]], **options: Any) -> Any:
        self.calls.append(len(documents))
        return self.encode_queries([f"{d['title']} {d['text']}" for d in documents], **options)


@pytest.fixture(scope="module")
def collection(data_folder) -> Collection:
    return Collection(data_folder / "cranfield" / "beir")


@pytest.fixture(scope="module")
def model(collection) -> HashedWords:
    return HashedWords()


@pytest.mark.parametrize("score_function", ["cos_sim", "dot"])
@pytest.mark.parametrize("chunk", [50_000, 300])
def test_a_collection_has_the_results_and_measures_of_beirs_own_search(
    score_function, chunk, collection, model
):
    own = EvaluateRetrieval(
        ExactBeirSearch(model, corpus_chunk_size=chunk, **QUIET),
        k_values=[1, 10, 100],
        score_function=score_function,
    )
    theirs = EvaluateRetrieval(
        DenseRetrievalExactSearch(model, corpus_chunk_size=chunk, **QUIET),
        k_values=[1, 10, 100],
        score_function=score_function,
    )
    found = own.retrieve(collection.corpus, collection.queries)
    expected = theirs.retrieve(collection.corpus, collection.queries)
    assert list(found) == list(expected)
    differing = 0
    for query, scores in expected.items():
        ours = found[query]
        assert list(ours.values()) == sorted(ours.values(), reverse=True)
        np.testing.assert_allclose(
            list(ours.values()), sorted(scores.values(), reverse=True), rtol=1e-5, atol=1e-5
        )
        differing += len(ours.keys() ^ scores.keys())
        for id in ours.keys() & scores.keys():
            assert ours[id] == pytest.approx(scores[id], rel=1e-5, abs=1e-5)
    assert differing <= 2  # documents whose scores differ in rounding alone, at rank 100
    measures = zip(
        own.evaluate(collection.qrels, found, own.k_values),
        own.evaluate(collection.qrels, expected, own.k_values),
        strict=True,
    )
    for ours, others in measures:
        assert ours == pytest.approx(others, abs=2e-4)
        assert max(ours.values()) > 0


def test_the_size_of_parts_changes_no_bit(collection, model):
    parts = [
        ExactBeirSearch(model, corpus_chunk_size=size, **QUIET).search(
            collection.corpus, collection.queries, 20, "cos_sim"
        )
        for size in (100, 1399, 50_000)
    ]
    assert parts[0] == parts[1] == parts[2]


def test_parts_are_encoded_one_after_the_other(collection):
    model = HashedWords()
    search = ExactBeirSearch(model, corpus_chunk_size=600, **QUIET)
    search.search(collection.corpus, collection.queries, 5, "dot")
    assert model.calls == [600, 600, 200]


@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_a_document_with_the_id_of_the_query_is_left_out_unless_it_is_asked_for(kind):
    corpus = {id: {"title": "", "text": text} for id, text in (("a", "x"), ("b", "x y"))}
    queries = {"a": "x", "q": "x"}
    model = HashedWords(kind)
    left_out = ExactBeirSearch(model, **QUIET).search(corpus, queries, 2, "cos_sim")
    assert [list(scores) for scores in left_out.values()] == [["b"], ["a", "b"]]
    theirs = DenseRetrievalExactSearch(model, **QUIET).search(corpus, queries, 2, "cos_sim")
    assert [set(scores) for scores in theirs.values()] == [{"b"}, {"a", "b"}]
    kept = ExactBeirSearch(model, skip_same_id=False, **QUIET)
    found = kept.search(corpus, queries, 2, "cos_sim")
    assert [list(scores) for scores in found.values()] == [["a", "b"], ["a", "b"]]
    assert kept.results is found


def test_documents_with_the_same_score_come_in_the_order_of_the_corpus():
    corpus = {str(i): {"title": "", "text": "same"} for i in (5, 3, 9, 1)}
    found = ExactBeirSearch(HashedWords(), **QUIET).search(corpus, {"q": "same"}, 3, "dot")
    assert list(found["q"]) == ["5", "3", "9"]


def test_memory_does_not_grow_with_the_corpus():
    """Beside the queries there are the embeddings of a part: half a megabyte here, not 25."""

    class Ones:
        def encode_queries(self, texts: list[str], **options: Any) -> Any:
            return np.ones((len(texts), 256), np.float32)

        def encode_corpus(self, documents: list[Any], **options: Any) -> Any:
            return self.encode_queries(documents)

    document = {"title": "", "text": ""}
    corpus = {str(i): document for i in range(25_000)}
    search = ExactBeirSearch(Ones(), corpus_chunk_size=500, **QUIET)
    search.search({"0": document}, {"q": ""}, 5, "dot")
    tracemalloc.start()
    try:
        search.search(corpus, {"q": "", "p": ""}, 5, "dot")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_what_is_not_possible_is_refused_with_the_way():
    search = ExactBeirSearch(HashedWords(), **QUIET)
    corpus = {"a": {"title": "", "text": "x"}}
    with pytest.raises(ValueError, match=r'must be "cos_sim" or "dot", got .l2.'):
        search.search(corpus, {"q": "x"}, 2, "l2")
    for call in (search.encode, search.search_from_files):
        with pytest.raises(NotImplementedError, match="pickles"):
            call(corpus, {"q": "x"})
    with pytest.raises(TypeError, match="batch_size must be an integer"):
        ExactBeirSearch(HashedWords(), "128")
    with pytest.raises(TypeError, match="no_such_option"):
        search.search(corpus, {"q": "x"}, 2, "dot", no_such_option=1)

    class TooFew(HashedWords):
        def encode_corpus(self, documents: list[Any], **options: Any) -> Any:
            return super().encode_corpus(documents[:-1], **options)

    with pytest.raises(ValueError, match="the model gives 1 rows for 2 corpus"):
        ExactBeirSearch(TooFew(), **QUIET).search(corpus | {"b": corpus["a"]}, {"q": "x"}, 2, "dot")


def test_a_model_may_compute_in_bfloat16():
    class Half(HashedWords):
        def encode_queries(self, texts: list[str], **options: Any) -> Any:
            return super().encode_queries(texts, **options).bfloat16().requires_grad_()

    corpus = {id: {"title": "", "text": id} for id in ("x y", "x", "y z")}
    for score_function in ("dot", "cos_sim"):
        found = ExactBeirSearch(Half(), **QUIET).search(corpus, {"q": "x y"}, 3, score_function)
        rows = Half().encode_queries(["x y", *corpus], batch_size=128).detach().double()
        if score_function == "cos_sim":
            rows = torch.nn.functional.normalize(rows)
        expected = dict(zip(corpus, (rows[1:] @ rows[0]).tolist(), strict=True))
        assert found["q"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("score_function", ["dot", "cos_sim"])
def test_a_text_whose_embedding_is_not_finite_is_named(score_function):
    class Broken(HashedWords):
        def encode_queries(self, texts: list[str], **options: Any) -> Any:
            rows = super().encode_queries(texts, **options)
            rows[["broken" in text for text in texts]] = torch.nan
            return rows

    corpus = {str(i): {"title": "", "text": "x" * i} for i in range(9)}
    search = ExactBeirSearch(Broken(), corpus_chunk_size=4, **QUIET)
    with pytest.raises(ValueError, match=r"search: the embedding of query 'p' has a NaN or an i"):
        search.search(corpus, {"q": "x", "p": "broken"}, 2, score_function)
    corpus["bad"] = {"title": "", "text": "broken"}
    with pytest.raises(ValueError, match=r"of document 'bad' has a NaN or an infinity$"):
        search.search(corpus, {"q": "x"}, 2, score_function)
