"""Documents and queries to search: random ones, ones like those of common encoders, real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from embeddings import CACHE, CORPUS, QUERIES, embed
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Vectors(NamedTuple):
    """``documents [m, dim]`` and ``queries [n, dim]``."""

    documents: Floats
    queries: Floats


def random_vectors(rows: int = 200_000, dim: int = 768) -> Vectors:
    """Draws unit vectors in random directions."""
    rng = np.random.default_rng(0)
    found = []
    for n in (rows, 512):
        vectors = rng.standard_normal((n, dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found.append(vectors)
    return Vectors(*found)


def clustered_vectors(
    rows: int = 100_000, dim: int = 768, *, mean_cosine: float = 0.7, clusters: int = 2000
) -> Vectors:
    """Draws unit vectors around centres, with a power law of variances in a random basis.

    A mean cosine of 0.7 and such a spectrum are those of e5 and bge.
    """
    rng = np.random.default_rng(3)
    variances = np.arange(1, dim + 1) ** -0.9
    spread = np.sqrt(variances / variances.sum())
    centres = rng.standard_normal((clusters, dim)) * spread
    basis = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    found = np.empty((rows + 512, dim), np.float32)
    for begin in range(0, len(found), 8192):
        some = found[begin : begin + 8192]
        own = centres[rng.integers(clusters, size=len(some))] * np.sqrt(0.4)
        own += rng.standard_normal((len(some), dim)) * spread * np.sqrt(0.6)
        own *= np.sqrt(1 - mean_cosine) / np.linalg.norm(own, axis=1, keepdims=True)
        own[:, -1] += np.sqrt(mean_cosine)
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        some[:] = own @ basis
    return Vectors(found[:rows], found[rows:].copy())


def real_vectors(rows: int | None = None) -> Vectors:
    """Returns the embeddings that were kept; `make bench-data` encodes all of them.

    Raises:
        FileNotFoundError: there are no texts.
    """
    found = embed(CORPUS, CACHE, queries=QUERIES, seconds=0)
    return Vectors(found.documents[:rows], spread_rows(found.queries))


def spread_rows(vectors: Floats, n: int = 512) -> Floats:
    """Returns n rows, evenly spread; fewer if there are fewer."""
    return np.ascontiguousarray(vectors[:: max(1, len(vectors) // n)][:n])


# By name: functions of the number of documents, which have a default.
CORPORA: dict[str, Callable[..., Vectors]] = {
    "real": real_vectors,
    "common-mean": clustered_vectors,
    "random": random_vectors,
}
