"""Fuzzes exact search over exponents: every answer is compared with the reference, bit for bit.

    python tests/fuzz_search.py --seconds 120

Vectors have norms from 1e-45 to 1e38 on either side; every row of the table that this machine has
searches every case, as arrays and as indexes, with filters. Every run draws a new seed and prints
it; `--seed S --case C` repeats one case.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tilefold
from tilefold import _native, reference

Generator = np.random.Generator
LARGEST = float(np.finfo(np.float32).max)


@dataclass
class Case:
    """Queries, documents, and the filters as the reference and as the library take them."""

    queries: np.ndarray
    documents: np.ndarray
    k: int
    options: dict[str, Any] = field(default_factory=dict)
    meaning: dict[str, Any] = field(default_factory=dict)


def draw_case(rng: Generator) -> Case:
    n, m, dim = draw_sizes(rng)
    dtype = rng.choice(["float32", "float32", "float32", "float16", "int8"])
    queries, documents = draw_vectors(rng, n, dim), draw_vectors(rng, m, dim)
    if rng.random() < 0.2:  # near the documents, so that many bounds are close to the threshold
        queries = documents[rng.integers(0, m, n)] * rng.choice([1, -1, 2.0**-20], (n, 1))
    if rng.random() < 0.2:  # a common mean
        documents = documents + rng.standard_normal((1, dim)) * np.abs(documents).max(initial=0)
    if rng.random() < 0.2:  # ties
        documents = documents[rng.integers(0, max(1, m // 4), m)]
    case = Case(as_dtype(queries, dtype), as_dtype(documents, dtype), draw_k(rng, m))
    draw_filters(rng, case)
    return case


def draw_sizes(rng: Generator) -> tuple[int, int, int]:
    if rng.random() < 0.003:  # enough work for several threads and ranges
        return int(rng.integers(1, 5)), 12_000, 64
    if rng.random() < 0.01:  # enough blocks for a sample
        return int(rng.choice([16, 40])), int(rng.integers(2048, 4000)), int(rng.integers(19, 40))
    dim = 768 if rng.random() < 0.02 else int(rng.integers(1, 65))
    return int(rng.choice([1, 3, 16, 40])), int(rng.integers(1, 200)), dim


def draw_k(rng: Generator, m: int) -> int:
    """Mostly few enough answers for the filter to run."""
    return int(rng.integers(1, max(2, m // 4))) if rng.random() < 0.9 else m + 1


def draw_vectors(rng: Generator, rows: int, dim: int) -> np.ndarray:
    x = rng.standard_normal((rows, dim))
    low, high = np.sort(rng.integers(-150, 129, 2))
    shape = [(rows, 1), (rows, 1), (1, 1), (rows, dim)][rng.integers(4)]
    x = x * np.exp2(rng.integers(low, high, shape, endpoint=True).astype(np.float64))
    if rng.random() < 0.2:
        x[rng.random(x.shape) < 0.5] = 0
    if rng.random() < 0.1:  # one dimension carries everything
        x[:, rng.integers(dim)] *= 2.0**30
    return np.clip(x, -LARGEST, LARGEST)


def as_dtype(x: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "int8":
        return np.clip(np.rint(x), -128, 127).astype(np.int8)
    top = float(np.finfo(dtype).max)
    return np.clip(x, -top, top).astype(dtype)


def draw_filters(rng: Generator, case: Case) -> None:
    n, m = len(case.queries), len(case.documents)
    scores = reference.canonical_scores(case.queries, case.documents)
    for name in ("min_score", "max_score"):
        if rng.random() < 0.3:
            levels = np.quantile(scores, rng.random(n), method="nearest").astype(np.float32)
            if rng.random() < 0.3:
                levels = np.full(n, rng.choice([0.0, 0.5, -1e-40, 1e-42, 1e30]), np.float32)
            case.options[name] = case.meaning[name] = levels
    if rng.random() < 0.3:
        mask = rng.random(m) < rng.choice([0.02, 0.5, 1])
        case.options["allowed"] = case.meaning["allowed"] = mask
    if rng.random() < 0.3:
        excluded = rng.random((n, m)) < rng.choice([0.05, 0.5])
        case.options["exclude"] = [np.flatnonzero(row) for row in excluded]
        case.meaning["excluded"] = excluded


def answers(case: Case, threads: int) -> Iterator[tuple[str, Any]]:
    """The answers of every way to search, by name."""
    options = {**case.options, "num_threads": threads, "return_certificate": True}
    yield "array", tilefold.search(case.queries, case.documents, case.k, **options)
    index = tilefold.FlatIndex(case.documents.shape[1])
    half = len(case.documents) // 2
    for part in (case.documents[:half], case.documents[half:]):
        index.add(part)
    yield "index", index.search(case.queries, case.k, **options)


def check(case: Case, rows: list[str], threads: int) -> int:
    """Compares all answers with the reference; returns the number of searches, one per query."""
    scores, ids = reference.search(case.queries, case.documents, case.k, **case.meaning)
    searches = 0
    for row in rows:
        os.environ["TILEFOLD_ISA"] = row
        for way, found in answers(case, threads):
            bits, right = found.scores.view(np.uint32), scores.view(np.uint32)
            wrong = (found.ids != ids).any(1) | (bits != right).any(1)
            if wrong.any() or not found.certificate.holds:
                q = int(np.argmax(wrong))
                raise AssertionError(
                    f"{way} on the {row} row, query {q}, k {case.k}: found {found.ids[q]} "
                    f"{found.scores[q]}, expected {ids[q]} {scores[q]}, "
                    f"certificate holds: {found.certificate.holds}"
                )
            searches += len(case.queries)
    return searches


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="how long (default: 120)")
    parser.add_argument("--searches", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=None, help="by default a new one")
    parser.add_argument("--case", type=int, default=None, help="run this case alone")
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    rows = [row["name"] for row in _native.rows() if row["supported"]]
    print(f"fuzz_search: seed {seed}, rows {', '.join(rows)}", flush=True)
    warnings.simplefilter("error")
    end, searches, case = time.monotonic() + arguments.seconds, 0, arguments.case or 0
    while time.monotonic() < end and searches < arguments.searches:
        rng = np.random.default_rng([seed, case])
        try:
            searches += check(draw_case(rng), rows, threads=int(rng.integers(1, 3)))
        except Exception as error:
            print(f"fuzz_search: seed {seed}, case {case}: {type(error).__name__}: {error}")
            return 1
        case += 1
        if arguments.case is not None:
            break
    print(f"fuzz_search: {searches:,} searches in {case:,} cases equal the reference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
