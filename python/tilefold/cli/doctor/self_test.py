"""Searches adversarial data, and compares results with the reference byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tilefold

from ... import reference

Vectors = NDArray[np.generic]


def run_self_test() -> tuple[int, str | None]:
    """Searches adversarial data on the row in use, and compares the bytes with the reference.

    Returns:
        The number of searches, and a description of the first wrong one or None.
    """
    searches = 0
    for name, queries, documents in _cases():
        for k in (1, 10, len(documents) + 3):
            expected = reference.search(queries, documents, k)
            for search in (_search, _search_index):
                searches += 1
                if not _same_bytes(search(queries, documents, k), expected):
                    return searches, f"{name}, dim {queries.shape[1]}, k {k}"
    return searches, None


def _search(queries: Vectors, documents: Vectors, k: int) -> Any:
    return tilefold.search(queries, documents, k)


def _search_index(queries: Vectors, documents: Vectors, k: int) -> Any:
    index = tilefold.FlatIndex(documents.shape[1])
    index.add(documents)
    return index.search(queries, k)


def _same_bytes(found: Any, expected: Any) -> bool:
    return all(
        np.asarray(mine).dtype == truth.dtype and np.asarray(mine).tobytes() == truth.tobytes()
        for mine, truth in zip(found, expected, strict=True)
    )


def _cases() -> Iterator[tuple[str, Vectors, Vectors]]:
    """Yields names, queries ``[5, dim]`` and documents ``[n, dim]``.

    Dims are around every vector width.
    """
    rng = np.random.default_rng(0)
    for dim in (1, 7, 16, 33, 64, 65, 384):
        plain = rng.standard_normal((300, dim)).astype(np.float32)
        queries = rng.standard_normal((5, dim)).astype(np.float32)
        yield "random values", queries, plain
        yield "ties", np.round(queries), np.round(plain)
        near = np.repeat(plain[:1], 300, axis=0)
        near[::2] = np.nextafter(near[::2], np.float32(np.inf))
        yield "values one bit apart", queries, near
        outlier = plain.copy()
        outlier[:, 0] *= 1000
        yield "an outlier dimension", queries, outlier
        norms = np.exp2(rng.integers(-60, 60, (300, 1))).astype(np.float32)
        yield "huge and tiny norms", queries, plain * norms
        yield "subnormal values", queries, plain * np.float32(1e-42)
        yield "zeros", queries, np.zeros_like(plain)
        yield "float16", queries.astype(np.float16), plain.astype(np.float16)
        small = rng.integers(-128, 128, (2, 300, dim)).astype(np.int8)
        yield "int8", small[0, :5], small[1]
