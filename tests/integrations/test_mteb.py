"""Retrieval tasks of MTEB, searched by tilefold and by MTEB itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_collections import DIM, Collection, embedded

mteb: Any = pytest.importorskip("mteb", reason='not installed: pip install "tilefold[mteb]"')
datasets: Any = pytest.importorskip("datasets")
torch: Any = pytest.importorskip("torch")

from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import ModelMeta, SearchEncoderWrapper
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from mteb.similarity_functions import euclidean_sim

from tilefold.integrations.mteb import ExactSearchIndex

pytestmark = [
    # Of datasets, torch and others about each other.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class HashedWords(AbsEncoder):
    """Counts what it encodes; embeddings are tensors, as those of most models."""

    def __init__(self, similarity: str | None, dtype: Any = torch.float32) -> None:
        function = similarity and ScoringFunction(similarity)
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": "tilefold/hashed", "revision": "1", "similarity_fn_name": function}
        )
        self.dtype = dtype

    def similarity(self, a: Any, b: Any) -> Any:
        """That of MTEB's own encoders, which lack L2 distances."""
        known = self.mteb_model_meta.similarity_fn_name is not ScoringFunction.EUCLIDEAN
        return super().similarity(a, b) if known else euclidean_sim(a, b)

    def encode(self, inputs: Any, **options: Any) -> Any:
        texts = [text for batch in inputs for text in batch["text"]]
        return torch.from_numpy(embedded(texts)).to(self.dtype)


def metadata(kind: str) -> TaskMetadata:
    return TaskMetadata(
        type=kind,
        name=f"Adi{kind}",
        description="The ADI collection.",
        reference=None,
        dataset={"path": "none", "revision": "none"},
        main_score="ndcg_at_10",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        modalities=["text"],
        category="t2t",
    )


class Adi(AbsTaskRetrieval):
    """82 documents and 35 queries."""

    metadata = metadata("Retrieval")
    folder: Path
    candidates: dict[str, list[str]] | None = None

    def load_data(self, **options: Any) -> None:
        own = Collection(self.folder)
        split = {
            "corpus": datasets.Dataset.from_list(
                [{"id": id, **fields} for id, fields in own.corpus.items()]
            ),
            "queries": datasets.Dataset.from_list(
                [{"id": id, "text": text} for id, text in own.queries.items()]
            ),
            "relevant_docs": own.qrels,
            "top_ranked": self.candidates,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


class AdiReranking(Adi):
    """The same, with ten candidates for each query."""

    metadata = metadata("Reranking")


@pytest.fixture(params=[Adi, AdiReranking])
def task(request: pytest.FixtureRequest, data_folder: Path) -> AbsTaskRetrieval:
    task = request.param()
    task.folder = data_folder / "adi" / "beir"
    own = Collection(task.folder)
    if request.param is AdiReranking:
        rng = np.random.default_rng(0)
        task.candidates = {
            id: [str(name) for name in rng.permutation(list(own.corpus))[:10]] for id in own.queries
        }
    return task


def searched(task: AbsTaskRetrieval, model: Any, folder: Path) -> tuple[dict, dict]:
    """Scores of a task and its run."""
    result = mteb.evaluate(
        model,
        task,
        cache=None,
        prediction_folder=folder,
        show_progress_bar=False,
        co2_tracker=False,
    )
    scores = result.task_results[0].scores["test"][0]
    (path,) = folder.rglob("*.json")

    return scores, json.loads(path.read_text())["default"]["test"]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclidean"])
def test_a_task_has_the_scores_and_metrics_of_mtebs_own_search(similarity, task, tmp_path):
    model = HashedWords(similarity)
    exact = SearchEncoderWrapper(model, index_backend=ExactSearchIndex(model))
    theirs, their_run = searched(task, model, tmp_path / "theirs")
    ours, our_run = searched(task, exact, tmp_path / "ours")
    assert their_run.keys() == our_run.keys()
    for query, expected in their_run.items():
        assert our_run[query].keys() == expected.keys(), query
        for document, score in expected.items():
            assert our_run[query][document] == pytest.approx(score, rel=1e-5, abs=1e-4)
    numbers = {name for name, value in theirs.items() if isinstance(value, float)}
    assert {"ndcg_at_10", "map_at_100", "recall_at_10", "mrr_at_10"} <= numbers
    assert theirs["ndcg_at_10"] > 0.1
    for name in numbers:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-12, nan_ok=True), name


