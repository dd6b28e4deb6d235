"""Corpora that hit branches of search, the ways to search them, and how answers are compared."""

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilefold


def by_array(queries: Any, documents: np.ndarray, k: int, **options: Any) -> Any:
    """search(): few queries score every document, many go through the filter."""
    return tilefold.search(queries, documents, k, **options)


def by_index(queries: Any, documents: np.ndarray, k: int, **options: Any) -> Any:
    """FlatIndex: always through the filter, if there are enough documents."""
    index = tilefold.FlatIndex(documents.shape[1])
    index.add(documents)
    return index.search(queries, k, **options)


WAYS = pytest.mark.parametrize("way", [by_array, by_index])


def assert_same(found: Any, expected: Any) -> None:
    """The same bytes; the message shows where they differ."""
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
    assert np.asarray(found[0]).tobytes() == np.asarray(expected[0]).tobytes()


def gaussian(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def ties(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.integers(-1, 2, shape)


def near_ties(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Copies of one vector with one value moved by one unit in the last place."""
    vectors = np.repeat(rng.standard_normal((1, shape[1])), shape[0], axis=0).astype(np.float32)
    places = np.arange(shape[0]), rng.integers(0, shape[1], shape[0])
    vectors[places] = np.nextafter(vectors[places], rng.choice([-9, 9], shape[0]).astype("f4"))
    return vectors


def clusters(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    centres = rng.standard_normal((3, shape[1]))
    return centres[rng.integers(0, 3, shape[0])] + 1e-6 * rng.standard_normal(shape)


def one_outlier(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    vectors = rng.standard_normal(shape)
    vectors[shape[0] // 2 : shape[0] // 2 + 1] *= 1e30  # none of no rows
    return vectors


def outlier_dimension(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    vectors = rng.standard_normal(shape)
    vectors[:, shape[1] // 2] *= 1000
    return vectors


def rising(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.linspace(-1, 1, shape[0])[:, None] * np.abs(rng.standard_normal(shape[1]))


def mixed(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Magnitudes from subnormals to numbers whose products overflow fp32, upwards and downwards."""
    return rng.standard_normal(shape) * 10.0 ** rng.uniform(-45, 37, (shape[0], 1))


def cancelling(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Values that cancel: their sum is nothing but the rounding of fp64."""
    vectors = rng.uniform(1, 2, shape) * 10.0 ** rng.integers(-3, 12, shape)
    vectors[:, 1::2] = -vectors[:, : shape[1] // 2 * 2 : 2]
    return vectors


DATA: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "random": lambda rng, shape: rng.standard_normal(shape),
    "ties": ties,
    "near-ties": near_ties,
    "clusters": clusters,
    "cancelling": cancelling,
    "duplicates": lambda rng, shape: rng.standard_normal((5, shape[1]))[
        rng.integers(0, 5, shape[0])
    ],
    "all equal": lambda rng, shape: np.ones(shape),
    "rising": rising,
    "falling": lambda rng, shape: rising(rng, shape)[::-1],
    "one outlier": one_outlier,
    "an outlier dimension": outlier_dimension,
    "mixed magnitudes": mixed,
    "huge": lambda rng, shape: rng.standard_normal(shape) * 1e30,
    "overflowing": lambda rng, shape: rng.standard_normal(shape) * 1e38,
    "subnormal": lambda rng, shape: rng.standard_normal(shape) * 1e-41,
    "underflowing": lambda rng, shape: rng.standard_normal(shape) * 1e-23,
    "zero": lambda rng, shape: np.zeros(shape),
    "mostly zero": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.01),
    "signed zeros": lambda rng, shape: rng.choice([-0.0, 0.0, 1e-30, -1e-30], shape),
    "negative": lambda rng, shape: -np.abs(rng.standard_normal(shape)),
}


def make(kind: str, n: int, dim: int, seed: int = 0) -> np.ndarray:
    vectors = DATA[kind](np.random.default_rng([seed, dim]), (n, dim))
    return np.clip(vectors, -3.4e38, 3.4e38).astype(np.float32)


def inherited_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TILEFOLD_")}
    return kept | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
