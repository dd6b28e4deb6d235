"""The `tilefold` command: runs a verb, and turns errors into one line and an exit status.

The module of a verb has `add_arguments` and `main`; it is imported only when the verb is used.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

from ..version import __version__
from .command_parser import CommandParser, one_line

# verb: (module, purpose, examples)
_VERBS = {
    "demo": (
        "demo.walkthrough",
        "search the documentation of Python on this machine",
        """
  tilefold demo
  tilefold demo --query "copy a file together with its permissions"
  tilefold demo --packages numpy,torch
""",
    ),
    "eval": (
        "verbs.eval",
        "compare dense, BM25 and fused retrieval on a collection",
        """
  tilefold eval scifact
  tilefold eval scifact --split train --measures nDCG@10 R@100 AP
  tilefold eval scifact --model BAAI/bge-small-en-v1.5 --pooling cls
  tilefold eval scifact --k 1000 --measures nDCG@10 R@1000 --run dense.trec
  tilefold eval scifact --model out/model --baseline minilm
  tilefold eval scifact --model out/model --baseline minilm --report eval.html
  tilefold eval wiki --split nq --answers answers.jsonl --out wiki.json
""",
    ),
    "train": (
        "verbs.train",
        "train a retriever: DPR's recipe, from files to a measured model",
        """
  tilefold train --config examples/scifact.yaml
  tilefold train --config examples/scifact.yaml --learning_rate 1e-5
  tilefold train --config examples/scifact.yaml --resume_from_checkpoint last
  tilefold train --config examples/scifact.yaml --report training.html
  torchrun --nproc-per-node 2 -m tilefold train --config my.yaml
  tilefold train --list-arguments
""",
    ),
    "mine": (
        "verbs.mine",
        "find hard negatives for a training set",
        """
  tilefold mine scifact --out negatives.jsonl
  tilefold mine nq-train.json --bm25 --out negatives.jsonl
  tilefold mine scifact --relative-margin 0.05 --range-max 50 --out hard.jsonl
  tilefold mine --config hard.jsonl.yaml --seed 1 --out again.jsonl
""",
    ),
    "encode": (
        "verbs.encode",
        "encode a corpus into shards that search reads",
        """
  tilefold encode scifact --out vectors
  tilefold encode collection.tsv --num-shards 16 --shard 3 --out vectors
""",
    ),
    "index": (
        "verbs.index",
        "join shards into one index",
        """
  tilefold index vectors --out index
""",
    ),
    "search": (
        "verbs.search",
        "search an encoded corpus",
        """
  tilefold search vectors --query "does vitamin D prevent falls"
  tilefold search index --queries scifact --k 100 --run run.trec
""",
    ),
    "serve": (
        "verbs.serve",
        "answer queries over HTTP, from one index or two side by side",
        """
  tilefold serve index
  tilefold serve index --texts scifact
  tilefold serve tuned --model out/model --compare index --compare-model minilm
  tilefold serve index --host 0.0.0.0 --token-file token
""",
    ),
    "mechanisms": (
        "verbs.mechanisms",
        "study what a retriever's layers and neurons know, and edit it",
        """
  tilefold mechanisms all --world small
  tilefold mechanisms neurons --world small
  tilefold mechanisms probe --model out/model --base minilm --data hard.jsonl
  tilefold mechanisms neurons --preset dpr --data nq-train.json --out study
  tilefold mechanisms findings --runs seed0 seed1 seed2
""",
    ),
    "aar": (
        "verbs.aar",
        "adapt a retriever to the passages that a language model prefers",
        """
  tilefold aar run --config examples/aar_world.yaml
  tilefold aar preferences nq --source-lm google/flan-t5-base --out aar.jsonl
  tilefold aar evaluate --task popqa:qa.tsv --target fusion:google/flan-t5-large
""",
    ),
    "invar": (
        "verbs.invar",
        "train a language model to retrieve invariantly, then to answer from it",
        """
  tilefold invar run --config examples/invar_world.yaml
  tilefold invar run --model llama --coarse minilm --data train.jsonl --test nq
""",
    ),
    "doctor": (
        "doctor",
        "show what this machine supports, and test every kernel",
        """
  tilefold doctor
  tilefold doctor --json
""",
    ),
}
_INTERRUPTED = 128 + signal.SIGINT
_PIPE_CLOSED = 128 + 13  # SIGPIPE, which Windows does not name


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status.

    0 when all went well, 1 on an error, 2 on wrong usage, 130 on Ctrl-C, 141 when the reader of the
    output went away.
    """
    parser = _parser()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # texts may have characters that it lacks
            stream.reconfigure(errors="backslashreplace")
    command = parser.prog
    try:
        args, unknown = parser.parse_known_args(argv)
        command = args.command
        if args.verb is None:
            parser.print_help()
            return 0
        if unknown:  # of a verb that keeps them
            args.unknown = unknown
        return int(args.run_verb(args))
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _INTERRUPTED
    except (ValueError, OSError, ImportError, MemoryError) as error:
        print(f"{command}: {one_line(error)}", file=sys.stderr)
        return 1


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="tilefold",
        description="Exact dense retrieval, and tools to study it.",
        epilog="examples:\n  tilefold demo\n  tilefold eval FOLDER\n  tilefold doctor\n\n"
        "'tilefold VERB --help' shows the options of a verb.",
    )
    parser.keeps_unknown = True  # sub-parsers refuse them
    parser.add_argument("--version", action="version", version=f"tilefold {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", title="verbs", dest="verb")
    for name, (module, purpose, examples) in _VERBS.items():
        verbs.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=f"examples:{examples.rstrip()}",
            add_options=partial(_add_options, module),
        )
    return parser


def _add_options(module: str, parser: CommandParser) -> None:
    implementation = importlib.import_module(f".{module}", __package__)
    implementation.add_arguments(parser)
    parser.set_defaults(run_verb=implementation.main)
