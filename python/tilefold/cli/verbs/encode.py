"""`tilefold encode`: encodes a corpus into shards of embeddings."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

from ...data import read_documents
from ...retrieval.encode_shards import DTYPES, encode_shards
from ..command_parser import CommandParser
from ..destination import check_folder
from ..model_options import add_model_arguments, load_model
from ..option_types import positive
from ..saved_options import options_of, save_options
from ..sources import check_source
from ..terminal import count, fact, note, title


def add_arguments(parser: CommandParser) -> None:
    """Adds the options of `tilefold encode`."""
    parser.add_input(
        "data", "a folder of a collection, a file with its documents, or a name of ir_datasets"
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the shards")
    option = parser.add_argument
    shards = "number of shards (default: 1)"
    option("--num-shards", type=positive, default=1, metavar="N", help=shards)
    option("--shard", type=int, metavar="I", help="write this shard alone, from 0 (default: all)")
    option(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="type of vectors on disk (default: float32)",
    )
    add_model_arguments(parser, "document")


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold encode`."""
    check_source(args.data)
    check_folder(args.out, "--out")
    if args.shard is not None and not 0 <= args.shard < args.num_shards:
        raise ValueError(f"--shard must be 0 to {args.num_shards - 1}, got {args.shard}")
    from ...models.model_record import model_record

    model = load_model(args)
    corpus = read_documents(args.data)
    title(f"{args.data} encoded by {args.model}")
    fact("documents", f"{len(corpus):,}, {model.dim} dimensions, {args.dtype}")
    begin, n_written = time.perf_counter(), 0
    shards = encode_shards(
        partial(model.encode_documents, batch_size=args.batch_size),
        corpus.texts,
        corpus.ids,
        args.out,
        titles=corpus.titles,
        num_shards=args.num_shards,
        shard=args.shard,
        dtype=args.dtype,
        model=model_record(model, args.model),
    )
    for path in shards:
        n_written += 1
        fact("shard", f"{path.name}, {time.perf_counter() - begin:,.0f} s")
    suffix = "" if args.shard is None else f"-{args.shard:05}"
    save_options(options_of(args), Path(args.out) / f"encode{suffix}.yaml")
    note(f"{count(n_written, 'shard')} of {args.num_shards} in {args.out}.")
    return 0
