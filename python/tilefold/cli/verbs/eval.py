"""`tilefold eval`: evaluates dense, BM25 and fused rankings on the judgments of a collection."""

from __future__ import annotations

import argparse
import importlib
import os
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...data import Collection, read_collection, read_questions, write_run
from ...data.runs import check_run_names
from ...evaluate import Measure, answer_hits, bootstrap, evaluate, holm, paired_test, top_k_accuracy
from ...progress import show_progress
from ...ragged_lists import Lists
from ...retrieval.exact_search import search
from ...retrieval.running_search import SearchResult
from ..command_parser import CommandParser
from ..demo.comparison import (
    MEASURES,
    Embedded,
    check_judged,
    describe,
    embed,
    lexical,
    show_quality,
)
from ..destination import check_writable
from ..device_option import on_host, search_placement, torch_device
from ..evaluation_page import ranked_systems, write_report
from ..model_options import add_model_arguments, check_model, load_model
from ..option_types import positive
from ..query_removal import add_remove_query, evaluated_own, excluding
from ..results import Gain, write_results
from ..saved_options import options_of, save_options
from ..sources import check_source
from ..terminal import fact, heading, note, title

if TYPE_CHECKING:
    from ...models import BiEncoder

_DEPTHS = (1, 5, 20, 100)  # of top-k accuracies, as in DPR

Values = dict[str, NDArray[np.float64]]


