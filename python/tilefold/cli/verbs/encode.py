"""`tilefold encode`: a corpus to shards of embeddings."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

from ...data import read_documents
from ...retrieval.encode_shards import DTYPES, encode_shards
from ..model_options import add_model_arguments, described, load_model
from ..request import add_input, save_request
from ..terminal import count, fact, note, title


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tilefold encode`."""
    add_input(
        parser,
        "data",
        "a folder of a collection, a file with its documents, or a name of ir_datasets",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where shards go")
    option = parser.add_argument
    option("--num-shards", type=int, default=1, metavar="N", help="parts (default: 1)")
    option("--shard", type=int, metavar="I", help="write this one alone, from 0 (default: all)")
    option("--dtype", choices=DTYPES, default="float32", help="on disk (default: float32)")
    add_model_arguments(parser, "document")


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold encode`."""
    model = load_model(args)
    corpus = read_documents(args.data, title_format=model.title_format)
    names, texts = list(corpus), list(corpus.values())
    title(f"{args.data} through {args.model}")
    fact("documents", f"{len(names):,}, {model.dim} dimensions, {args.dtype}")
    begin, finished = time.perf_counter(), 0
    shards = encode_shards(
        partial(model.encode_corpus, batch_size=args.batch_size),
        texts,
        names,
        args.out,
        num_shards=args.num_shards,
        shard=args.shard,
        dtype=args.dtype,
        model=described(model, args.model),
    )
    for path in shards:
        finished += 1
        fact("shard", f"{path.name}, {time.perf_counter() - begin:,.0f} s")
    of_shard = "" if args.shard is None else f"-{args.shard:05}"
    save_request(args, Path(args.out) / f"encode{of_shard}.yaml")
    note(f"{count(finished, 'shard')} of {args.num_shards} in {args.out}.")
    return 0
