"""What becomes of rankings when neurons of the encoder of queries are knocked out or amplified."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cli.terminal import heading, note, table
from ...files.steps import Steps, digest_of
from ..subject import BASE, RETRIEVER, Subject

if TYPE_CHECKING:
    from ...data import TrainingSet

_SIZES = [1, 4, 16, 64]
_MEASURES = ("RR@10", "R@10")
_ATTRIBUTED = 100  # queries whose neurons are looked for
_DRAWS = 3  # of other neurons
_NEGATIVES = 4
_BATCH = 8  # queries at once


def of_rankings(
    args: argparse.Namespace,
    subject: Subject,
    queries: TrainingSet,
    groups: Sequence[Sequence[int]],
    steps: Steps,
) -> list[dict[str, Any]]:
    """Measures of rankings without the neurons that retrieval is owed to most, and without others.

    Which those are is read from some of the queries, and the measures are of the others; queries of
    a group are on one side, and count as one.
    """
    cut = min(_ATTRIBUTED, len(queries) // 2)
    within = next((group for group in groups if group[0] <= cut <= group[-1]), [cut])
    cut = within[0] or within[-1] + 1
    if not 0 < cut < len(queries):
        note("Too few queries to choose neurons from some, and to rank for others.")
        return []
    known, asked = queries.take(np.arange(cut)), queries.take(np.arange(cut, len(queries)))
    passages = drawn_passages(known, len(subject.data.documents), args.seed)
    if not passages:
        note("No query has both a relevant passage and another one: nothing to rank.")
        return []
    own = [[row - cut for row in group] for group in groups if group[0] >= cut]
    rows: list[dict[str, Any]] = []
    for name in (BASE, RETRIEVER):
        rows += _of_model(args, subject, name, known, passages, asked, own, steps)
    _show_rankings(rows)
    return rows


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What was asked for, or is taken."""
    sizes = sorted(set(args.knock_out or _SIZES))
    return {
        "knock_out": sizes,
        "draws_of_others": _DRAWS,
        "neurons_of_at_most_queries": _ATTRIBUTED,
    }


def _of_model(
    args: argparse.Namespace,
    subject: Subject,
    name: str,
    known: TrainingSet,
    passages: Mapping[int, Sequence[int]],
    asked: TrainingSet,
    groups: Sequence[Sequence[int]],
    steps: Steps,
) -> list[dict[str, Any]]:
    from ...mechanisms.neurons.interventions import random_neurons, retrieval_effect, strongest
    from ...mechanisms.neurons.knowledge_neurons import leave_others

    model = subject.models[name]
    data = subject.data
    depends = [subject.weights(name), digest_of(data.documents)]
    documents = steps.once(
        f"documents {name}",
        depends,
        lambda: {"rows": model.encode_corpus(data.documents, batch_size=args.batch_size)},
    )["rows"]
    shown = np.array(list(passages.values()))
    texts = digest_of([[known.queries[row] for row in passages], shown.tolist()])
    attribution = steps.once(
        f"retrieval {name}",
        [*depends, texts, args.steps],
        lambda: {
            "attribution": _owed(
                args, model, [known.queries[row] for row in passages], documents[shown]
            )
        },
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
    rows = [_row(name, 0, "none", whole, whole, groups)]
    width = attribution.shape[2]
    for n in settings(args)["knock_out"]:
        own = strongest(attribution, n)
        if not leave_others(own, width):
            note(f"{n} neurons of the {name} are more than half of a layer, which has no others.")
            break
        rows.append(_row(name, n, "knocked out", measured(own, 0.0), whole, groups))
        rows.append(_row(name, n, "amplified", measured(own, 2.0), whole, groups))
        draws = [
            measured(random_neurons(encoder, own, seed=args.seed + draw), 0.0)
            for draw in range(_DRAWS)
        ]
        mean = {key: np.mean([draw[key] for draw in draws], axis=0) for key in whole}
        rows.append(_row(name, n, "others knocked out", mean, whole, groups))
    return rows


def drawn_passages(known: TrainingSet, n: int, seed: int) -> dict[int, list[int]]:
    """Of each query a relevant passage and four hard negatives, or others where there are fewer.

    All have as many, two at least: queries to which nearly every passage is relevant are left out.
    """
    found = {}
    for row in range(len(known)):
        relevant = known.positives.of(row)
        hard = known.negatives.of(row)[:_NEGATIVES]
        others = np.setdiff1d(np.arange(n), np.concatenate([relevant, hard]))
        rng = np.random.default_rng([seed, 9, row])
        more = rng.permutation(others)[: _NEGATIVES - len(hard)]
        if len(hard) + len(more):
            found[row] = [int(d) for d in (relevant[0], *hard, *more)]
    fewest = min(map(len, found.values()), default=0)
    return {row: passages[:fewest] for row, passages in found.items()}


def _owed(args: argparse.Namespace, model: Any, queries: Sequence[str], passages: Any) -> Any:
    """To which neurons the first passage's probability among all of a query is owed."""
    import torch
    from tqdm.auto import tqdm

    from ...mechanisms import activation_attribution, retrieval

    encoder = model.query_encoder
    found = []
    for begin in tqdm(range(0, len(queries), _BATCH), desc="retrieval", disable=None, leave=False):
        some = queries[begin : begin + _BATCH]
        tokens = encoder.pad(encoder.tokenize(some))
        shown = torch.from_numpy(passages[begin : begin + _BATCH])
        target = retrieval(encoder, shown, torch.zeros(len(some), dtype=torch.int64))
        positions = tokens["attention_mask"]
        found.append(activation_attribution(encoder, tokens, target, positions, steps=args.steps))
    return np.concatenate(found)


def _row(
    name: str,
    n: int,
    what: str,
    values: dict[str, Any],
    whole: dict[str, Any],
    groups: Sequence[Sequence[int]],
) -> dict[str, Any]:
    from ...evaluate import bootstrap
    from ..findings.claims import by_group

    found: dict[str, Any] = {"model": name, "neurons": n, "intervention": what}
    for measure, of_queries in values.items():
        found[measure] = list(bootstrap(by_group(of_queries, groups)))
        change = by_group(of_queries - whole[measure], groups)
        found[f"{measure} change"] = list(bootstrap(change))
    return found


def _show_rankings(rows: list[dict[str, Any]]) -> None:
    from ...report.number_format import interval

    measure = _MEASURES[0]
    heading(f"{measure} without the neurons that retrieval is owed to most")
    columns: dict[str, list[str]] = {}
    for name in (BASE, RETRIEVER):
        own = [row for row in rows if row["model"] == name]
        columns[name] = [f"{row[measure][0]:.3f}" for row in own]
        columns[f"{name}, change"] = [
            interval(row[f"{measure} change"], signed=True) for row in own
        ]
    longest = max((BASE, RETRIEVER), key=lambda name: len(columns[name]))
    for cells in columns.values():
        cells += [""] * (len(columns[longest]) - len(cells))
    labels = [
        "as it is" if not row["neurons"] else f"{row['neurons']} {row['intervention']}"
        for row in rows
        if row["model"] == longest
    ]
    table(labels, columns)
