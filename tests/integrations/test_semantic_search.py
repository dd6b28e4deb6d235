"""semantic_search and mine_hard_negatives, against those of sentence-transformers."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_collections import embedded

sentence_transformers: Any = pytest.importorskip("sentence_transformers")
datasets: Any = pytest.importorskip("datasets")
torch: Any = pytest.importorskip("torch")

from sentence_transformers import util

from tilefold.integrations.sentence_transformers import mine_hard_negatives, semantic_search

pytestmark = [
    # Of torch, datasets and others about each other.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

RNG = np.random.default_rng(3)
CORPUS = torch.from_numpy(RNG.standard_normal((700, 24)).astype(np.float32))
QUERIES = torch.from_numpy(RNG.standard_normal((130, 24)).astype(np.float32))
FUNCTIONS = ["cos_sim", "dot_score", "euclidean_sim"]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("top_k", [1, 10, 5000])
def test_a_search_has_the_results_of_sentence_transformers(name, top_k):
    function = getattr(util, name)
    ours = semantic_search(QUERIES, CORPUS, top_k=top_k, score_function=function)
    theirs = util.semantic_search(QUERIES, CORPUS, top_k=top_k, score_function=function)
    assert len(ours) == len(theirs) == 130
    for own, others in zip(ours, theirs, strict=True):
        assert all(type(hit["corpus_id"]) is int for hit in own)
        assert all(type(hit["score"]) is float for hit in own)
        np.testing.assert_allclose(
            [hit["score"] for hit in own], [hit["score"] for hit in others], atol=3e-5
        )
        places = [hit["corpus_id"] for hit in own]
        if top_k <= 10:  # deeper, scores that differ in rounding alone change places
            assert places == [hit["corpus_id"] for hit in others]
        assert len(set(places)) == len(places) == min(top_k, 700)
    assert semantic_search(QUERIES, CORPUS, top_k=top_k, score_function=name) == ours


KINDS: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda x: x.numpy(),
    "list of tensors": lambda x: list(x),
    "list of arrays": lambda x: list(x.numpy()),
    "list of lists": lambda x: x.tolist(),
    "with a gradient": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_of_every_kind_give_the_same(kind):
    expected = semantic_search(QUERIES[:5], CORPUS)
    assert semantic_search(KINDS[kind](QUERIES[:5]), KINDS[kind](CORPUS)) == expected
    assert semantic_search(QUERIES[0], CORPUS) == expected[:1]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lists_of_bfloat16_are_searched(name):
    queries, corpus = QUERIES[:5].bfloat16(), CORPUS.bfloat16()
    expected = semantic_search(queries.float(), corpus.float(), score_function=name)
    assert semantic_search(list(queries), list(corpus), score_function=name) == expected
    assert semantic_search(queries, corpus, score_function=name) == expected


def test_the_sizes_of_chunks_change_nothing():
    expected = semantic_search(QUERIES, CORPUS)
    assert semantic_search(QUERIES, CORPUS, query_chunk_size=7, corpus_chunk_size=13) == expected


def test_an_empty_corpus_gives_empty_lists():
    assert semantic_search(QUERIES[:2], CORPUS[:0]) == [[], []]


def test_a_search_that_is_not_possible_is_refused():
    def mine(a: Any, b: Any) -> Any:
        return a @ b.T

    for function in (mine, util.manhattan_sim, "cosine", None):
        with pytest.raises(ValueError, match=r"score_function must be cos_sim, dot_score or"):
            semantic_search(QUERIES, CORPUS, score_function=function)
    for sparse in (QUERIES.to_sparse(), list(QUERIES.to_sparse())):
        with pytest.raises(ValueError, match=r"embeddings are sparse; pass embeddings.to_dense"):
            semantic_search(sparse, CORPUS)
    with pytest.raises(ValueError, match="corpus_chunk_size must be at least 1, got 0"):
        semantic_search(QUERIES, CORPUS, corpus_chunk_size=0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_name_the_function_and_its_arguments(name):
    bad = QUERIES.clone()
    bad[3, 0] = torch.nan
    for queries, corpus, message in (
        (bad, CORPUS, "row 3 of query_embeddings has a NaN or an infinity$"),
        (QUERIES, bad, "row 3 of corpus_embeddings has a NaN or an infinity$"),
        (QUERIES[:, :5], CORPUS, "query_embeddings have dim 5 but corpus_embeddings have dim 24"),
    ):
        with pytest.raises(ValueError, match=f"^semantic_search: {message}"):
            semantic_search(queries, corpus, score_function=name)
    with pytest.raises(ValueError, match=r"^semantic_search: top_k must be at least 1, got 0"):
        semantic_search(QUERIES, CORPUS, top_k=0, score_function=name)
    with pytest.raises(TypeError, match=r"^semantic_search: query_embeddings must be float32"):
        semantic_search(QUERIES.int(), CORPUS, score_function=name)


# ---- hard negatives ------------------------------------------------------------------------------


class HashedWords:
    """The parts of a SentenceTransformer that mining calls."""

    device = "cpu"
    similarity_fn_name = "cosine"
    similarity = staticmethod(util.cos_sim)
    similarity_pairwise = staticmethod(util.pairwise_cos_sim)

    def encode_query(self, texts: list[str], **options: Any) -> np.ndarray:
        assert options["normalize_embeddings"]
        prompt = options["prompt"] or ""
        rows = embedded([prompt + text for text in texts])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    encode_document = encode_query


WORDS = [f"w{i}" for i in range(80)]


def sentence(*, start: str = "") -> str:
    return " ".join([start, *RNG.choice(WORDS, 6)])


def pairs(n: int = 60) -> Any:
    """Each anchor shares words with its positives; every fifth one has two, rows apart."""
    anchors = [sentence(start=f"a{i}") for i in range(n)]
    positives = [f"{anchor} {sentence()}" for anchor in anchors]
    again = anchors[::5]
    more = [f"{sentence()} {anchor}" for anchor in again]
    return datasets.Dataset.from_dict({"query": anchors + again, "answer": positives + more})


PAIRS = pairs()
EXTRA = [sentence() for _ in range(200)]


@pytest.mark.parametrize("output_format", ["triplet", "n-tuple", "labeled-pair", "labeled-list"])
@pytest.mark.parametrize("output_scores", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"range_max": 40, "relative_margin": 0.05},
        {"range_max": 60, "absolute_margin": 0.1, "min_score": 0.2, "num_negatives": 2},
        {"range_max": 30, "min_score": 0.35, "corpus_prompt": "w1 ", "query_prompt": "w2 "},
    ],
)
def test_mining_gives_the_dataset_of_sentence_transformers(output_format, output_scores, options):
    """With a window of ranks in which positives are at the top, where both count alike."""
    common = {
        "corpus": EXTRA,
        "output_format": output_format,
        "output_scores": output_scores,
        **options,
    }
    ours = mine_hard_negatives(PAIRS, HashedWords(), **common)
    theirs = util.mine_hard_negatives(PAIRS, HashedWords(), verbose=False, **common)
    assert ours.column_names == theirs.column_names
    assert len(ours) == len(theirs) > 20
    for name in ours.column_names:
        own, others = list(ours[name]), list(theirs[name])
        if name in ("score", "scores"):
            flat = [np.concatenate([np.atleast_1d(x) for x in column]) for column in (own, others)]
            np.testing.assert_allclose(*flat, atol=1e-6)
        else:
            assert own == others


def test_random_negatives_depend_on_the_seed_alone():
    options: dict[str, Any] = {"sampling_strategy": "random", "range_max": 30, "corpus": EXTRA}
    first, again, other = (
        mine_hard_negatives(PAIRS, HashedWords(), seed=seed, **options)["negative"]
        for seed in (0, 0, 1)
    )
    assert list(first) == list(again) != list(other)


def test_the_arguments_are_those_of_sentence_transformers():
    for own, theirs in (
        (semantic_search, util.semantic_search),
        (mine_hard_negatives, util.mine_hard_negatives),
    ):
        parameters = list(inspect.signature(own).parameters)
        expected = list(inspect.signature(theirs).parameters)
        assert parameters[: len(expected)] == expected


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ({"cross_encoder": object()}, "CrossEncoder.predict"),
        ({"include_positives": True}, "tilefold.search"),
        ({"use_faiss": True}, "needs no faiss"),
        ({"use_multi_process": ["cpu"]}, "pool="),
        ({"verbose": True}, "Mined.removed"),
        ({"cache_folder": "x"}, "tilefold encode"),
        ({"as_triplets": True}, "output_format"),
        ({"margin": 0.1}, "absolute_margin"),
    ],
)
def test_options_that_are_missing_name_what_does_the_same(options, way):
    with pytest.raises(NotImplementedError, match=f"{next(iter(options))}=.*{way}"):
        mine_hard_negatives(PAIRS, HashedWords(), **options)


def test_datasets_and_models_that_do_not_fit_are_refused():
    class Distance(HashedWords):
        similarity_fn_name = "euclidean"

    with pytest.raises(ValueError, match="similarity is 'euclidean'; scores here are cosines"):
        mine_hard_negatives(PAIRS, Distance())
    with pytest.raises(ValueError, match="the dataset is empty"):
        mine_hard_negatives(PAIRS.select([]), HashedWords())
    with pytest.raises(ValueError, match="must have two columns"):
        mine_hard_negatives(PAIRS.select_columns(["query"]), HashedWords())
    with pytest.raises(ValueError, match=r"positive_column_name is 'x', but .*'query', 'answer'"):
        mine_hard_negatives(PAIRS, HashedWords(), positive_column_name="x")
    with pytest.raises(ValueError, match=r"output_format must be one of .* got 'n-tuple-scores'"):
        mine_hard_negatives(PAIRS, HashedWords(), output_format="n-tuple-scores")
