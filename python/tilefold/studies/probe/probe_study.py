"""`tilefold mechanisms probe`: which layers tell a relevant passage from others."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cli.terminal import count, fact, heading, note, table
from ...files.steps import Steps, digest_of
from ..subject import BASE, RANDOM, RETRIEVER, Subject, load_subject

if TYPE_CHECKING:
    from ...mechanisms import Candidates, Probed

_HELD_OUT = 0.3  # of the queries
_REPEATED = (
    "Some queries have only {}, drawn more than once, as published: with more passages than there "
    "are, chance is better than said."
)
_PARAPHRASES = (3,)  # of a world's questions: the retriever was trained on others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the study."""
    option = parser.add_argument_group("probe").add_argument
    option("--mode", default="paired", help="query, passage or paired: which encoder reads what")
    probes = "concatenation, bilinear, interaction, dot product (default: all)"
    option("--probes", nargs="+", action="extend", metavar="NAME", help=probes)
    option(
        "--candidates", nargs="+", action="extend", type=int, metavar="N", help="2 to 5 passages"
    )
    option("--epochs", type=int, default=30, metavar="N", help="of each probe (default: 30)")
    option("--max-samples", type=int, default=5000, metavar="N", help="(default: 5000)")


def check(args: argparse.Namespace) -> None:
    """Before models are loaded or trained."""
    from ...mechanisms.probing.sweep import MODES, check_probes

    check_probes(args.probes or [])
    if args.mode not in MODES:
        raise ValueError(f"--mode: mode must be one of {', '.join(MODES)}, got {args.mode!r}")
    for n in args.candidates or []:
        if not 2 <= n <= 5:
            raise ValueError(f"--candidates must be 2 to 5, got {n}")
    for name in ("epochs", "max_samples"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")


def run(args: argparse.Namespace, steps: Steps) -> dict[str, Any]:
    """Probes every layer of every model, and writes a table; returns all numbers."""
    from ...mechanisms import against_base
    from ...mechanisms.probing.candidates import paraphrases
    from ..findings.claims import discrimination

    subject = load_subject(args, paraphrases=_PARAPHRASES)
    groups = paraphrases(subject.data)
    train, held = _samples(args, subject, groups)
    fact("samples", f"{len(train.queries):,} to fit to, {len(held.queries):,} to ask")
    found = {name: _probed(args, subject, name, train, held, steps) for name in subject.models}
    rows = [row for results in found.values() for row in against_base(results, found[BASE])]
    _show(rows, list(subject.models))
    fewest = min(len(set(passages)) for passages in held.passages.tolist())
    if fewest < max(row["n_candidates"] for row in rows):
        note(_REPEATED.format(count(fewest - 1, "hard negative")))
    plain = {name: [r for r in results if r.control == "none"] for name, results in found.items()}
    of_sample = held.groups(groups)
    alike = [np.flatnonzero(of_sample == group).tolist() for group in np.unique(of_sample)]
    claim = discrimination(plain[RETRIEVER], plain[BASE], alike)
    _show_claim(claim)
    return {
        "title": subject.title,
        "samples": {
            "fitted": len(train.queries),
            "asked": len(held.queries),
            "independent": len(alike),
            "familiar": int(np.isin(held.passages[:, 0], train.passages[:, 0]).sum()),
            "fewest_passages": fewest,
        },
        "results": rows,
        "discrimination": claim,
        "settings": _settings(args),
    }


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What was not asked for, but taken."""
    from ...mechanisms import ConcatenationProbe
    from ...mechanisms.probing.candidates import MOST

    probes, sizes = _asked(args)
    fitted = ConcatenationProbe().get_params()
    names = ("batch_size", "learning_rate", "validation_fraction")
    of_probes = {f"probe_{name}": fitted[name] for name in names}
    held_out = {"held_out": _HELD_OUT, "hard_negatives": MOST}
    return {"probes": probes, "candidates": sizes, **held_out, **of_probes}


def _asked(args: argparse.Namespace) -> tuple[list[str], list[int]]:
    """Probes and numbers of passages, each once."""
    from ...mechanisms.probing.sweep import PROBES

    sizes = args.candidates or range(2, 6)
    return list(dict.fromkeys(args.probes or PROBES)), sorted(set(sizes))


def _samples(
    args: argparse.Namespace, subject: Subject, groups: Sequence[Sequence[int]]
) -> tuple[Candidates, Candidates]:
    """To fit to, and to ask; queries that ask for the same passages are on one side."""
    from ...mechanisms import Candidates

    samples = Candidates.of(subject.data, seed=args.seed)
    rng = np.random.default_rng([args.seed, 6])
    if len(samples.queries) > args.max_samples:
        samples = samples.take(np.sort(rng.permutation(len(samples.queries))[: args.max_samples]))
    train, held = samples.split(_HELD_OUT, groups=groups, seed=args.seed)
    if len(train.queries) < 2 or len(np.unique(held.groups(groups))) < 2:
        independent = len(np.unique(samples.groups(groups)))
        raise ValueError(
            f"{subject.title}: {count(len(samples.queries), 'sample')} of "
            f"{count(independent, 'independent query')} are too few to fit to and to ask"
        )
    return train, held


def _probed(
    args: argparse.Namespace,
    subject: Subject,
    name: str,
    train: Candidates,
    held: Candidates,
    steps: Steps,
) -> list[Probed]:
    """Of one model; controls are of those that were trained, with the fewest candidates."""
    from ...mechanisms import Probed, layers_of, probe_layers
    from ...mechanisms.probing.sweep import CONTROLS

    probes, sizes = _asked(args)
    options: dict[str, Any] = {"probes": probes, "epochs": args.epochs, "seed": args.seed}
    plain, controls = CONTROLS[:1], CONTROLS[1:] if name != RANDOM else ()
    texts = [subject.data.queries, subject.data.documents]
    samples = [part.tolist() for pair in (train, held) for part in pair]
    depends = [subject.weights(name), digest_of([texts, samples]), args.mode, sizes, options]

    def make() -> dict[str, Any]:
        model = subject.models[name]
        rows = layers_of(model, subject.data, args.mode, batch_size=args.batch_size)
        results = [
            result
            for some, asked in ((sizes, plain), ([min(sizes)], controls))
            for result in probe_layers(
                name, rows, train, held, n_candidates=some, controls=asked, **options
            )
        ]
        keys = [
            (r.layer, probes.index(r.probe), r.n_candidates, CONTROLS.index(r.control))
            for r in results
        ]
        return {"keys": np.array(keys), "correct": np.stack([r.correct for r in results])}

    found = steps.once(f"probe {name}", depends, make)
    fact("probed", f"{count(len(found['correct']), 'probe')} of {name}")
    return [
        Probed(name, layer, probes[kind], n, CONTROLS[control], correct)
        for (layer, kind, n, control), correct in zip(
            found["keys"].tolist(), found["correct"], strict=True
        )
    ]


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
                cells = [
                    f"{row['accuracy']:.2f}{_mark(row)}"
                    for row in own
                    if row["control"] == control and row["model"] == model
                ]
                if cells:
                    columns[label] = cells
        table([f"layer {i}" for i in dict.fromkeys(row["layer"] for row in own)], columns)
    note(
        "* differs from the base by McNemar's test, p < 0.05 corrected for layers (Bonferroni). "
        "Layer 0 is the embeddings' output."
    )


def _mark(row: dict[str, Any]) -> str:
    return "*" if row["mcnemar"] < 0.05 and row["model"] != BASE else ""


def _show_claim(rows: Sequence[dict[str, Any]]) -> None:
    from ...report.number_format import comparison

    heading("Does the retriever discriminate better than its base? (mean over layers)")
    table([f"{row['probe']}, of {row['n_candidates']}" for row in rows], comparison(rows))
