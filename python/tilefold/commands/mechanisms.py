"""`tilefold mechanisms`: what training a retriever did to the layers of a model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..data import TrainingSet, read_training
from ..data.lines import replacing
from ..terminal import count, fact, heading, note, table, title
from ..world import SIZES, make_world
from .destination import check_writable
from .model import load_named
from .request import add_input, settings_of

if TYPE_CHECKING:
    from ..encoder import BiEncoder
    from ..mechanisms import Probed

_HELD_OUT = 0.3  # of the queries
_RANDOM = "random weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tilefold mechanisms`."""
    add_input(parser, "study", "probe: which layers tell a relevant passage from others")
    option = parser.add_argument
    option("--world", choices=tuple(SIZES), help="a made-up world, and models that grow in it")
    option("--model", metavar="NAME", help="a trained retriever, beside --base and --data")
    option("--base", metavar="NAME", help="what it was trained from")
    option("--data", metavar="PATH", help="training data with hard negatives")
    option("--split", help="of a collection given as --data (default: train)")
    option("--mode", default="paired", help="query, passage or paired: which encoder reads what")
    probes = "concatenation, bilinear, interaction, dot product (default: all)"
    option("--probes", nargs="+", action="extend", metavar="NAME", help=probes)
    option(
        "--candidates", nargs="+", action="extend", type=int, metavar="N", help="2 to 5 passages"
    )
    option("--epochs", type=int, default=30, metavar="N", help="of each probe (default: 30)")
    option("--max-samples", type=int, default=5000, metavar="N", help="(default: 5000)")
    option("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    option("--batch-size", type=int, default=32, metavar="N", help="texts at a time (default: 32)")
    option("--out", metavar="FILE", help="write every result as JSON")


def main(args: argparse.Namespace) -> int:
    """Runs `tilefold mechanisms`."""
    if args.study != "probe":
        raise ValueError(f"tilefold mechanisms has probe, got {args.study!r}")
    given = [name for name in ("model", "base", "data") if getattr(args, name) is not None]
    if (args.world is None) == (len(given) == 0) or (args.world is None and len(given) < 3):
        raise ValueError("give --world SIZE, or --model, --base and --data")
    if args.world and args.split:
        raise ValueError("--split goes with --data; a world has its own")
    check_writable(args.out, "--out")
    _check_options(args)
    data, models = _of_world(args) if args.world else _of_files(args)
    rows = _probed(args, data, models)
    _show(rows, list(models))
    if args.out:
        found = {"tilefold": __version__, "asked": settings_of(args), "results": rows}
        with replacing(args.out) as file:
            file.write(json.dumps(found, indent=1) + "\n")
        note(f"Wrote {args.out}.")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Before models are trained."""
    from ..mechanisms.sweep import MODES, check_probes

    check_probes(args.probes or [])
    if args.mode not in MODES:
        raise ValueError(f"--mode: mode must be one of {', '.join(MODES)}, got {args.mode!r}")
    for n in args.candidates or []:
        if not 2 <= n <= 5:
            raise ValueError(f"--candidates must be 2 to 5, got {n}")


def _of_world(args: argparse.Namespace) -> tuple[TrainingSet, dict[str, BiEncoder]]:
    """Questions about facts that the retriever was not trained on, and what read them."""
    from ..world.models import fine_tuned, pretrained
    from ..world.texts import split_facts, training_set

    world = make_world(args.world, seed=args.seed)
    train, asked = split_facts(world, seed=args.seed)
    title(f"A {args.world} world, seed {args.seed}")
    fact("facts", f"{len(world.facts):,}, {sum(f.exposed for f in world.facts):,} of them told")
    base = pretrained(world, seed=args.seed)
    untold = pretrained(world, steps=0, seed=args.seed)
    retriever = fine_tuned(world, base, train, seed=args.seed)
    fact("models", str(base.parent))
    options = {"pooling": "cls", "normalize": False}
    models = {
        "base": load_named(str(base), **options),
        "retriever": load_named(str(retriever)),
        _RANDOM: load_named(str(untold), **options),
    }
    return training_set(world, asked, paraphrases=(3,), seed=args.seed), models


def _of_files(args: argparse.Namespace) -> tuple[TrainingSet, dict[str, BiEncoder]]:
    """The base reads as the retriever does: pooled alike, with the same prefixes and lengths."""
    retriever = load_named(args.model)
    queries, documents = retriever.query_encoder, retriever.document_encoder
    base = load_named(
        args.base,
        pooling=queries.pooling,
        query_prefix=queries.prefix,
        document_prefix=documents.prefix,
        query_max_length=queries.max_length,
        document_max_length=documents.max_length,
    )
    data = read_training(
        args.data, split=args.split or "train", title_format=retriever.title_format
    )
    title(f"{args.model} against {args.base}, on {args.data}")
    return data, {"base": base, "retriever": retriever}


def _probed(
    args: argparse.Namespace, data: TrainingSet, models: Mapping[str, BiEncoder]
) -> list[dict[str, Any]]:
    from ..mechanisms import Candidates, against_base, layers_of, probe_layers
    from ..mechanisms.sweep import PROBES

    samples = Candidates.of(data, seed=args.seed)
    rng = np.random.default_rng([args.seed, 6])
    if len(samples.queries) > args.max_samples:
        samples = samples.take(np.sort(rng.permutation(len(samples.queries))[: args.max_samples]))
    train, held = samples.split(_HELD_OUT, seed=args.seed)
    fact("samples", f"{len(train.queries):,} to fit to, {len(held.queries):,} to ask")
    options = {
        "probes": args.probes or list(PROBES),
        "n_candidates": args.candidates or [2, 3, 4, 5],
        "epochs": args.epochs,
        "seed": args.seed,
    }
    found: dict[str, list[Probed]] = {}
    for name, model in models.items():
        rows = layers_of(model, data, args.mode, batch_size=args.batch_size)
        found[name] = probe_layers(name, rows, train, held, **options)
        fact("probed", f"{count(len(found[name]), 'probe')} of {name}")
    return [row for results in found.values() for row in against_base(results, found["base"])]


def _show(rows: list[dict[str, Any]], models: list[str]) -> None:
    """Accuracies by layer, of the smallest number of candidates."""
    n = min(row["n_candidates"] for row in rows)
    for probe in dict.fromkeys(row["probe"] for row in rows):
        own = [row for row in rows if row["probe"] == probe and row["n_candidates"] == n]
        heading(f"{probe.capitalize()}: which of {n} passages is relevant (chance {1 / n:.2f})")
        columns = {}
        for control in dict.fromkeys(row["control"] for row in own):
            for model in models:
                label = model if control == "none" else f"{model}, {control}"
                columns[label] = [
                    f"{row['accuracy']:.2f}{_mark(row)}"
                    for row in own
                    if row["control"] == control and row["model"] == model
                ]
        layers = [f"layer {i}" for i in dict.fromkeys(row["layer"] for row in own)]
        table(layers, columns)
    note(
        "* differs from the base by McNemar's test, p < 0.05 corrected for layers (Bonferroni). "
        "Layer 0 is the embeddings' output."
    )


def _mark(row: dict[str, Any]) -> str:
    return "*" if row["mcnemar"] < 0.05 and row["model"] != "base" else ""
