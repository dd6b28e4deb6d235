"""Small indexes to save, and what tests of saving compare: answers, bytes and names of files."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np

from tilefold import FlatIndex

DIM = 24
DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
}


def vectors(n: int, dim: int = DIM, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return (40 * rows if dtype == "int8" else rows).astype(DTYPES[dtype])


def filled(n: int = 500, seed: int = 0, dtype: str = "float32", ids=None) -> FlatIndex:
    index = FlatIndex(DIM)
    index.add(vectors(n, seed=seed, dtype=dtype), ids)
    return index


def answers(index: FlatIndex, dtype: str = "float32") -> bytes:
    found = index.search(vectors(5, seed=99, dtype=dtype), 20)
    return found.scores.tobytes() + found.ids.tobytes() + index.ids.tobytes()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def named_files(folder: Path) -> set[str]:
    """The files of an index: its manifest, and those that the manifest names."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return {"manifest.json", *(entry["name"] for entry in manifest["files"].values())}


def segmented(dtype: str) -> FlatIndex:
    index = filled(3000, dtype=dtype)
    index.add(vectors(900, seed=1, dtype=dtype))
    index.add(vectors(90, seed=2, dtype=dtype), np.arange(10_000, 10_090)[::-1])
    assert len(index._store.content.segments) == 3
    return index


def with_removed(dtype: str) -> FlatIndex:
    index = segmented(dtype)
    index.remove(index.ids[::3])
    return index
