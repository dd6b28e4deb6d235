"""Dense, lexical and fused rankings of one collection side by side: `tilefold eval FOLDER`.

`tilefold demo` shows the same table for the documentation of Python.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bm25 import Bm25
from .data import Collection, Qrels, read_beir, write_run
from .evaluate import Interval, Measure, bootstrap, evaluate
from .fusion import fuse
from .running import SearchResult
from .search import search
from .terminal import count, fact, heading, table, title

if TYPE_CHECKING:
    from .encoder import Encoder

MEASURES = ("nDCG@10", "R@100", "RR@10")


class Embedded(NamedTuple):
    """Vectors of a collection."""

    documents: NDArray[np.float32]  # [n_documents, dim]
    queries: NDArray[np.float32]  # [n_queries, dim]


def describe(collection: Collection) -> None:
    """Writes what is in the collection, and what is odd about its judgments."""
    qrels = collection.qrels
    n_queries, n_relevant = len(collection.queries), int(np.count_nonzero(qrels.gains > 0))
    fact("documents", f"{len(collection.documents):,}")
    fact("queries", f"{n_queries:,} with {count(n_relevant, 'relevant document')}")
    without = n_queries - len(_answered(qrels))
    if without:
        fact("", f"{without:,} of them with none, which scores 0")
    if collection.absent:
        absent = count(len(collection.absent), "judged document")
        fact("", f"{absent} not in the corpus, which counts as missed")


def embed(collection: Collection, encoder: Encoder, *, batch_size: int = 32) -> Embedded:
    """Encodes a collection, with progress bars, and writes how long it took."""
    started = time.perf_counter()
    documents = encoder.encode(collection.documents, batch_size=batch_size, progress="documents")
    between = time.perf_counter()
    queries = encoder.encode(collection.queries, batch_size=batch_size, progress="queries  ")
    ended = time.perf_counter()
    fact("encoded", f"documents in {between - started:.0f} s, queries in {ended - between:.0f} s")
    return Embedded(documents, queries)


def lexical(collection: Collection, dense: SearchResult, k: int) -> dict[str, SearchResult]:
    """BM25, and its fusion with the dense ranking; without bm25s nothing, and a line that says so.

    Args:
        collection: documents and queries.
        dense: the dense ranking.
        k: results per query.
    """
    try:
        words = Bm25(collection.documents)
    except ImportError as error:
        fact("BM25", f"left out: {error}")
        return {}
    result = words.search(collection.queries, k)
    return {"BM25": result, "dense + BM25": fuse([dense.ids, result.ids], k)}


def show_quality(
    rankings: Mapping[str, SearchResult], qrels: Qrels, measures: Sequence[str | Measure]
) -> None:
    """Writes a row for each ranking: every measure's mean and its 95% bootstrap interval."""
    values = [evaluate(ranking.ids, qrels, measures) for ranking in rankings.values()]
    columns = {name: [_cell(bootstrap(row[name])) for row in values] for name in values[0]}
    table(list(rankings), columns)


def _cell(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _answered(qrels: Qrels) -> NDArray[Any]:
    """Numbers of the queries that have a relevant document."""
    rows = np.repeat(np.arange(len(qrels.offsets) - 1), np.diff(qrels.offsets))
    return np.unique(rows[qrels.gains > 0])


# ---- tilefold eval -------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tilefold eval`."""
    parser.add_argument("folder", help="holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv")
    parser.add_argument("--split", default="test", help="file in qrels/ (default: %(default)s)")
    parser.add_argument(
        "--model", metavar="NAME", help="folder or Hugging Face name (default: the offline MiniLM)"
    )
    parser.add_argument("--pooling", default="mean", help="mean or cls (default: %(default)s)")
    parser.add_argument(
        "--max-length", type=int, default=256, metavar="N", help="tokens read (default: 256)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="texts at a time (default: 32)"
    )
    parser.add_argument(
        "--measures",
        nargs="+",
        type=_measure,
        default=[Measure.parse(name) for name in MEASURES],
        metavar="NAME",
        help=f"names of ir_measures (default: {' '.join(MEASURES)})",
    )
    parser.add_argument(
        "--k", type=_depth, default=100, metavar="N", help="results per query (default: 100)"
    )
    parser.add_argument("--run", metavar="FILE", help="write the dense ranking as a TREC run")


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold eval`."""
    deepest = max(args.measures, key=lambda measure: measure.cutoff or 0)
    if (deepest.cutoff or 0) > args.k:
        raise ValueError(f"{deepest} needs --k {deepest.cutoff}, got --k {args.k}")
    if args.run and not Path(args.run).absolute().parent.is_dir():
        raise FileNotFoundError(f"--run {args.run}: its folder does not exist")
    collection = read_beir(args.folder, args.split)
    title(f"{args.folder}, split {args.split}")
    describe(collection)
    embedded = embed(collection, _encoder(args), batch_size=args.batch_size)
    dense = search(embedded.queries, embedded.documents, args.k)
    rankings = {"dense": SearchResult(*dense[:2])}
    rankings |= lexical(collection, rankings["dense"], args.k)
    heading("Mean over queries, 95% bootstrap interval")
    show_quality(rankings, collection.qrels, args.measures)
    if args.run:
        write_run(args.run, collection.query_ids, collection.document_ids, *rankings["dense"])
        heading(f"Wrote the dense ranking to {args.run}")
    return 0


def _encoder(args: argparse.Namespace) -> Encoder:
    from .encoder import Encoder, minilm

    options = {"pooling": args.pooling, "max_length": args.max_length}
    encoder = Encoder.from_pretrained(args.model, **options) if args.model else minilm(**options)
    name = args.model or "all-MiniLM-L6-v2"
    fact("model", f"{name}, {encoder.dim} dimensions, {args.pooling} pooling")
    return encoder


def _measure(text: str) -> Measure:
    try:
        return Measure.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _depth(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)
