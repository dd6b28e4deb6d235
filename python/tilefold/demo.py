"""`tilefold demo`: the main job on real text, without a network.

The documentation of Python on this machine is encoded, searched exactly, by HNSW and by words, and
measured; then tilefold is timed beside its peers and its answers are compared with theirs.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .comparison import MEASURES, Embedded, describe, embed, lexical, show_quality
from .data import Collection
from .hnsw import HnswIndex
from .index import FlatIndex
from .pydocs import read_pydocs
from .running import SearchResult
from .terminal import clip, fact, heading, say, table, title, width
from .threads import get_num_threads

if TYPE_CHECKING:
    from .encoder import Encoder

IdArray = NDArray[np.int64]
Search = Callable[[NDArray[np.float32], int], IdArray]

_K = 100
_TIMED_QUERIES = 2048
_ROUNDS = 7
_SAMPLES = (
    "how similar are two strings",
    "run a shell command and capture its output",
    "delete a folder with everything in it",
)
_NEXT = (
    ('tilefold demo --query "copy a file"', "ask something yourself"),
    ("tilefold demo --query", "ask several things"),
    ("tilefold demo --packages numpy,torch", "search more documentation"),
    ("tilefold eval FOLDER", "your own data, in BEIR layout"),
    ("tilefold doctor", "what this machine runs"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tilefold demo`."""
    parser.add_argument(
        "--query",
        nargs="?",
        const="",
        metavar="TEXT",
        help="only search for this; without TEXT, ask for one query after the other",
    )
    parser.add_argument(
        "--packages",
        default="",
        metavar="NAMES",
        help="also read the documentation of these installed packages, as in numpy,torch",
    )


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold demo`."""
    title(f"tilefold demo: search the documentation of Python {platform.python_version()}")
    packages = [name.strip() for name in args.packages.split(",") if name.strip()]
    encoder = _encoder()  # first, so that what is missing is said at once
    collection = read_pydocs(packages)
    describe(collection)
    fact("model", f"all-MiniLM-L6-v2, {encoder.dim} dimensions, from the installed package")
    embedded = embed(collection, encoder)
    index = FlatIndex(encoder.dim)
    index.add(embedded.documents)
    ask = _Asker(collection, encoder, index)
    if args.query is not None:
        return ask.all([args.query] if args.query else _typed())
    say()
    say("  A document is a docstring without its first line, its own name masked; the")
    say("  query is the first line. To find it, one has to understand it.")
    approximate = _hnsw(embedded)
    _show_quality(collection, embedded, index, approximate)
    _show_speed(embedded, index, approximate)
    heading("Three questions in plain words")
    ask.all(_SAMPLES)
    heading("What to try next")
    for command, purpose in _NEXT:
        say(f"  {command:<38}  {purpose}")
    return 0


def _encoder() -> Encoder:
    from .encoder import minilm

    return minilm()


def _hnsw(embedded: Embedded) -> HnswIndex | None:
    try:
        index = HnswIndex(embedded.documents.shape[1])
    except ImportError as error:
        fact("HNSW", f"left out: {error}")
        return None
    index.ef_search = 2 * _K
    index.add(embedded.documents)
    return index


def _show_quality(
    collection: Collection, embedded: Embedded, index: FlatIndex, approximate: HnswIndex | None
) -> None:
    exact = SearchResult(*index.search(embedded.queries, _K)[:2])
    rankings = {"dense, exact": exact}
    if approximate is not None:
        rankings["dense, HNSW"] = approximate.search(embedded.queries, _K)
    rankings |= lexical(collection, exact, _K)
    heading(f"Quality: mean over {len(collection.queries):,} queries, 95% bootstrap interval")
    show_quality(rankings, collection.qrels, MEASURES)
    if approximate is not None:
        share = approximate.recall(index, embedded.queries, _K)
        say()
        say(f"  HNSW found {share:.2%} of the exact {_K} nearest.")


# ---- speed ---------------------------------------------------------------------------------------


def _show_speed(embedded: Embedded, index: FlatIndex, approximate: HnswIndex | None) -> None:
    queries = embedded.queries[:_TIMED_QUERIES]
    k = min(_K, len(embedded.documents))
    exact: dict[str, Search] = {"tilefold": lambda q, k: np.asarray(index.search(q, k)[1])}
    exact |= dict(_peers(embedded.documents))
    searches = dict(exact)
    if approximate is not None:
        searches["HnswIndex"] = lambda q, k: approximate.search(q, k).ids
    seconds, answers = _race(searches, queries, k)
    heading(
        f"Speed: {len(queries):,} queries x {len(embedded.documents):,} documents x "
        f"{queries.shape[1]} dimensions, k = {k}"
    )
    differences = {
        name: _compare(answers["tilefold"], answers[name], queries, embedded.documents)
        for name in exact
        if name != "tilefold"
    }
    table(
        list(searches),
        {
            "queries/s": [f"{len(queries) / seconds[name]:,.0f}" for name in searches],
            "time": [f"{seconds[name] / seconds['tilefold']:.2f}x" for name in searches],
            "ids unlike tilefold's": [_unlike(differences.get(name), name) for name in searches],
        },
    )
    say()
    say(f"  {get_num_threads()} threads, in one process, in turn, median of {_ROUNDS} rounds.")
    _explain(differences, len(queries) * k)


def _peers(documents: NDArray[np.float32]) -> Iterator[tuple[str, Search]]:
    yield "numpy", lambda queries, k: _numpy_search(queries, documents, k)
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return
    flat = faiss.IndexFlatIP(documents.shape[1])
    flat.add(documents)
    yield "faiss flat", lambda queries, k: flat.search(queries, k)[1]


def _numpy_search(queries: NDArray[np.float32], documents: NDArray[np.float32], k: int) -> IdArray:
    scores = queries @ documents.T
    ids = np.argpartition(scores, -k, axis=1)[:, -k:]
    best = np.take_along_axis(scores, ids, 1)
    return np.take_along_axis(ids, np.lexsort((ids, -best)), 1)


def _race(
    searches: dict[str, Search], queries: NDArray[np.float32], k: int
) -> tuple[dict[str, float], dict[str, IdArray]]:
    """Median seconds and the answers of every search; they take turns, after a round unmeasured."""
    answers = {name: run(queries, k) for name, run in searches.items()}
    times: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(_ROUNDS):
        for name, run in searches.items():
            started = time.perf_counter()
            run(queries, k)
            times[name].append(time.perf_counter() - started)
    return {name: median(taken) for name, taken in times.items()}, answers


class Differences(NamedTuple):
    """Places of a ranking where a peer's id is another one, and why."""

    ties: int  # equal scores in fp32: the peer has no rule
    rounding: int  # scores closer than the peer's fp32 sums are exact
    other: int  # neither: somebody is wrong


def _compare(
    ours: IdArray,
    theirs: IdArray,
    queries: NDArray[np.float32],
    documents: NDArray[np.float32],
) -> Differences:
    rows, places = np.nonzero(ours != theirs)
    query = queries[rows].astype(np.float64)
    mine, other = (documents[ids[rows, places]].astype(np.float64) for ids in (ours, theirs))
    score, rival = np.einsum("ij,ij->i", query, mine), np.einsum("ij,ij->i", query, other)
    tied = score.astype(np.float32) == rival.astype(np.float32)
    # A sum of dim products in fp32 errs by at most dim * 2**-24 * |q||x|, and there are two.
    lengths = np.linalg.norm(mine, axis=1) + np.linalg.norm(other, axis=1)
    margin = queries.shape[1] * 2.0**-24 * np.linalg.norm(query, axis=1) * lengths
    rounded = ~tied & (np.abs(score - rival) <= margin)
    return Differences(int(tied.sum()), int(rounded.sum()), int((~tied & ~rounded).sum()))


def _unlike(differences: Differences | None, name: str) -> str:
    if differences is None:
        return "approximate" if name == "HnswIndex" else ""
    return f"{sum(differences):,}"


def _explain(differences: dict[str, Differences], n: int) -> None:
    total = Differences(*map(sum, zip(*differences.values(), strict=True)))
    if not sum(total):
        say(f"  All {n:,} ids are the same in every exact search.")
        return
    say(
        f"  Of {n:,} ids each, the differing ones are {total.ties:,} ties, which tilefold orders by"
    )
    say(f"  id, and {total.rounding:,} near-ties that the peer's fp32 sums put in another order.")
    if total.other:
        say(f"  {total.other:,} are neither: somebody is wrong. Please report it.")


# ---- questions -----------------------------------------------------------------------------------


class _Asker:
    """Answers questions from an index of documentation."""

    def __init__(self, collection: Collection, encoder: Encoder, index: FlatIndex) -> None:
        self._collection = collection
        self._encoder = encoder
        self._index = index
        offsets, ids, _ = collection.qrels
        rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        self._summaries = {
            document: collection.queries[row]
            for document, row in zip(ids.tolist(), rows.tolist(), strict=True)
        }

    def all(self, questions: Sequence[str] | Iterator[str]) -> int:
        for question in questions:
            vector = self._encoder.encode([question], progress=False)[0]
            scores, ids = self._index.search(vector, 3)[:2]
            say()
            say(f"  {clip(question, width() - 2)}")
            for score, document in zip(scores, ids, strict=True):
                if document >= 0:
                    name = self._collection.document_ids[document]
                    line = f"    {score:.3f}  {name:<32}  {self._summaries[int(document)]}"
                    say(f"    {clip(line, width() - 4)}")
        return 0


def _typed() -> Iterator[str]:
    """Queries from stdin, with a prompt where it is a terminal, until an empty line."""
    asking = sys.stdin.isatty()
    if asking:
        say()
        say("  Type a query; an empty line ends.")
    while True:
        try:
            line = input("\nquery> " if asking else "").strip()
        except EOFError:
            return
        if not line:
            return
        yield line
