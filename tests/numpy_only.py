"""Searches NumPy arrays with nothing but the core dependencies installed.

    python tests/numpy_only.py [none | compiled]    # the CUDA kernels that are expected

Run by `make check-numpy-only` and on every wheel, so it uses neither pytest nor the reference: the
vectors hold small integers, whose inner products float32 computes exactly, ties included.
"""

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np

import tilefold

EXTRAS = (
    *("torch", "transformers", "hnswlib", "faiss", "bm25s", "sklearn", "tqdm", "yaml"),
    *("ir_datasets", "filelock"),
)


def expected(queries: np.ndarray, documents: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorts all scores: highest first, ties by id."""
    scores = queries @ documents.T
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, ids, axis=1), ids


def main() -> None:
    """Raises AssertionError, naming the first search that is wrong."""
    present = [name for name in EXTRAS if importlib.util.find_spec(name) is not None]
    assert not present, f"this environment is meant to have no extras, but has {present}"
    kernels = tilefold._native.CUDA
    assert kernels == (sys.argv[1:] or [kernels])[0], f"CUDA kernels are {kernels}"

    rng = np.random.default_rng(0)
    for dim, n_documents, k in [(1, 5, 5), (17, 300, 1), (64, 1000, 10), (384, 3000, 100)]:
        documents = rng.integers(-3, 4, (n_documents, dim)).astype(np.float32)
        queries = rng.integers(-3, 4, (33, dim)).astype(np.float32)
        scores, ids = expected(queries, documents, k)

        found = tilefold.search(queries, documents, k)
        np.testing.assert_array_equal(found.ids, ids)
        np.testing.assert_array_equal(found.scores, scores)

        index = tilefold.FlatIndex(dim)
        index.add(documents)
        found = index.search(queries[0], k)
        np.testing.assert_array_equal(found.ids, ids[0])
        np.testing.assert_array_equal(found.scores, scores[0])

    found = tilefold.search(queries, documents[:2], 3)
    assert (found.ids[:, 2] == -1).all(), found.ids
    assert (found.scores[:, 2] == -np.inf).all(), found.scores

    subprocess.run([Path(sysconfig.get_path("scripts")) / "tilefold", "doctor"], check=True)
    loaded = [name for name in EXTRAS if name in sys.modules]
    assert not loaded, f"tilefold imported {loaded}"
    print(f"tilefold {tilefold.__version__} searches NumPy arrays without its extras")


if __name__ == "__main__":
    main()