def test_fewer_answers_than_documents_are_the_best_ones(data_folder):
    own = Collection(data_folder / "adi" / "beir")
    documents = embedded([fields["text"] for fields in own.corpus.values()])
    queries = embedded(list(own.queries.values()))
    model = HashedWords("cosine", torch.bfloat16)
    index = ExactSearchIndex(model)
    for part in (slice(0, 50), slice(50, None)):  # in two parts
        index.add_documents(torch.from_numpy(documents[part]), list(own.corpus)[part])
    scores, places = index.search(torch.from_numpy(queries), 7, model.similarity)
    expected = model.similarity(queries, documents).topk(7)
    assert places == expected.indices.tolist()
    np.testing.assert_allclose(scores, expected.values, atol=1e-6)
    index.clear()
    with pytest.raises(ValueError, match=r"^ExactSearchIndex.search: there are no documents"):
        index.search(queries, 7, model.similarity)


def test_embeddings_in_bfloat16_are_searched_as_they_are(data_folder):
    own = Collection(data_folder / "adi" / "beir")
    documents = torch.from_numpy(embedded([f["text"] for f in own.corpus.values()])).bfloat16()
    model = HashedWords("dot")
    index = ExactSearchIndex(model)
    index.add_documents(documents, list(own.corpus))
    scores, places = index.search(documents[:3], 4, model.similarity)
    expected = (documents[:3].double() @ documents.double().T).topk(4)
    assert places == expected.indices.tolist()
    np.testing.assert_allclose(scores, expected.values, rtol=1e-6)


def test_embeddings_in_int8_are_searched_as_they_are():
    rng, model = np.random.default_rng(0), HashedWords("dot")
    documents, queries = (rng.integers(-99, 99, (n, 16), np.int8) for n in (30, 4))
    index = ExactSearchIndex(model)
    index.add_documents(torch.from_numpy(documents), [f"d{i}" for i in range(30)])

    def dot_score(a: Any, b: Any) -> Any:
        """That of sentence-transformers, which wants one dtype."""
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    scores, places = index.search(torch.from_numpy(queries), 4, dot_score)
    exact = queries.astype(np.int64) @ documents.astype(np.int64).T
    assert places == np.argsort(-exact, axis=1, kind="stable")[:, :4].tolist()
    assert scores == (-np.sort(-exact, axis=1)[:, :4]).tolist()


def test_documents_that_were_refused_leave_nothing():
    model = HashedWords("dot")
    index = ExactSearchIndex(model)
    with pytest.raises(ValueError, match=r"add_documents: .* document 'b' has a NaN or an inf.*y$"):
        index.add_documents(np.float32([[1, 2], [np.nan, 0]]), ["a", "b"])
    index.add_documents(np.empty((0, 5), np.float32), [])
    with pytest.raises(ValueError, match=r"^ExactSearchIndex.search: there are no documents"):
        index.search(np.ones((1, 2), np.float32), 3, model.similarity)
    index.add_documents(np.eye(3, dtype=np.float32), ["a", "b", "c"])
    assert index.search(np.float32([[0, 1, 0]]), 1, model.similarity)[1] == [[1]]
    with pytest.raises(ValueError, match=r"search: row 1 of embeddings has a NaN or an infinity$"):
        index.search(np.float32([[0, 1, 0], [np.inf, 0, 0]]), 1, model.similarity)


@pytest.mark.parametrize("similarity", ["manhattan", "MaxSim", "custom", None])
def test_a_similarity_that_is_no_metric_is_refused(similarity):
    with pytest.raises(ValueError, match=f"similarity must be .* got {similarity!r}; leave"):
        ExactSearchIndex(HashedWords(similarity))


def test_a_model_that_computes_another_similarity_than_it_says_is_noticed():
    model = HashedWords("dot")
    index = ExactSearchIndex(model)
    index.add_documents(embedded(["a b", "c d"]), ["1", "2"])
    with pytest.raises(ValueError, match=r"model\.similarity gives .* leave index_backend out"):
        index.search(embedded(["a"]), 1, lambda a, b: 3 * model.similarity(a, b))


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        (2, ["a"], "expected 2 ids, one per row, got 1"),
        (2, ["a", "a"], "an id is repeated"),
        (1, ["x"], "an id is repeated, or is already in the index"),
    ],
)
def test_documents_that_do_not_fit_are_refused(rows, ids, message):
    index = ExactSearchIndex(HashedWords("dot"))
    index.add_documents(np.ones((1, DIM), np.float32), ["x"])
    with pytest.raises(ValueError, match=f"^ExactSearchIndex.add_documents: {message}"):
        index.add_documents(np.ones((rows, DIM), np.float32), ids)
    assert index.search(np.ones((1, DIM), np.float32), 5, lambda a, b: a @ b.T)[1] == [[0]]


def test_candidates_need_the_ids_of_queries():
    index = ExactSearchIndex(HashedWords("dot"))
    index.add_documents(np.ones((1, DIM), np.float32), ["x"])
    with pytest.raises(ValueError, match="top_ranked needs query_idx_to_id"):
        index.search(np.ones((1, DIM), np.float32), 5, np.inner, top_ranked={"q": ["x"]})
