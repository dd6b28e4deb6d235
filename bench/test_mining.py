"""Hard negatives against `mine_hard_negatives` of sentence-transformers, embeddings given.

Sentences of lama_trex where they were encoded, else vectors that are as alike. Everybody mines for
the same queries and positives, and must find the same negatives up to the rounding of fp32.
"""

from __future__ import annotations

import importlib
import warnings
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from embeddings import embed

from tilefold.data import read_beir
from tilefold.lists import Lists
from tilefold.mining import Mined, mine
from tilefold.testing import assert_same_up_to_rounding

QUERIES = 5_000
PEER = "sentence-transformers"


def optional(name: str) -> ModuleType | None:
    """A package, or None; what it warns about while it is imported is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


torch, datasets = optional("torch"), optional("datasets")
theirs, faiss = optional("sentence_transformers.util"), optional("faiss")
MISSING = () if theirs and datasets else (PEER,)


class Task(NamedTuple):
    """Embeddings of unit length, and the positives of each query."""

    name: str
    queries: np.ndarray
    documents: np.ndarray
    positives: Lists


class Given:
    """A model whose texts are row numbers of embeddings."""

    device = "cpu"

    def __init__(self, task: Task) -> None:
        self._task = task

    def encode_query(self, texts: list[str], **_: Any) -> np.ndarray:
        return self._task.queries[np.array(texts, np.int64)]

    def encode_document(self, texts: list[str], **_: Any) -> np.ndarray:
        return self._task.documents[np.array(texts, np.int64)]

    def get_embedding_dimension(self) -> int:
        return self._task.documents.shape[1]

    def similarity(self, a: Any, b: Any) -> Any:
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


def mined_by_peer(task: Task, pairs: Any, corpus: list[str], use_faiss: bool, options: Any) -> Any:
    return theirs.mine_hard_negatives(
        pairs,
        Given(task),
        corpus=corpus,
        output_format="labeled-list",
        use_faiss=use_faiss,
        verbose=False,
        **options,
    )


def check(task: Task, name: str, ours: Mined, dataset: Any) -> int:
    """Negatives that differ, all of them near-ties.

    With `range_max` the peer looks deeper by the most positives that a query has, so it may go on
    where ours ends. A near-tie with the margin may give ours more, of one query in a thousand.
    """
    n, width = len(task.queries), ours.n_negatives
    rows = np.full((n, width), -1)
    counts = np.diff(ours.negatives.offsets)
    places = (
        ours.negatives.owners(),
        np.arange(counts.sum()) - np.repeat(ours.negatives.offsets[:-1], counts),
    )
    rows[places] = ours.negatives.indices
    scores = np.full((n, width), -np.inf, np.float32)
    scores[places] = ours.scores
    peers = np.full((n, width), -1)
    for query, texts in zip(dataset["query"], dataset["positive"], strict=True):
        peers[int(query), : len(texts) - 1] = [int(text) for text in texts[1:]]
    same = ((rows < 0) | (peers >= 0)).all(axis=1)
    assert (~same).sum() <= n // 1000, f"{name}: {(~same).sum()} queries have fewer negatives"
    peers[rows < 0] = -1
    pair = scores[same], rows[same]
    return assert_same_up_to_rounding(
        pair, peers[same], task.queries[same], task.documents, name=name
    )


def compare_miners(compare: Any, task: Task, options: dict[str, Any], target: float | None) -> None:
    n_negatives = options["n_negatives"]
    contenders = {
        "tilefold": partial(mine, task.queries, task.documents, task.positives, **options)
    }
    if not MISSING:
        others = {"num_negatives" if k == "n_negatives" else k: v for k, v in options.items()}
        columns = {
            "query": task.positives.owners().astype(str).tolist(),
            "positive": task.positives.indices.astype(str).tolist(),
        }
        pairs = datasets.Dataset.from_dict(columns)
        corpus = np.arange(len(task.documents)).astype(str).tolist()
        for name, use_faiss in ((PEER, False), (f"{PEER} faiss", True)):
            if faiss or not use_faiss:
                contenders[name] = partial(mined_by_peer, task, pairs, corpus, use_faiss, others)
    size = f"{len(task.queries):,} x {len(task.documents):,}"
    asked = ", ".join(f"{k} = {v}" for k, v in options.items() if k != "n_negatives")
    case = f"mine {n_negatives} of {size}{task.name}" + (f", {asked}" if asked else "")
    outcome = compare.run(
        case,
        contenders,
        {PEER: target},
        work={"pairs_per_s": len(task.queries) * len(task.documents)},
        check=partial(check, task),
        missing=MISSING,
    )
    peak = outcome.memory["tilefold"]
    others = [f"{name} {m.bytes / 1e6:,.0f}" for name, m in outcome.memory.items()][1:]
    compare.table.add(
        "memory of that",
        f"{peak.bytes / 1e6:,.1f} MB",
        peak.bytes / task.documents.nbytes,
        target=1,
        at_most=True,
        against="x the documents",
        peers=", ".join(others) or f"{PEER} missing",
    )


@pytest.fixture(scope="module")
def random_task(quick) -> Task:
    """Queries near their positive, documents in clusters, so that margins have work to do."""
    rng = np.random.default_rng(0)
    n, m, dim = (40, 2_000, 32) if quick else (QUERIES, 89_299, 384)
    centres = rng.standard_normal((m // 50, dim), dtype=np.float32)
    documents = centres[rng.integers(0, len(centres), m)]
    documents += rng.standard_normal((m, dim), dtype=np.float32)
    own = rng.choice(m, n, replace=False)
    queries = documents[own] + rng.standard_normal((n, dim), dtype=np.float32)
    for vectors in (queries, documents):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Task("", queries, documents, Lists(np.arange(n + 1), own))


@pytest.fixture(scope="module")
def real_task(pytestconfig, quick, tmp_path_factory) -> Task:
    """Cloze questions of lama_trex and the sentences that hold their answers."""
    corpus: Path = pytestconfig.getoption("--corpus")
    if not corpus.is_dir():
        pytest.skip(f"no corpus in {corpus}: name one with --corpus")
    n, cache = QUERIES, Path(__file__).resolve().parents[1] / "build" / "bench-cache"
    limit, seconds = None, pytestconfig.getoption("--encode-seconds")
    if quick:
        n, cache, limit, seconds = 64, tmp_path_factory.mktemp("mining"), 256, 0
    try:
        documents, queries, total = embed(corpus, cache, queries=n, seconds=seconds, limit=limit)
    except ImportError as error:
        pytest.skip(str(error))
    collection = read_beir(corpus)
    spread = np.linspace(0, len(collection.queries) - 1, n).astype(int)
    judged = collection.qrels
    found = [judged.ids[judged.offsets[q] : judged.offsets[q + 1]] for q in spread]
    found = [rows[rows < len(documents)] for rows in found]
    asked = [i for i, rows in enumerate(found) if len(rows)]
    positives = Lists(
        np.cumsum([0, *(len(found[i]) for i in asked)]), np.concatenate([found[i] for i in asked])
    )
    name = " of lama_trex" + ("" if len(documents) == total else f", {total:,} in all")
    return Task(name, queries[asked], documents, positives)


OPTIONS = [
    pytest.param({"n_negatives": 10}, id="hardest"),
    pytest.param({"n_negatives": 10, "range_max": 100, "relative_margin": 0.05}, id="margin"),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("options", OPTIONS)
def test_mining_vectors(compare, random_task, options):
    compare_miners(compare, random_task, options, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("options", OPTIONS)
def test_mining_real_embeddings(compare, real_task, options):
    compare_miners(compare, real_task, options, 5.0)
