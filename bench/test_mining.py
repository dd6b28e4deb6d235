"""Hard negatives against `mine_hard_negatives` of sentence-transformers, embeddings given.

Sentences of lama_trex where they were encoded, else vectors that are as alike. Everybody mines for
the same queries and positives, and must find the same negatives up to the rounding of fp32.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from embeddings import embed
from peers import optional

from tilefold.data import read_beir
from tilefold.mining import Mined, mine
from tilefold.ragged_lists import Lists

QUERIES = 5_000
PEER = "sentence-transformers"


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
        import torch

        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        import torch

        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(dim=1)


def peers(task: Task, options: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Every way in which the peer searches; none if it is not installed."""
    datasets, theirs = optional("datasets"), optional("sentence_transformers.util")
    if datasets is None or theirs is None:
        return {}
    numbers = [rows.astype(str).tolist() for rows in (task.positives.owners(), task.positives[1])]
    mined = partial(
        theirs.mine_hard_negatives,
        datasets.Dataset.from_dict(dict(zip(("query", "positive"), numbers, strict=True))),
        Given(task),
        corpus=np.arange(len(task.documents)).astype(str).tolist(),
        output_format="labeled-list",
        verbose=False,
        **{"num_negatives" if name == "n_negatives" else name: v for name, v in options.items()},
    )
    found: dict[str, Callable[[], Any]] = {PEER: mined}
    if optional("faiss"):
        found[f"{PEER} faiss"] = partial(mined, use_faiss=True)
    return found


def check(task: Task, name: str, ours: Mined, dataset: Any) -> int:
    """Negatives that differ: near-ties in rank, or a near-tie with a margin, which shifts a list.

    With a margin the peer looks no deeper than its own `range_max`, so its lists may end early.
    """
    found: dict[int, list[int]] = {}
    for query, texts in zip(dataset["query"], dataset["positive"], strict=True):
        found[int(query)] = [int(text) for text in texts[1:]]
    offsets, rows = ours.negatives
    scores = partial(np.einsum, "d,nd->n")
    off, shifted = 0, 0
    for query, (begin, end) in enumerate(itertools.pairwise(offsets)):
        peers = np.array(found.get(query, []), np.int64)
        own = rows[begin:end][: len(peers)]
        if np.array_equal(own, peers):
            continue
        one, other = (scores(task.queries[query], task.documents[d]) for d in (own, peers))
        shifted += len(one) != len(other) or bool(np.abs(one - other).max() > 1e-5)
        off += len(np.setdiff1d(own, peers))
    assert shifted <= len(task.queries) // 500, f"{name}: {shifted} queries have other negatives"
    return off


def compare_miners(compare: Any, task: Task, options: dict[str, Any], target: float) -> None:
    others = peers(task, options)
    asked = [f"{name} = {value}" for name, value in options.items() if name != "n_negatives"]
    size = f"{len(task.queries):,} x {len(task.documents):,} {task.name}"
    ours = partial(mine, task.queries, task.documents, task.positives, **options)
    outcome = compare.run(
        ", ".join([f"mine {options['n_negatives']} of {size}", *asked]),
        {"tilefold": ours, **others},
        {PEER: target},
        work={"pairs_per_s": len(task.queries) * len(task.documents)},
        check=partial(check, task),
        missing=() if others else (PEER,),
    )
    peak = outcome.memory["tilefold"]
    theirs = [f"{name} {outcome.memory[name].bytes / 1e6:,.0f}" for name in others]
    compare.table.add(
        "memory of that",
        f"{peak.bytes / 1e6:,.1f} MB",
        peak.bytes / task.documents.nbytes,
        target=1,
        at_most=True,
        against="x the documents",
        peers=", ".join(theirs) or f"{PEER} missing",
    )


def like_sentences(n: int, m: int, dim: int) -> Task:
    """Queries near their positive, documents in clusters, so that margins have work to do."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((m // 50, dim), dtype=np.float32)
    documents = centres[rng.integers(0, len(centres), m)]
    documents += rng.standard_normal((m, dim), dtype=np.float32)
    own = rng.choice(m, n, replace=False)
    queries = documents[own] + rng.standard_normal((n, dim), dtype=np.float32)
    for vectors in (queries, documents):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Task("random", queries, documents, Lists(np.arange(n + 1), own))


def sentences(corpus: Path, seconds: float) -> Task:
    """Cloze questions of lama_trex, and the sentences that hold their answers."""
    cache = Path(__file__).resolve().parents[1] / "build" / "bench-cache"
    documents, queries, total = embed(corpus, cache, queries=QUERIES, seconds=seconds)
    collection = read_beir(corpus)
    judged = collection.qrels
    spread = np.linspace(0, len(collection.queries) - 1, QUERIES).astype(int)
    found = [judged.ids[judged.offsets[q] : judged.offsets[q + 1]] for q in spread]
    found = [rows[rows < len(documents)] for rows in found]
    asked = [i for i, rows in enumerate(found) if len(rows)]
    rows = [found[i] for i in asked]
    name = "of lama_trex" + ("" if len(documents) == total else f", {total:,} in all")
    positives = Lists(np.cumsum([0, *map(len, rows)]), np.concatenate(rows))
    return Task(name, queries[asked], documents, positives)


@pytest.fixture(scope="module")
def task(pytestconfig, quick) -> Task:
    if quick:
        return like_sentences(40, 2_000, 32)
    corpus: Path = pytestconfig.getoption("--corpus")
    try:
        if corpus.is_dir():
            return sentences(corpus, pytestconfig.getoption("--encode-seconds"))
    except ImportError:
        pass  # no encoder here
    return like_sentences(QUERIES, 89_299, 384)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"n_negatives": 10}, id="hardest"),
        pytest.param({"n_negatives": 10, "relative_margin": 0.05}, id="margin"),
    ],
)
def test_mining(compare, task, options):
    compare_miners(compare, task, options, 5.0)
