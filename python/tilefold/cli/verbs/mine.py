"""`tilefold mine`: hard negatives for a training set, to a file that `tilefold train` reads."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import TITLE_FORMAT, TrainingSet, read_training, write_training
from ...mining import mine, mine_bm25
from ..destination import check_writable
from ..model_options import BATCH_SIZE, add_model_arguments, load_model, model_settings
from ..request import add_input, save_request
from ..terminal import count, fact, note, title

if TYPE_CHECKING:
    from ...models import BiEncoder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tilefold mine`."""
    add_input(parser, "data", "a training file, a folder of a collection, or a name of ir_datasets")
    option = parser.add_argument
    option("--out", required=True, metavar="FILE", help="JSONL with the negatives")
    option("--split", default="train", help="of a collection (default: %(default)s)")
    by_words = "by words, as DPR did, not with a model"
    option("--bm25", action=argparse.BooleanOptionalAction, default=False, help=by_words)
    option("--title-format", metavar="TEXT", help="with --bm25 (default: {title} {text})")
    option("--negatives", type=int, default=10, metavar="N", help="for each query (default: 10)")
    window = parser.add_argument_group("what counts")
    option = window.add_argument
    option("--range-min", type=int, default=0, metavar="N", help="leave out so many of the best")
    option("--range-max", type=int, metavar="N", help="from so many of the best (default: any)")
    option("--min-score", type=float, metavar="X", help="negatives score at least this")
    option("--max-score", type=float, metavar="X", help="and at most this")
    option("--absolute-margin", type=float, metavar="X", help="and this less than the positive")
    option("--relative-margin", type=float, metavar="X", help="and this share less: 0.05")
    option("--sampling", choices=("top", "random"), default="top", help="(default: top)")
    option("--seed", type=int, help="of random sampling (default: 0)")
    add_model_arguments(parser, "query", "document", default=None)


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold mine`."""
    check_writable(args.out, "--out")
    _check_options(args)
    if not args.bm25:
        args.model, args.seed = args.model or "minilm", args.seed or 0
    model = None if args.bm25 else load_model(args)
    joined = args.title_format or TITLE_FORMAT if model is None else model.title_format
    data = read_training(args.data, split=args.split, title_format=joined)
    title(f"Hard negatives for {args.data}")
    fact("queries", f"{len(data):,} on {len(data.documents):,} documents")
    mined = _by_words(data, args) if model is None else _by_model(data, model, args)
    counts = np.diff(mined.negatives.offsets)
    write_training(args.out, data.with_negatives(mined.negatives))
    save_request(args, f"{args.out}.yaml")
    short = int((counts < args.negatives).sum())
    fact("negatives", f"{counts.mean():.1f} a query; {count(short, 'query')} with fewer")
    note(f"Wrote {args.out}. Train on it: tilefold train --train_path {args.out} ...")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """BM25 has ranks, but no scores to compare with a positive's, draws nothing, needs no model."""
    if not args.bm25:
        if args.title_format is not None:
            raise ValueError("--title-format goes with --bm25; a model has its own")
        return
    scores = ("min_score", "max_score", "absolute_margin", "relative_margin", "model", "seed")
    given = [name for name in scores if getattr(args, name) is not None]
    given += [*model_settings(args), *(["sampling"] if args.sampling != "top" else [])]
    given += ["batch_size"] if args.batch_size != BATCH_SIZE else []
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} does not go with --bm25")


def _by_words(data: TrainingSet, args: argparse.Namespace) -> Any:
    return mine_bm25(
        data.queries,
        data.documents,
        data.positives,
        n_negatives=args.negatives,
        range_min=args.range_min,
        range_max=args.range_max,
        groups=_groups(data),
        is_positive=_has_answer(data),
    )


def _groups(data: TrainingSet) -> NDArray[np.int64]:
    """The same text twice is one document."""
    groups: NDArray[np.int64] = np.unique(data.documents, return_inverse=True)[1]
    return groups


def _has_answer(data: TrainingSet) -> Callable[[int, int], bool] | None:
    """DPR leaves out passages with an answer, where there are answers."""
    if not any(data.answers):
        return None
    from ...evaluate import has_answer

    return lambda query, document: has_answer(data.documents[document], data.answers[query])


def _by_model(data: TrainingSet, model: BiEncoder, args: argparse.Namespace) -> Any:
    queries, documents = (
        encode(texts, batch_size=args.batch_size)
        for encode, texts in (
            (model.encode_queries, data.queries),
            (model.encode_corpus, data.documents),
        )
    )
    names = ("range_min", "range_max", "min_score", "max_score", "absolute_margin")
    return mine(
        queries,
        documents,
        data.positives,
        n_negatives=args.negatives,
        groups=_groups(data),
        **{name: getattr(args, name) for name in (*names, "relative_margin", "sampling", "seed")},
    )
