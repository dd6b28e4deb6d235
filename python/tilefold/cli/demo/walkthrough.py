"""`tilefold demo`: retrieval on real text, without a network.

Encodes the documentation of Python on this machine, or a collection, and compares exact dense
search, HNSW, BM25 and their fusion; then times tilefold and other libraries and compares their
results. With --train it also fine-tunes MiniLM.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import Collection, read_collection
from ...evaluate import evaluate
from ...progress import show_progress
from ...retrieval.flat_index import FlatIndex
from ...retrieval.hnsw import HnswIndex
from ...retrieval.running_search import SearchResult
from ...testing import assert_same_up_to_rounding, measure
from ...threads import get_num_threads
from ..query_removal import add_remove_query, evaluated_own, excluding
from ..sources import check_source
from ..terminal import clip, count, fact, heading, note, say, table, title, width
from .comparison import (
    MEASURES,
    Embedded,
    check_judged,
    describe,
    embed,
    lexical,
    show_quality,
)
from .pydocs import read_pydocs
from .training_demo import show_training

if TYPE_CHECKING:
    from ...models import BiEncoder

Vectors = NDArray[np.float32]
Search = Callable[[Vectors, int], Any]

_K = 100
_HITS = 3
_TIMED_QUERIES = 2048
_FEW = 10_000  # documents; from about here on tilefold was faster than a matrix product
# An easy query, one with many similar documents, and one that MiniLM does not answer.
_SAMPLES = ("statistics.median", "heapq.merge", "threading.Thread.join")
_NEXT = (
    ('tilefold demo --query "copy a file"', "ask for something in your own words"),
    ("tilefold demo --packages numpy,torch", "search more documentation"),
    ("tilefold demo --train", "fine-tune MiniLM on it, for some minutes"),
    ("tilefold eval FOLDER", "your own data, in BEIR layout"),
    ("tilefold doctor", "kernels and threads of this machine"),
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
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="search this collection instead: a folder, or a name of ir_datasets: beir/scifact",
    )
    parser.add_argument("--split", default="test", help="of --data (default: %(default)s)")
    parser.add_argument(
        "--train",
        action="store_true",
        help="also fine-tune MiniLM on this documentation, which takes several minutes",
    )
    add_remove_query(parser, "id for collections of BEIR, else none")


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold demo`."""
    _check_options(args)
    if args.data:
        check_source(args.data)
    described = args.data or f"the documentation of Python {platform.python_version()}"
    title(f"tilefold demo: search {described}")
    from ...models import BiEncoder, minilm

    model = BiEncoder(minilm())  # before reading, so that a missing package is an error at once
    fact("model", f"all-MiniLM-L6-v2, {model.dim} dimensions, from an installed package")
    with show_progress("read"):
        collection = _read(args)
    if args.query is None:
        _compare(collection, model, args)
    elif args.data:
        _answer(collection.document_ids, collection.documents, model, _queries(args.query))
    else:
        _answer(*_summaries(collection), model, _queries(args.query))
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Raises ValueError for options that exclude each other."""
    if args.train and args.query is not None:
        raise ValueError("--train and --query exclude each other")
    for option in ("train", "packages"):
        if args.data and getattr(args, option):
            raise ValueError(f"--{option} is for the documentation of Python, not for --data")


def _read(args: argparse.Namespace) -> Collection:
    if args.data:
        collection = read_collection(args.data, args.split)
        if args.query is None:
            check_judged(collection)
        return collection
    return read_pydocs([name.strip() for name in args.packages.split(",") if name.strip()])


def _compare(collection: Collection, model: BiEncoder, args: argparse.Namespace) -> None:
    """Prints the quality and speed of each kind of search, and some of the results."""
    describe(collection)
    embedded = embed(collection, model)
    if not args.data:
        note(
            "A document is the parameters and the docstring of a function, method or class, "
            "without the first line and with its name masked; the query is that first line."
        )
    index = FlatIndex(model.dim)
    index.add(embedded.documents)
    own = evaluated_own(collection, args.remove_query, args.data)
    found = index.search(embedded.queries, _K, exclude=excluding(own))
    exact = SearchResult(*found[:2])
    rankings = {"dense, exact": exact}
    approximate = _hnsw(embedded)
    if approximate is not None:
        rankings["dense, HNSW"] = approximate.search(embedded.queries, _K, exclude=excluding(own))
    rankings |= lexical(collection, exact, _K, own)
    heading(f"Quality: mean over {len(collection.queries):,} queries, 95% bootstrap interval")
    show_quality({n: evaluate(r.ids, collection.qrels, MEASURES) for n, r in rankings.items()})
    if approximate is not None:
        share = approximate.recall(index, embedded.queries, _K)
        note(f"HNSW found {share:.2%} of the {_K} nearest documents.")
    _show_speed(embedded, index, approximate)
    _show_samples(collection, exact)
    if args.train:
        show_training(collection, model, embedded)
    heading("What to try next")
    for command, purpose in _NEXT:
        say(f"  {command:<38}{purpose}")


def _hnsw(embedded: Embedded) -> HnswIndex | None:
    try:
        index = HnswIndex(embedded.documents.shape[1], ef_search=2 * _K)
    except ImportError as error:
        fact("HNSW", f"left out: {error}")
        return None
    with show_progress("build the HNSW graph"):
        index.add(embedded.documents)
    return index


# ---- speed ---------------------------------------------------------------------------------------


def _show_speed(embedded: Embedded, index: FlatIndex, approximate: HnswIndex | None) -> None:
    documents, queries = embedded.documents, embedded.queries[:_TIMED_QUERIES]
    searches: dict[str, Search] = {"tilefold": lambda queries, k: index.search(queries, k)[1]}
    searches |= dict(_peers(documents))
    differences = {"tilefold": ""}
    depths = [k for k in (10, _K) if k <= len(documents)]
    for name, peer in list(searches.items())[1:]:
        with show_progress(f"compare with {name}"):
            differences[name] = _differences(index, name, peer, embedded, depths)
    if approximate is not None:
        searches["HnswIndex"] = lambda queries, k: approximate.search(queries, k).ids
        differences["HnswIndex"] = "approximate"
    with show_progress("time searches"):
        rates = {k: _rates(searches, queries, k) for k in depths}
    heading(
        f"Speed: queries per second ({len(queries):,} queries, {len(documents):,} documents, "
        f"{count(get_num_threads(), 'thread')})"
    )
    columns = {f"k = {k}": [f"{rate:,.0f}" for rate in by.values()] for k, by in rates.items()}
    table(list(searches), columns | {"ids unlike tilefold's": list(differences.values())})
    note(
        "Where ids differ, scores are equal, or closer than sums in fp32 are exact: tilefold sums "
        "in fp64 and orders equal scores by id."
    )
    if len(documents) < _FEW and any(max(by.values()) > by["tilefold"] for by in rates.values()):
        note(
            "So few documents stay in the processor's cache, where a plain matrix product is hard "
            "to beat; `make bench` has a corpus that does not."
        )


def _rates(searches: Mapping[str, Search], queries: Vectors, k: int) -> dict[str, float]:
    """Measures the queries per second of every search."""
    timings = measure({name: partial(run, queries, k) for name, run in searches.items()})
    return {name: len(queries) / timing.median for name, timing in timings.items()}


def _peers(documents: Vectors) -> Iterator[tuple[str, Search]]:
    """Yields (name, exact search) of numpy and, where it is installed, faiss."""
    yield "numpy", lambda queries, k: _search_numpy(queries, documents, k)
    with contextlib.suppress(ImportError):
        flat = importlib.import_module("faiss").IndexFlatIP(documents.shape[1])
        flat.add(documents)
        yield "faiss flat", lambda queries, k: flat.search(queries, k)[1]


def _search_numpy(queries: Vectors, documents: Vectors, k: int) -> NDArray[np.int64]:
    scores = queries @ documents.T
    ids = np.argpartition(scores, -k, axis=1)[:, -k:]
    best = np.take_along_axis(scores, ids, 1)
    return np.take_along_axis(ids, np.lexsort((ids, -best)), 1)


def _differences(
    index: FlatIndex, name: str, peer: Search, embedded: Embedded, depths: Sequence[int]
) -> str:
    """Counts the places where ids differ; raises unless rounding explains all of them."""
    queries = embedded.queries[:_TIMED_QUERIES]
    places = sum(
        assert_same_up_to_rounding(
            index.search(queries, k)[:2], peer(queries, k), queries, embedded.documents, name=name
        )
        for k in depths
    )
    return f"{places:,} of {len(queries) * sum(depths):,}"


# ---- queries -------------------------------------------------------------------------------------


def _show_samples(collection: Collection, exact: SearchResult) -> None:
    """Prints three queries, their best documents, and the rank of the first relevant one."""
    heading("Three of the queries, and what the exact search found")
    rows = [collection.query_ids.index(n) for n in _SAMPLES if n in collection.query_ids]
    offsets, relevant, _ = collection.qrels
    for row in rows or range(min(len(_SAMPLES), len(collection.queries))):
        right = set(relevant[offsets[row] : offsets[row + 1]].tolist())
        _show_hits(collection, collection.queries[row], exact.scores[row], exact.ids[row], right)
        places = np.flatnonzero(np.isin(exact.ids[row], list(right)))
        if not len(places) or places[0] >= _HITS:
            rank = f"has rank {places[0] + 1}" if len(places) else f"is not in the best {_K}"
            say(f"    the relevant document for {collection.query_ids[row]} {rank}")


def _show_hits(
    collection: Collection, query: str, scores: Iterable[float], ids: Iterable[int], right: set[int]
) -> None:
    say()
    say(f"  {clip(query, width() - 2)}")
    best = [(score, int(i)) for score, i in zip(scores, ids, strict=True) if i >= 0][:_HITS]
    for score, document in best:
        mark = "  <- relevant" if document in right else ""
        say(f"    {score:.3f}  {collection.document_ids[document]}{mark}")


def _summaries(collection: Collection) -> tuple[list[str], list[str]]:
    """Returns the name and summary of each document, which take seconds to encode."""
    offsets, relevant, _ = collection.qrels
    summaries = np.repeat(np.array(collection.queries, object), np.diff(offsets))
    return [collection.document_ids[document] for document in relevant], list(summaries)


def _answer(
    names: Sequence[str], texts: Sequence[str], model: BiEncoder, queries: Iterable[str]
) -> None:
    """Prints the five best documents for each query."""
    index = FlatIndex(model.dim)
    named = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
    index.add(model.encode_corpus(named, progress="documents"))
    fact("documents", f"{len(texts):,}")
    for query in queries:
        vector = model.encode_queries([query], progress=False)[0]
        scores, ids = index.search(vector, min(5, len(texts)))[:2]
        column = min(width() // 2 - 10, max(len(names[document]) for document in ids))
        say()
        for score, document in zip(scores, ids, strict=True):
            line = f"{score:.3f}  {clip(names[document], column):<{column}}  "
            say(f"  {line}{clip(texts[document], width() - 2 - len(line))}")


def _queries(text: str) -> Iterator[str]:
    """Yields the query, or those from stdin until an empty line, with a prompt on a terminal."""
    if text:
        yield text
        return
    interactive = sys.stdin.isatty()
    while True:
        try:
            line = input("\nquery (empty to end)> " if interactive else "").strip()
        except EOFError:
            return
        if not line:
            return
        yield line
