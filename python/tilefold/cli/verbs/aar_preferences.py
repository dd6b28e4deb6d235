"""`tilefold aar preferences`: positives that a source LM prefers, as a training set."""

from __future__ import annotations

import argparse
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ...data import TrainingSet, read_run, write_training
from ...files.steps import Steps
from ...studies.aar.aar_settings import PositivesMode, SignalName
from ..command_parser import CommandParser
from ..destination import check_folder, check_writable
from ..device_option import torch_device
from ..model_options import add_model_arguments, check_model, load_model
from ..option_types import positive
from ..saved_options import options_of, save_options
from ..shown_warnings import warnings_as_facts
from ..sources import check_source
from ..terminal import count, fact, note, title


def add_arguments(parser: CommandParser) -> None:
    """Adds the options of `tilefold aar preferences`."""
    parser.add_input("data", "a training file, or a folder of a collection")
    option = parser.add_argument
    option("--source-lm", required=True, metavar="NAME", help="LM that annotates")
    option("--out", required=True, metavar="FILE", help="JSONL for 'tilefold train'")
    option("--split", default="train", help="split of a collection (default: %(default)s)")
    option("--answers", metavar="FILE", help="answers of the questions, where data has none")
    option("--run", metavar="FILE", help="TREC run of the retriever, in place of --model")
    option(
        "--signal",
        choices=get_args(SignalName),
        default="attention",
        metavar="NAME",
        help=f"{', '.join(get_args(SignalName))} (default: attention)",
    )
    option(
        "--mode",
        choices=get_args(PositivesMode),
        default="both",
        metavar="NAME",
        help=f"positives: {', '.join(get_args(PositivesMode))} (default: both)",
    )
    for name, default, words in (
        ("n-retrieved", 10, "passages of a question that the LM scores"),
        ("top-k", 2, "passages with the largest scores that become positives"),
        ("depth", 100, "rank of the last passage that may be a hard negative"),
        ("negatives", 30, "hard negatives of a question"),
    ):
        help_text = f"{words} (default: {default})"
        option(f"--{name}", type=positive, default=default, metavar="N", help=help_text)
    option(
        "--exact-positives",
        type=positive,
        metavar="N",
        help="keep questions with N of people and LM",
    )
    option("--seed", type=int, default=0, metavar="N", help="seed of negatives (default: 0)")
    option("--cache", metavar="FOLDER", help="keep rankings and scores, so that a run continues")
    add_model_arguments(parser, "query", "document")


def run(args: argparse.Namespace) -> None:
    """Runs `tilefold aar preferences`."""
    from ...aar import preference_data
    from ...studies.answered_questions import read_answered

    for name, value in (("--negatives", args.negatives), ("--n-retrieved", args.n_retrieved)):
        if value > args.depth:
            raise ValueError(f"{name}: expected at most --depth, {args.depth}, got {value}")
    if args.top_k > args.n_retrieved:
        raise ValueError(
            f"--top-k: expected at most --n-retrieved, {args.n_retrieved}, got {args.top_k}"
        )
    check_writable(args.out, "--out")
    if args.cache is not None:
        check_folder(args.cache, "--cache")
    check_source(args.data)
    if args.run is None:
        check_model(args.model)
    data = read_answered(args.data, args.split, args.answers)
    title(f"Preferences of {args.source_lm} on {args.data}")
    fact("questions", f"{len(data):,} on {count(len(data.documents), 'document')}")
    ranking, scores = _scores(args, data)
    with warnings_as_facts("left out"):
        chosen, merged = preference_data(
            data,
            ranking,
            scores,
            mode=args.mode,
            k=args.top_k,
            depth=args.depth,
            n_negatives=args.negatives,
            seed=args.seed,
            exact_positives=args.exact_positives,
        )
    fact(
        "positives",
        f"{merged.n_human:,} by people, {merged.n_lm:,} by the LM, {merged.n_shared:,} by both",
    )
    for reason, number in chosen.dropped.items():
        fact("left out", f"{count(number, 'question')} with {reason}")
    write_training(args.out, chosen.data)
    save_options(options_of(args), f"{args.out}.yaml")
    note(f"Wrote {count(len(chosen.data), 'question')} to {args.out}.")


def _scores(
    args: argparse.Namespace, data: TrainingSet
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the ranking ``[n, depth]`` and the scores of its first passages ``[n, N]``."""
    from ...studies.aar.aar_stages import check_answers, kept_preferences, kept_ranking
    from ...studies.aar.source_lms import open_source_lm, signal_of
    from ...studies.study import NoStepStore

    steps = NoStepStore() if args.cache is None else Steps(check_folder(args.cache, "--cache"))
    device = torch_device(args)
    source_lm = open_source_lm(args.source_lm, args.signal).to(device)
    signal = signal_of(args.signal, source_lm, batch_size=args.batch_size)
    check_answers(signal, data)  # before the corpus is encoded
    if args.run is None:
        model = load_model(args)
        depth = min(args.depth, len(data.documents))
        ranking = kept_ranking(
            model,
            model.query_texts(data.queries, data.prompts),
            data.documents,
            data.titles,
            depth,
            steps=steps,
            batch_size=args.batch_size,
            progress=True,
        )
    else:
        ranking = read_run(args.run).ranking(data.query_ids, data.document_ids, args.depth)
        unknown = int((ranking >= len(data.documents)).sum())
        if unknown:
            raise ValueError(
                f"--run {args.run}: {count(unknown, 'document')} are not among those of {args.data}"
            )
    scores = kept_preferences(
        signal, data, ranking[:, : args.n_retrieved], steps=steps, progress=True
    )
    return ranking, scores
