"""Fuzzes the border between Python and C++: any arrays give a result or a ValueError or TypeError.

    python tests/fuzz_border.py --seconds 60

Arguments of every function are right at first; some are then made wrong in dtype, shape, order,
memory (misaligned, read-only, not contiguous, shared), device or value, or are left out. A process
that crashes or aborts, another exception, or an id out of range is a fault. Every run draws a new
seed and prints it; `--seed S --case C` repeats one case. Under AddressSanitizer, memory that is
read or written beside an array is a crash as well.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import secrets
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import tilefold
from tilefold import _native

Generator = np.random.Generator
Arguments = dict[str, Any]
FLOATS = ["f4", "f4", "f4", "f2", "u2"]  # u2: bits of bfloat16
DTYPES = ["f4", "f8", "f2", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?", "c8", "O", "S3"]
NUMBERS = [0, 1, -1, 2, 7, 31, 32, 33, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63)]
STRANGERS = [None, 3, 1.5, "text", [], [1, 2], [[1.0]], {}, object(), np.float32(1), b"bytes"]


# ---- right arguments -----------------------------------------------------------------------------


def vectors(rng: Generator, rows: int, dim: int, dtype: str) -> np.ndarray:
    x = rng.standard_normal((rows, dim)).astype(np.float32)
    x *= np.float32(2.0) ** rng.integers(-20, 20)
    if dtype == "u2":
        return (x.view(np.uint32) >> 16).astype(np.uint16)
    return np.clip(x, -127, 127).astype(dtype)


def sizes(rng: Generator) -> tuple[int, int, int]:
    n, m = (int(rng.choice([0, 1, 2, 5, 33, 70])) for _ in range(2))
    return n, m, int(rng.choice([1, 2, 7, 8, 9, 33, 64]))


def offsets(rng: Generator, n: int, total: int) -> np.ndarray:
    inner = np.sort(rng.integers(0, total, max(0, n - 1), endpoint=True))
    return np.concatenate([[0], inner, [total]] if n else [[0]]).astype(np.int64)


def lists(rng: Generator, n: int, m: int, least: int) -> tuple[np.ndarray, np.ndarray]:
    rows = [
        np.sort(rng.choice(m, int(rng.integers(min(least, m), min(m, 3) + 1)), replace=False))
        for _ in range(n)
    ]
    begin = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return begin, np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)


def packed(rng: Generator, documents: np.ndarray) -> Arguments:
    rows, dim = documents.shape
    blocks = -(-rows // 32)
    return {
        "codes": np.zeros((blocks, -(-dim // 8) * 2, 32, 4), np.uint8),
        "bounds": np.zeros((blocks, 4, 32), np.float32),
    }


def search_arguments(rng: Generator) -> Arguments:
    n, m, dim = sizes(rng)
    k, dtype = int(rng.choice([1, 3, 50])), str(rng.choice([*FLOATS, "i1"]))
    documents = vectors(rng, m, dim, dtype)
    blocks = -(-m // 32)
    arguments: Arguments = {
        "queries": vectors(rng, n, dim, dtype),
        "documents": documents,
        "scores": np.full((n, k), -np.inf, np.float32),
        "ids": np.full((n, k), -1, np.int64),
        "k": k,
    }
    if rng.random() < 0.6:
        arguments |= packed(rng, documents)
        if rng.random() < 0.7:
            finite = np.zeros(blocks, np.uint32)
            _native.pack(documents, arguments["codes"], arguments["bounds"], finite)
        if rng.random() < 0.3:
            arguments["direction"] = np.eye(1, dim, dtype=np.float32)[0]
    options: Arguments = {
        "document_ids": rng.permutation(10 * m + 1)[:m],
        "first_id": int(rng.integers(0, 100)),
        "allowed": rng.integers(0, 2**32, blocks, dtype=np.uint32),
        "min_score": rng.standard_normal(n).astype(np.float32),
        "max_score": rng.standard_normal(n).astype(np.float32),
        "refined": np.zeros(n, np.int64),
        "pruned_bound": np.full(n, -np.inf, np.float32),
        "num_threads": int(rng.integers(0, 4)),
    }
    if rng.random() < 0.5:
        total = int(rng.integers(0, 20))
        arguments["exclude_offsets"] = offsets(rng, n, total if n else 0)
        arguments["exclude_ids"] = rng.integers(0, m + 1, total if n else 0)
    return arguments | {name: value for name, value in options.items() if rng.random() < 0.5}


def pack_arguments(rng: Generator) -> Arguments:
    _, m, dim = sizes(rng)
    documents = vectors(rng, m, dim, str(rng.choice([*FLOATS, "i1"])))
    blocks = -(-m // 32)
    return {
        "documents": documents,
        **packed(rng, documents),
        "finite": np.zeros(blocks, np.uint32),
        "radius_sum": np.zeros(blocks),
        "direction": np.eye(1, dim, dtype=np.float32)[0],
        "rotate": bool(rng.random() < 0.5),
    }


def score_arguments(rng: Generator) -> Arguments:
    n, m, dim = sizes(rng)
    columns = int(rng.integers(0, 5)) if m else 0
    return {
        "queries": vectors(rng, n, dim, str(rng.choice(FLOATS))),
        "documents": vectors(rng, m, dim, str(rng.choice(FLOATS))),
        "rows": rng.integers(0, max(m, 1), (n, columns)),
        "scores": np.zeros((n, columns), np.float32),
        "canonical": bool(rng.random() < 0.5),
    }


def finite_arguments(rng: Generator) -> Arguments:
    _, m, dim = sizes(rng)
    x = vectors(rng, m, dim, str(rng.choice([*FLOATS, "i1"])))
    return {"vectors": x, "finite": np.zeros(m, np.uint8)}


def statistics_arguments(rng: Generator) -> Arguments:
    n, m, width = sizes(rng)
    return {
        "x": vectors(rng, m, width, str(rng.choice(FLOATS))),
        "rows": rng.integers(0, max(m, 1), n if m else 0),
        "count": np.zeros(1, np.int64),
        "mean": np.zeros(width),
        "m2": np.zeros(width),
        "least": np.full(width, np.inf, np.float32),
        "most": np.full(width, -np.inf, np.float32),
        "thresholds": np.zeros(2, np.float32),
        "above": np.zeros((2, width), np.int64),
        "histogram": np.zeros((width, 513), np.int64),
    }


def examples_arguments(rng: Generator) -> Arguments:
    n, m, width = sizes(rng)
    n_rows, k = int(rng.integers(0, 20)) if m and n else 0, int(rng.integers(1, 4))
    return {
        "x": vectors(rng, m, width, str(rng.choice(FLOATS))),
        "rows": rng.integers(0, max(m, 1), n_rows),
        "offsets": offsets(rng, n, n_rows),
        "numbers": rng.integers(0, 1000, n),
        "values": np.full((width, k), -np.inf, np.float32),
        "examples": np.full((width, k), -1, np.int64),
    }


def second_moment_arguments(rng: Generator) -> Arguments:
    n, m, width = sizes(rng)
    return {
        "x": vectors(rng, m, width, str(rng.choice(FLOATS))),
        "rows": rng.integers(0, max(m, 1), n if m else 0),
        "sums": np.zeros((width, width)),
    }


def contrastive_arguments(rng: Generator) -> Arguments:
    n, m, dim = sizes(rng)
    m, dtype = max(m, 1), str(rng.choice(["f4", "f4", "u2", "f8"]))
    begin, positives = lists(rng, n, m, 1)
    wide = np.float64 if dtype == "f8" else np.float32
    arguments: Arguments = {
        "queries": vectors(rng, n, dim, dtype),
        "documents": vectors(rng, m, dim, dtype),
        "positive_offsets": begin,
        "positives": positives,
        "query_losses": np.zeros(n),
        "scale": float(rng.choice([0.1, 1, 20])),
        "query_weights": np.ones(n),
        "grad_queries": np.zeros((n, dim), wide),
        "grad_documents": np.zeros((m, dim), wide),
        "num_threads": int(rng.integers(0, 4)),
    }
    if rng.random() < 0.4:
        arguments |= {"document_losses": np.zeros(m), "document_weights": np.ones(m)}
    if rng.random() < 0.4:
        names = ("exclude_offsets", "excluded")
        arguments |= dict(zip(names, lists(rng, n, m, 0), strict=True))
    if rng.random() < 0.4:
        groups = int(rng.integers(1, 4))
        begin, ids = lists(rng, groups, m, 0)
        arguments |= {
            "groups": rng.integers(0, groups, n),
            "group_offsets": begin,
            "group_ids": ids,
            "document_ids": rng.integers(0, m, m),
        }
    if rng.random() < 0.3:
        arguments |= {
            "gate_queries": vectors(rng, n, 3, dtype),
            "gate_documents": vectors(rng, m, 3, dtype),
        }
    return arguments


def divergence_arguments(rng: Generator) -> Arguments:
    n, m, dim = (max(1, size) for size in sizes(rng))
    views, dtype = int(rng.integers(1, 4)), str(rng.choice(["f4", "f4", "u2", "f8"]))
    wide = np.float64 if dtype == "f8" else np.float32
    first = bool(rng.random() < 0.7)
    arguments: Arguments = {
        "op": "fuzz",
        "views": [
            (
                vectors(rng, n, dim, dtype),
                vectors(rng, m, dim, dtype),
                np.zeros((n, dim), wide),
                np.zeros((m, dim), wide),
                1.0,
                f" of view {view}",
            )
            for view in range(views)
        ],
        "divergences": np.zeros((views, n)),
        "masses": np.zeros(n),
        "variances": np.zeros(n),
        "weights": np.ones((views, n)),
        "reference": int(rng.integers(-1, views)),
        "mixture_first": first,
    }
    for names in (("exclude_offsets", "excluded"), ("listed_offsets", "listed")):
        if rng.random() < 0.4 and (first or names[0] != "listed_offsets"):
            arguments |= dict(zip(names, lists(rng, n, m, 0), strict=True))
    return arguments


def tile_arguments(rng: Generator) -> Arguments:
    dim, n = 8 * int(rng.integers(1, 9)), int(rng.integers(1, 5))
    return {
        "codes": rng.integers(0, 256, (dim // 4, 32, 4)).astype(np.uint8),
        "queries": rng.integers(-63, 64, (dim // 4, n, 4)).astype(np.int8),
        "products": np.zeros((n, 32), np.int32),
    }


# ---- public functions ----------------------------------------------------------------------------


def public_arguments(rng: Generator) -> Arguments:
    n, m, dim = sizes(rng)
    dtype = str(rng.choice(["f4", "f2", "i1"]))
    options: Arguments = {
        "allowed": rng.integers(0, m + 1, 5) if rng.random() < 0.5 else rng.random(m) < 0.5,
        "exclude": lists(rng, n, max(m, 1), 0),
        "min_score": float(rng.standard_normal()),
        "max_score": rng.standard_normal(n).astype(np.float32),
        "num_threads": int(rng.integers(1, 4)),
        "nonfinite": "exclude",
    }
    return {
        "queries": vectors(rng, n, dim, dtype),
        "documents": vectors(rng, m, dim, dtype),
        "k": int(rng.choice([1, 3, 50])),
    } | {name: value for name, value in options.items() if rng.random() < 0.4}


def search_array(**arguments: Any) -> None:
    check_ids(tilefold.search(**arguments), len(arguments["documents"]))


def search_index(queries: Any, documents: Any, k: Any, **options: Any) -> None:
    index = tilefold.FlatIndex(np.shape(documents)[-1] if np.ndim(documents) else 4)
    index.add(documents, nonfinite="exclude")
    check_ids(index.search(queries, k, **options), len(index.ids))


def check_ids(found: Any, m: int) -> None:
    ids = np.asarray(found.ids)
    if ((ids < -1) | (ids >= m)).any():
        raise AssertionError(f"ids {ids} of {m} documents")


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[Generator], Arguments]]] = {
    "search": (_native.search, search_arguments),
    "pack": (_native.pack, pack_arguments),
    "score": (_native.score, score_arguments),
    "finite_rows": (_native.finite_rows, finite_arguments),
    "statistics": (_native.statistics, statistics_arguments),
    "examples": (_native.examples, examples_arguments),
    "second_moment": (_native.second_moment, second_moment_arguments),
    "contrastive": (_native.contrastive, contrastive_arguments),
    "divergence": (_native.divergence, divergence_arguments),
    "tile": (_native.tile, tile_arguments),
    "tilefold.search": (search_array, public_arguments),
    "FlatIndex.search": (search_index, public_arguments),
}


# ---- wrong arguments -----------------------------------------------------------------------------


def spoiled(rng: Generator, value: Any) -> Any:
    """Another value in an argument's stead, mostly one that resembles it."""
    if rng.random() < 0.1:
        return STRANGERS[rng.integers(len(STRANGERS))]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return STRANGERS[rng.integers(len(STRANGERS))]
    if isinstance(value, int):
        # No more than these many threads, or answers, than a test can have memory for.
        return NUMBERS[rng.integers(len(NUMBERS))]
    if isinstance(value, float):
        return float(rng.choice([0.0, -1.0, np.nan, np.inf, 1e-320, 1e308, 1e39]))
    if isinstance(value, (list, tuple)):
        parts = list(value)
        if parts:
            place = int(rng.integers(len(parts)))
            parts[place] = spoiled(rng, parts[place])
        return type(value)(parts)
    return spoiled_array(rng, value) if isinstance(value, np.ndarray) else None


