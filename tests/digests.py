"""Computes digests of searches, which are the same on every machine, row and compiler.

    python tests/digests.py            # compares them with digests.json
    python tests/digests.py --write    # after a change of what an answer is

Inputs come from the raw output of a PCG64 generator and exact arithmetic, so that they do not
depend on versions of NumPy or libm either.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tilefold
from tilefold import _native
from tilefold.arrays import BFLOAT16_BITS

EXPECTED = Path(__file__).with_suffix(".json")


def numbers(seed: int, *shape: int) -> np.ndarray:
    """Sums of four 16-bit integers, about normal with deviation 1, exact in fp32."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    sums = raw.view(np.uint16).reshape(-1, 4).astype(np.int64).sum(axis=1) - 2 * 65535
    return (sums.astype(np.float32) * np.float32(2.0**-15)).reshape(shape)


def documents_of(seed: int, m: int, dim: int) -> np.ndarray:
    """Documents with repeated rows, a row of zeros, and an outlier dimension."""
    x = numbers(seed, m, dim)
    x[::7] = x[0]
    x[m // 2] = 0
    x[:, dim // 3] *= np.float32(16)
    return x


def as_dtype(x: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return (x.view(np.uint32) >> 16).astype(np.uint16).view(BFLOAT16_BITS)
    if dtype == "int8":
        return np.clip(np.rint(x * 32), -127, 127).astype(np.int8)
    return x.astype(dtype)


def digest_of(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def searches() -> dict[str, str]:
    """`search`, by dimensions and scale, for batches of every size and any number of threads."""
    found = {}
    for dim, m, k, scale in [
        (1, 50, 3, 0),
        (17, 3000, 10, -60),
        (64, 9000, 100, 0),
        (384, 700, 10, 90),
    ]:
        documents = documents_of(dim, m, dim) * np.float32(2.0**scale)
        queries = numbers(1, 300, dim)
        index = tilefold.FlatIndex(dim)
        index.add(documents)
        answers = {digest_of(*tilefold.search(queries, documents, k))}
        for batch, threads in ((1, 2), (64, 1), (300, 2)):
            parts = [
                index.search(queries[i : i + batch], k, num_threads=threads)
                for i in range(0, 300, batch)
            ]
            answers.add(digest_of(*(np.concatenate(part) for part in zip(*parts, strict=True))))
        if len(answers) != 1:
            raise AssertionError(
                f"dim {dim}: threads, batches or the index changed bits: {answers}"
            )
        found[f"search dim={dim} scale=2^{scale}"] = answers.pop()
    return found


def dtypes() -> dict[str, str]:
    queries, documents = numbers(2, 40, 96), documents_of(3, 2000, 96)
    return {
        f"search {dtype}": digest_of(
            *tilefold.search(as_dtype(queries, dtype), as_dtype(documents, dtype), 20)
        )
        for dtype in ("float16", "bfloat16", "int8")
    }


def metrics() -> dict[str, str]:
    """Every metric, with filters, and every hit of a range."""
    queries, documents = numbers(4, 40, 48), documents_of(5, 2500, 48)
    found = {}
    for metric, bound in (("ip", 20.0), ("cosine", 0.4), ("l2", 70.0)):
        index = tilefold.FlatIndex(48, metric=metric)
        index.add(documents)
        index.remove(np.arange(0, 2500, 11))
        found[f"{metric} search"] = digest_of(*index.search(queries, 12))
        allowed = np.arange(1, 2500, 3)
        exclude = [[i, i + 1, 8 * i] for i in range(40)]
        some = index.search(queries, 12, allowed=allowed, exclude=exclude)
        found[f"{metric} filtered"] = digest_of(*some)
        limit = {"max_score": bound} if metric == "l2" else {"min_score": bound}
        found[f"{metric} range"] = digest_of(*index.range_search(queries, **limit))
    return found


def digests() -> dict[str, str]:
    """Returns a digest for each search, with the row in use."""
    return searches() | dtypes() | metrics()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace digests.json")
    found = digests()
    if parser.parse_args().write:
        EXPECTED.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return 0
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    row = next(row["name"] for row in _native.rows() if row["in_use"])
    differing = [name for name in expected | found if expected.get(name) != found.get(name)]
    print(f"digests: row {row}: {len(found) - len(differing)} of {len(expected)} as expected")
    for name in differing:
        print(f"  {name}: {found.get(name)}, expected {expected.get(name)}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
