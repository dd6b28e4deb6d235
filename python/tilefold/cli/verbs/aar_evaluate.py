"""`tilefold aar evaluate`: the accuracy of a target LM on a task, by what it reads."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ...data import read_documents, read_run
from ...files.atomic import replacing_text
from ..command_parser import CommandParser
from ..destination import check_writable
from ..option_types import positive
from ..saved_options import options_of
from ..shown_warnings import warnings_as_facts
from ..terminal import count, fact, note, title


def add_arguments(parser: CommandParser) -> None:
    """Adds the options of `tilefold aar evaluate`."""
    option = parser.add_argument
    option("--task", required=True, metavar="TASK", help="popqa:PATH or mmlu:PATH")
    option(
        "--target",
        required=True,
        metavar="LM",
        help="fusion:NAME, concatenation:NAME or api:MODEL@ADDRESS",
    )
    option("--run", metavar="FILE", help="TREC run with passages (default: closed book)")
    option("--corpus", metavar="FILE", help="documents of the run")
    option(
        "--n-passages",
        type=positive,
        metavar="N",
        help="passages of a question that are read (default: the paper's number)",
    )
    option(
        "--genread",
        action="store_true",
        help="in place of --run: one document of 150 tokens that the LM writes",
    )
    option("--cache", metavar="FILE", help="keep the responses of a service: none is sent twice")
    option("--out", metavar="FILE", help="write accuracies and answers as JSON")
    parser.add_config()


def run(args: argparse.Namespace) -> None:
    """Runs `tilefold aar evaluate`."""
    from ...aar import task_documents
    from ...evaluate import bootstrap
    from ...studies.aar.aar_files import open_target, open_task

    if (args.run is None) != (args.corpus is None):
        raise ValueError("--run and --corpus go together, got one of them")
    if args.genread and args.run is not None:
        raise ValueError("--genread: not with --run, as the LM reads its own document alone")
    if args.run is None and args.n_passages is not None:
        raise ValueError("--n-passages needs --run, whose passages it counts")
    check_writable(args.out, "--out")
    check_writable(args.cache, "--cache")
    task = open_task(args.task)
    passages = None if args.run is None else _passages(args, task)
    if args.cache is not None and not args.target.startswith("api:"):
        raise ValueError("--cache: has an effect with --target api:MODEL@ADDRESS alone")
    target = open_target(args.target, None if args.cache is None else Path(args.cache))
    title(f"{target.name} on {args.task}")
    n_passages, documents = args.n_passages, None
    if args.genread:
        documents = task_documents(target, task, progress=True)
        empty = sum(not own for own in documents)
        fact("documents", f"{len(documents) - empty:,} written, {empty:,} empty (closed book)")
        if empty < len(documents):
            passages, n_passages = documents, 1
    with warnings_as_facts("warning"):
        result = task.run(target, passages, n_passages, progress=True)
    for name, value in result.summary.items():
        fact(name, f"{value:.4f}")
    interval = bootstrap(result.values)
    note(
        f"Mean over {len(result.values):,} questions {interval.mean:.4f} "
        f"[{interval.low:.4f}, {interval.high:.4f}], 95% bootstrap interval."
    )
    if args.out:
        _write(args, result, documents)
        note(f"Wrote {args.out}.")


def _passages(args: argparse.Namespace, task: Any) -> list[list[str]]:
    """Returns the texts of the run for each question."""
    documents = read_documents(args.corpus)
    ranking = read_run(args.run).ranking([one.id for one in task.questions], documents.ids)
    if (ranking >= len(documents)).any():
        raise ValueError(f"--run {args.run} has documents that {args.corpus} lacks")
    if not (ranking >= 0).any():
        raise ValueError(f"--run {args.run} has none of the questions of {args.task}")
    without = int((ranking < 0).all(axis=1).sum())
    if without:
        note(
            f"{args.run} has none of {count(without, 'question')} of {len(ranking):,}, which are "
            f"answered closed book."
        )
    return [[documents.texts[row] for row in own if row >= 0] for own in ranking.tolist()]


def _write(args: argparse.Namespace, result: Any, documents: list[list[str]] | None) -> None:
    rows = zip(result.ids, result.answers, result.values.tolist(), strict=True)
    answers = [{"_id": name, "answer": text, "right": value} for name, text, value in rows]
    if documents is not None:
        for one, own in zip(answers, documents, strict=True):
            one["document"] = "".join(own)
    found = {
        "options": options_of(args),
        "summary": result.summary,
        "parts": result.parts,
        "answers": answers,
    }
    with replacing_text(args.out) as file:
        file.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