def spoiled_array(rng: Generator, x: np.ndarray) -> Any:
    changes: list[Callable[[], Any]] = [
        lambda: x.astype(DTYPES[rng.integers(len(DTYPES))]),
        lambda: x[: max(0, len(x) - 1)] if x.ndim else x,
        lambda: np.concatenate([x, x[:1]]) if x.ndim and len(x) else x,
        lambda: x[:0] if x.ndim else x,
        lambda: x[None],
        lambda: x.reshape(-1),
        lambda: x.T,
        lambda: x[::-1] if x.ndim else x,
        lambda: x[..., ::-1] if x.ndim else x,
        lambda: np.repeat(x, 2, -1)[..., ::2] if x.ndim else x,
        lambda: np.repeat(x, 2, 0)[::2] if x.ndim else x,
        lambda: np.asfortranarray(x),
        lambda: np.broadcast_to(x[:1], x.shape) if x.ndim and len(x) else x,
        lambda: misaligned(x),
        lambda: read_only(x),
        lambda: x.astype(x.dtype.newbyteorder()),
        lambda: with_values(rng, x),
        lambda: with_values(rng, x),
        lambda: with_values(rng, x),
        lambda: Library(x, int(rng.choice([1, 2, 3, 10, 13, 99]))),
        lambda: Malformed(x, [None, (1,), "cpu", (1, 2, 3), (2**40, 0)][rng.integers(5)]),
    ]
    try:
        return changes[rng.integers(len(changes))]()
    except (OverflowError, TypeError, ValueError):  # of NumPy, which cannot make such an array
        return x


