"""tilefold beside numpy and faiss on the same vectors: how fast, and which ids differ, and why."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
IdArray = NDArray[np.int64]
Search = Callable[[Vectors, int], IdArray]

_ROUNDS = 5


class Race(NamedTuple):
    """What several searches took and answered."""

    seconds: dict[str, float]  # median
    ids: dict[str, IdArray]  # [n, k] each


class Differences(NamedTuple):
    """Places in a ranking where a peer has another id than tilefold, by the reason."""

    ties: int  # equal scores in fp32, for which the peer has no rule
    rounding: int  # scores closer to each other than the peer's fp32 sums are exact
    other: int  # neither: somebody is wrong


def peers(documents: Vectors) -> Iterator[tuple[str, Search]]:
    """(name, exact search) of numpy and, where it is installed, faiss; over [n, dim] documents."""
    yield "numpy", lambda queries, k: _search_numpy(queries, documents, k)
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return
    index = faiss.IndexFlatIP(documents.shape[1])
    index.add(documents)
    yield "faiss flat", lambda queries, k: index.search(queries, k)[1]


def _search_numpy(queries: Vectors, documents: Vectors, k: int) -> IdArray:
    scores = queries @ documents.T
    ids = np.argpartition(scores, -k, axis=1)[:, -k:]
    best = np.take_along_axis(scores, ids, 1)
    return np.take_along_axis(ids, np.lexsort((ids, -best)), 1)


def race(searches: Mapping[str, Search], queries: Vectors, k: int) -> Race:
    """Runs every search once unmeasured and then in turn, so that a noisy neighbour hits all."""
    answers = {name: search(queries, k) for name, search in searches.items()}
    taken: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(_ROUNDS):
        for name, search in searches.items():
            started = time.perf_counter()
            search(queries, k)
            taken[name].append(time.perf_counter() - started)
    return Race({name: median(times) for name, times in taken.items()}, answers)


def compare(ours: IdArray, theirs: IdArray, queries: Vectors, documents: Vectors) -> Differences:
    """Counts the places where two rankings [n, k] of the same documents differ."""
    rows, places = np.nonzero(ours != theirs)
    query = queries[rows].astype(np.float64)
    mine, rival = (documents[ids[rows, places]].astype(np.float64) for ids in (ours, theirs))
    score, rival_score = np.einsum("ij,ij->i", query, mine), np.einsum("ij,ij->i", query, rival)
    tied = score.astype(np.float32) == rival_score.astype(np.float32)
    # A sum of dim products in fp32 errs by at most dim * 2**-24 * |q||x|, and there are two.
    lengths = np.linalg.norm(mine, axis=1) + np.linalg.norm(rival, axis=1)
    margin = queries.shape[1] * 2.0**-24 * np.linalg.norm(query, axis=1) * lengths
    rounded = ~tied & (np.abs(score - rival_score) <= margin)
    return Differences(int(tied.sum()), int(rounded.sum()), int((~tied & ~rounded).sum()))
