"""What becomes of rankings when neurons of the encoder of queries are knocked out or amplified."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from ..terminal import heading, table
from .steps import Steps, digest_of
from .subject import BASE, RETRIEVER, Subject

if TYPE_CHECKING:
    from ..data import TrainingSet

_SIZES = [1, 4, 16, 64]
_MEASURES = ("RR@10", "R@10")
_ATTRIBUTED = 100  # queries whose neurons are looked for
_DRAWS = 3  # of other neurons


def of_rankings(
    args: argparse.Namespace, subject: Subject, queries: TrainingSet, steps: Steps
) -> list[dict[str, Any]]:
    """Measures of rankings without the neurons that retrieval is owed to most, and without others.

    Which those are is read from some of the queries, and the measures are of the others.
    """
    cut = min(_ATTRIBUTED, len(queries) // 2)
    known, asked = queries.take(np.arange(cut)), queries.take(np.arange(cut, len(queries)))
    if not len(known):
        return []
    rows: list[dict[str, Any]] = []
    for name in (BASE, RETRIEVER):
        rows += _of_model(args, subject, name, known, asked, steps)
    _show_rankings(rows)
    return rows


def _of_model(
    args: argparse.Namespace,
    subject: Subject,
    name: str,
    known: TrainingSet,
    asked: TrainingSet,
    steps: Steps,
) -> list[dict[str, Any]]:
    from ..mechanisms.interventions import random_neurons, retrieval_effect, strongest

    model = subject.models[name]
    data = subject.data
    depends = [subject.weights(name), digest_of(data.documents)]
    documents = steps.once(
        f"documents {name}",
        depends,
        lambda: {"rows": model.encode_corpus(data.documents, batch_size=args.batch_size)},
    )["rows"]
    texts = digest_of([known.queries, known.positives.indices.tolist()])
    attribution = steps.once(
        f"retrieval {name}",
        [*depends, texts, args.steps],
        lambda: {"attribution": _owed(args, model, known, documents)},
    )["attribution"]
    judged = asked.positives
    qrels = (judged.offsets, judged.indices, np.ones(len(judged.indices)))
    encoder = model.query_encoder

    def measured(neurons: Any, factor: float) -> dict[str, Any]:
        options = {"measures": _MEASURES, "batch_size": args.batch_size}
        return retrieval_effect(
            encoder, asked.queries, documents, qrels, neurons, factor, **options
        )

    whole = measured(frozenset(), 1.0)
    rows = [_row(name, 0, "none", whole, whole)]
    most = attribution.shape[1] * attribution.shape[2] // 2
    for n in [n for n in args.knock_out or _SIZES if n <= most]:
        own = strongest(attribution, n)
        rows.append(_row(name, n, "knocked out", measured(own, 0.0), whole))
        rows.append(_row(name, n, "amplified", measured(own, 2.0), whole))
        draws = [
            measured(random_neurons(encoder, own, seed=args.seed + draw), 0.0)
            for draw in range(_DRAWS)
        ]
        mean = {key: np.mean([draw[key] for draw in draws], axis=0) for key in whole}
        rows.append(_row(name, n, "others knocked out", mean, whole))
    return rows


def _owed(args: argparse.Namespace, model: Any, known: TrainingSet, documents: Any) -> Any:
    """To which neurons the relevant passage's probability among hard negatives is owed."""
    import torch
    from tqdm.auto import tqdm

    from ..mechanisms import activation_attribution, retrieval

    encoder = model.query_encoder
    found = []
    for row in tqdm(range(0, len(known), 8), desc="retrieval", disable=None, leave=False):
        rows = range(row, min(row + 8, len(known)))
        tokens = encoder.pad(encoder.tokenize([known.queries[i] for i in rows]))
        passages = [
            [known.positives.of(i)[0], *_others(known, i, len(documents), args.seed)] for i in rows
        ]
        shown = torch.from_numpy(documents[np.array(passages)])
        target = retrieval(encoder, shown, torch.zeros(len(rows), dtype=torch.int64))
        positions = tokens["attention_mask"]
        found.append(activation_attribution(encoder, tokens, target, positions, steps=args.steps))
    return np.concatenate(found)


def _others(known: TrainingSet, row: int, n: int, seed: int) -> list[int]:
    """Four hard negatives, or other passages where there are fewer."""
    hard: list[int] = known.negatives.of(row)[:4].tolist()
    rng = np.random.default_rng([seed, 9, row])
    taken = {*hard, *known.positives.of(row).tolist()}
    while len(hard) < min(4, n - len(taken)):
        drawn = int(rng.integers(n))
        if drawn not in taken:
            hard.append(drawn)
            taken.add(drawn)
    return hard


def _row(
    name: str, n: int, what: str, values: dict[str, Any], whole: dict[str, Any]
) -> dict[str, Any]:
    from ..evaluate import bootstrap

    found: dict[str, Any] = {"model": name, "neurons": n, "intervention": what}
    for measure, of_queries in values.items():
        found[measure] = list(bootstrap(of_queries))
        found[f"{measure} change"] = list(bootstrap(of_queries - whole[measure]))
    return found


def _show_rankings(rows: list[dict[str, Any]]) -> None:
    measure = _MEASURES[0]
    heading(f"{measure} without the neurons that retrieval is owed to most")
    columns: dict[str, list[str]] = {}
    for name in (BASE, RETRIEVER):
        own = [row for row in rows if row["model"] == name]
        columns[name] = [f"{row[measure][0]:.3f}" for row in own]
        columns[f"{name}, change"] = [
            "{:+.3f} [{:+.3f}, {:+.3f}]".format(*row[f"{measure} change"]) for row in own
        ]
    labels = [
        "as it is" if not row["neurons"] else f"{row['neurons']} {row['intervention']}"
        for row in rows
        if row["model"] == BASE
    ]
    table(labels, columns)