def misaligned(x: np.ndarray) -> np.ndarray:
    memory = np.zeros(x.nbytes + 1, np.uint8)
    copy = memory[1:].view(x.dtype).reshape(x.shape) if x.size else x
    copy[...] = x
    return copy


def read_only(x: np.ndarray) -> np.ndarray:
    view = x.view()
    view.flags.writeable = False
    return view


def with_values(rng: Generator, x: np.ndarray) -> np.ndarray:
    """A copy with one value, or many, out of range."""
    copy = x.copy()
    if not copy.size:
        return copy
    places = rng.random(copy.shape) < (1.0 if rng.random() < 0.2 else 1 / copy.size)
    if copy.dtype.kind in "iu":
        info = np.iinfo(copy.dtype)
        choice = [info.min, info.max, info.max // 2, 0, 1, copy.size]
        copy[places] = np.clip(choice[rng.integers(len(choice))], info.min, info.max)
    elif copy.dtype.kind == "f":
        with np.errstate(over="ignore"):
            copy[places] = [np.nan, np.inf, -np.inf, 3e38, 1e-45, -0.0][rng.integers(6)]
    return copy


class Library:
    """An array of another library, on a device of its own."""

    def __init__(self, x: np.ndarray, device: int) -> None:
        self.x, self.device = x, device

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.device, 0


class Malformed(Library):
    """Says where it is by something else than two numbers."""

    def __dlpack_device__(self) -> Any:
        return self.device


# ---- running -------------------------------------------------------------------------------------


def run(rng: Generator) -> tuple[str, bool]:
    """Calls a function once; returns its name, and whether it refused its arguments."""
    name = str(rng.choice(list(FUNCTIONS)))
    function, draw = FUNCTIONS[name]
    arguments = draw(rng)
    for _ in range(int(rng.choice([0, 1, 1, 1, 2]))):
        key = str(rng.choice(list(arguments)))
        if rng.random() < 0.1:
            arguments.pop(key)
            continue
        arguments[key] = spoiled(rng, arguments[key])
    try:
        function(**arguments)
    except (ValueError, TypeError, MemoryError, BufferError):
        return name, True
    return name, False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="how long (default: 120)")
    parser.add_argument("--calls", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=None, help="by default a new one")
    parser.add_argument("--case", type=int, default=None, help="run this case alone")
    parser.add_argument("--trace", help="file that holds the number of the case at work")
    arguments = parser.parse_args()
    faulthandler.enable()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    rows = [row["name"] for row in _native.rows() if row["supported"]]
    print(f"fuzz_border: seed {seed}, rows {', '.join(rows)}", flush=True)
    warnings.simplefilter("ignore")
    end, case, refused = time.monotonic() + arguments.seconds, arguments.case or 0, 0
    calls: dict[str, int] = dict.fromkeys(FUNCTIONS, 0)
    first = case
    while time.monotonic() < end and case - first < arguments.calls:
        rng = np.random.default_rng([seed, case])
        if arguments.trace:
            with open(arguments.trace, "w", encoding="utf-8") as file:
                file.write(f"--seed {seed} --case {case}\n")
        os.environ["TILEFOLD_ISA"] = rows[case % len(rows)]
        try:
            name, failed = run(rng)
        except Exception as error:
            print(f"fuzz_border: seed {seed}, case {case}: {type(error).__name__}: {error}")
            return 1
        calls[name] += 1
        refused += failed
        case += 1
        if arguments.case is not None:
            break
    total = sum(calls.values())
    print(f"fuzz_border: {total:,} calls without a crash, {refused:,} of them refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
