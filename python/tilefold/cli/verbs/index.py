"""`tilefold index`: joins shards of embeddings to one index."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...progress import show_progress
from ...retrieval.corpus import save_index
from ..command_parser import CommandParser
from ..destination import check_folder
from ..saved_options import options_of, save_options
from ..sources import check_encoded, check_no_saved_index
from ..terminal import fact, note, title


def add_arguments(parser: CommandParser) -> None:
    """Adds the options of `tilefold index`."""
    parser.add_input("shards", "a folder that 'tilefold encode' wrote")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder for the index")


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold index`."""
    check_folder(args.out, "--out")
    check_encoded(args.shards)
    check_no_saved_index(args.shards, "tilefold index")
    with show_progress("index"):
        index = save_index(args.out, args.shards)
    save_options(options_of(args), Path(args.out) / "index.yaml")
    title(f"{args.shards} to {args.out}")
    fact("documents", f"{len(index):,}, {index.dim} dimensions, {index.dtype}")
    note(f"Search it: tilefold search {args.out} --queries FILE --run FILE")
    return 0
