"""`tilefold mine`: mines hard negatives for a training set, for `tilefold train`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import TITLE_FORMAT, TrainingSet, read_training, write_training
from ...data.prompts import check_title_format
from ...data.text_columns import text_groups
from ...mining import mine, mine_bm25
from ...mining.mining_inputs import Ranks, ScoreWindow
from ...progress import show_progress
from ...ragged_lists import Lists
from ..command_parser import CommandParser
from ..destination import check_writable
from ..device_option import DEVICE, search_placement
from ..model_options import BATCH_SIZE, add_model_arguments, load_model, model_settings
from ..option_types import positive
from ..query_removal import add_remove_query, mined_own
from ..saved_options import options_of, save_options
from ..shown_warnings import warnings_as_facts
from ..sources import check_source
from ..terminal import count, fact, note, title

if TYPE_CHECKING:
    from ...models import BiEncoder


def add_arguments(parser: CommandParser) -> None:
    """Adds the options of `tilefold mine`."""
    parser.add_input("data", "a training file, a folder of a collection, or a name of ir_datasets")
    option = parser.add_argument
    option("--out", required=True, metavar="FILE", help="JSONL with the negatives")
    option("--split", default="train", help="split of a collection (default: %(default)s)")
    words = "rank by BM25, as DPR did, not with a model"
    option("--bm25", action=argparse.BooleanOptionalAction, default=False, help=words)
    option("--title-format", metavar="TEXT", help="with --bm25 (default: {title} {text})")
    option(
        "--negatives",
        type=positive,
        default=10,
        metavar="N",
        help="negatives for each query (default: 10)",
    )
    option = parser.add_argument_group("which documents are negatives").add_argument
    option("--range-min", type=int, default=0, metavar="N", help="leave out the N best documents")
    option("--range-max", type=int, metavar="N", help="from the N best documents (default: all)")
    option("--min-score", type=float, metavar="X", help="lowest score")
    option("--max-score", type=float, metavar="X", help="highest score")
    option("--absolute-margin", type=float, metavar="X", help="scores below the positive's by X")
    option(
        "--relative-margin",
        type=float,
        metavar="X",
        help="scores below the positive's by this share, such as 0.05",
    )
    option(
        "--sampling",
        choices=("top", "random"),
        default="top",
        help="best or random ones (default: top)",
    )
    option("--seed", type=int, help="seed of random sampling (default: 0)")
    add_remove_query(parser, "text, and id for collections of BEIR")
    add_model_arguments(parser, "query", "document", default=None)


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold mine`."""
    check_writable(args.out, "--out")
    _check_options(args)
    check_source(args.data)
    if not args.bm25:
        args.model, args.seed = args.model or "minilm", args.seed or 0
    model = None if args.bm25 else load_model(args)
    data = read_training(args.data, split=args.split)
    title(f"Hard negatives for {args.data}")
    fact("queries", f"{len(data):,} on {len(data.documents):,} documents")
    own = mined_own(data, args.remove_query, args.data)
    # The file keeps titles and prompts apart; what is ranked has them joined.
    joined = data.joined(args.title_format or TITLE_FORMAT if model is None else model.title_format)
    if model is None:
        mined = _mine_bm25(joined, own, args)
    else:
        mined = _mine_dense(joined, own, model, args)
    if data.negative_scores is not None:
        fact("teacher scores", "those of the negatives in the file go with them")
    counts = np.diff(mined.negatives.offsets)
    write_training(args.out, data.with_negatives(mined.negatives))
    save_options(options_of(args), f"{args.out}.yaml")
    short = int((counts < args.negatives).sum())
    fact("negatives", f"{counts.mean():.1f} a query; {count(short, 'query')} with fewer")
    note(f"Wrote {args.out}. Train on it: tilefold train --train_path {args.out} ...")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Refuses options out of range before the work, and those without effect with BM25."""
    Ranks("mine", args.negatives, args.range_min, args.range_max)
    window = (args.min_score, args.max_score, args.absolute_margin, args.relative_margin)
    ScoreWindow("mine", *window)
    if not args.bm25:
        if args.title_format is not None:
            raise ValueError("--title-format goes with --bm25; a model has its own")
        return
    check_title_format(args.title_format or TITLE_FORMAT, "mine")
    scores = ("min_score", "max_score", "absolute_margin", "relative_margin", "model", "seed")
    given = [name for name in scores if getattr(args, name) is not None]
    given += [*model_settings(args), *(["sampling"] if args.sampling != "top" else [])]
    given += ["batch_size"] if args.batch_size != BATCH_SIZE else []
    given += ["device"] if args.device != DEVICE else []
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} does not go with --bm25")


def _mine_bm25(data: TrainingSet, own: Lists, args: argparse.Namespace) -> Any:
    with warnings_as_facts("BM25"), show_progress("mine", len(data)) as display:
        return mine_bm25(
            data.queries,
            data.documents,
            data.positives,
            n_negatives=args.negatives,
            range_min=args.range_min,
            range_max=args.range_max,
            groups=_groups(data),
            exclude=own,
            remove_query="none",  # own has those of texts without prompts and titles
            is_positive=_has_answer(data),
            progress=display,
        )


def _groups(data: TrainingSet) -> NDArray[np.int64]:
    """Groups documents with equal text, which count as one."""
    return text_groups(data.documents)


def _has_answer(data: TrainingSet) -> Callable[[int, int], bool] | None:
    """Returns the rule of DPR, which rejects passages with an answer; None without answers."""
    if not any(data.answers):
        return None
    from ...evaluate import has_answer

    return lambda query, document: has_answer(data.documents[document], data.answers[query])


def _mine_dense(data: TrainingSet, own: Lists, model: BiEncoder, args: argparse.Namespace) -> Any:
    queries, documents = (
        encode(texts, batch_size=args.batch_size)
        for encode, texts in (
            (model.encode_queries, data.queries),
            (model.encode_documents, data.documents),
        )
    )
    names = ("range_min", "range_max", "min_score", "max_score", "absolute_margin")
    placement = search_placement(args)
    with show_progress("mine", len(data)) as display:
        return mine(
            queries if placement is None else placement.place(queries),
            documents,
            data.positives,
            n_negatives=args.negatives,
            groups=_groups(data),
            exclude=own,
            progress=display,
            **{
                name: getattr(args, name)
                for name in (*names, "relative_margin", "sampling", "seed")
            },
        )