def add_arguments(parser: CommandParser) -> None:
    """Adds the options of `tilefold eval`."""
    parser.add_input(
        "data",
        "a folder in the layout of BEIR or MS MARCO, or a name of ir_datasets: beir/scifact",
    )
    option = parser.add_argument
    option("--split", default="test", help="split of its judgments (default: %(default)s)")
    option(
        "--measures",
        nargs="+",
        action="extend",
        type=_measure,
        metavar="NAME",
        help=f"names of ir_measures (default: {' '.join(MEASURES)})",
    )
    option("--k", type=positive, default=100, metavar="N", help="results per query (default: 100)")
    option("--run", metavar="FILE", help="write the dense ranking as a TREC run")
    option("--out", metavar="FILE", help="write all measures as JSON")
    option("--report", metavar="FILE", help="write an HTML page with figures and tables of queries")
    option("--answers", metavar="FILE", help="questions with answers, for top-k accuracy as in DPR")
    option("--baseline", metavar="NAME", help="model to compare with, with its own settings")
    add_remove_query(parser, "id for collections of BEIR, else none")
    add_model_arguments(parser, "query", "document")


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold eval`."""
    args.measures = args.measures or [Measure.parse(name) for name in MEASURES]
    deepest = max(args.measures, key=lambda measure: measure.cutoff or 0)
    if (deepest.cutoff or 0) > args.k:
        raise ValueError(f"{deepest} needs --k {deepest.cutoff}, got --k {args.k}")
    check_writable(args.run, "--run")
    check_writable(args.out, "--out")
    check_writable(args.report, "--report")
    _check_different(args)
    if args.report:
        importlib.import_module("tilefold.report")  # a missing package is an error before the work
    check_source(args.data)
    for name in filter(None, (args.model, args.baseline)):
        check_model(name)
    collection = read_collection(args.data, args.split)
    check_judged(collection)
    if args.run:
        check_run_names(collection.query_ids, collection.document_ids)
    answers = _answers(args, collection) if args.answers else None
    title(f"{args.data}, split {args.split}")
    describe(collection)
    own = evaluated_own(collection, args.remove_query, args.data)
    models = {"dense": _dense(args, collection, own, load_model(args), args.model)}
    if args.baseline:
        from ...models.model_record import open_model

        length = args.document_max_length
        options = {} if length is None else {"document_max_length": length}
        baseline = open_model(args.baseline, **options).to(torch_device(args))
        models["baseline"] = _dense(args, collection, own, baseline, args.baseline)
    dense = models["dense"].found
    rankings = {name: ranking.found for name, ranking in models.items()}
    rankings |= lexical(collection, dense, args.k, own)
    heading("Mean over queries, 95% bootstrap interval")
    values = {
        name: evaluate(ranking.ids, collection.qrels, args.measures)
        # Answers are searched for in texts and not in titles, as in DPR.
        | ({} if answers is None else _accuracies(ranking.ids, collection.documents, answers))
        for name, ranking in rankings.items()
    }
    show_quality(values)
    gains = _compare(args, values["dense"], values["baseline"]) if args.baseline else {}
    if args.out:
        write_results(args.out, args, values, gains, removed=len(own.indices))
    if args.run:
        write_run(args.run, collection.query_ids, collection.document_ids, *dense)
        save_options(options_of(args), f"{args.run}.yaml")
        heading(f"Wrote the dense ranking to {args.run}")
    if args.report:
        embedded = {name: ranking.embedded for name, ranking in models.items()}
        systems = ranked_systems(rankings, values, embedded)
        write_report(args, collection, systems, gains, own)
        heading(f"Wrote figures and tables of queries to {args.report}")
    return 0


class _Ranked(NamedTuple):
    """A ranking by a model, and the embeddings that it is from if a report needs them."""

    found: SearchResult
    embedded: Embedded | None


def _check_different(args: argparse.Namespace) -> None:
    """Raises ValueError where one file would be written twice."""
    paths: dict[str, str] = {}
    for option in ("run", "out", "report"):
        path = getattr(args, option)
        if path is None:
            continue
        target = os.path.realpath(path)
        if target in paths:
            raise ValueError(f"--{option} {path}: it is the file of --{paths[target]}")
        paths[target] = option


def _dense(
    args: argparse.Namespace, collection: Collection, own: Lists, model: BiEncoder, name: str
) -> _Ranked:
    """Ranks documents by a model, which joins titles and texts by its own title_format."""
    pooling = model.document_encoder.pooling
    fact("model", f"{name}, {model.dim} dimensions, {pooling} pooling")
    embedded = embed(collection, model, batch_size=args.batch_size)
    placement = search_placement(args, args.k)
    with show_progress("search", len(embedded.documents)) as display:
        found = search(
            embedded.queries if placement is None else placement.place(embedded.queries),
            embedded.documents,
            args.k,
            exclude=excluding(own),
            progress=display,
        )
    return _Ranked(on_host(found, placement), embedded if args.report else None)


def _answers(args: argparse.Namespace, collection: Collection) -> list[tuple[str, ...]]:
    """Reads the answers of every query."""
    known = {question.id: question.answers for question in read_questions(args.answers)}
    missing = [name for name in collection.query_ids if name not in known]
    if missing:
        raise ValueError(
            f"--answers {args.answers} has none for {len(missing)} of "
            f"{len(collection.query_ids)} queries, such as {missing[0]!r}"
        )
    return [known[name] for name in collection.query_ids]


def _accuracies(
    ids: NDArray[np.int64], passages: list[str], answers: list[tuple[str, ...]]
) -> Values:
    hits = answer_hits(ids, passages, answers)
    return top_k_accuracy(hits, [k for k in _DEPTHS if k <= ids.shape[1]])


def _compare(args: argparse.Namespace, ours: Values, theirs: Values) -> dict[str, Gain]:
    heading(f"{args.model} against {args.baseline}, the same queries")
    tests = {name: paired_test(ours[name], theirs[name]) for name in ours}
    adjusted = holm([test.p_value for test in tests.values()])
    gains = {
        name: Gain(*bootstrap(ours[name] - theirs[name]), float(p))
        for name, p in zip(tests, adjusted, strict=True)
    }
    for name, gain in gains.items():
        fact(name, f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}], p = {gain.p:.4f}")
    n = max(test.n for test in tests.values())
    note(
        f"Two-sided paired permutation tests over {n:,} queries, corrected (Holm) for "
        f"{len(tests)} measures."
    )
    return gains


def _measure(text: str) -> Measure:
    try:
        return Measure.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
