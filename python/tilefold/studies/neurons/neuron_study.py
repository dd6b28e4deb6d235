"""`tilefold mechanisms neurons`: which neurons texts go through, and what they are good for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cli.terminal import count, fact, heading, table
from ...files.steps import Steps, digest_of
from ..subject import BASE, RETRIEVER, Subject, load_subject, preset_of

if TYPE_CHECKING:
    from ...mechanisms import Survey
    from ...models import Encoder

_PARAPHRASES = (0, 1, 2, 3)  # of a world's questions: overlaps are of their neurons
_CHUNK = 32  # texts of a step: what is lost when the study is stopped
SIDES = ("queries", "passages")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the study."""
    option = parser.add_argument_group("neurons").add_argument
    option("--queries", type=int, default=200, metavar="N", help="that are read (default: 200)")
    option("--passages", type=int, default=50, metavar="N", help="relevant ones (default: 50)")
    option("--steps", type=int, default=20, metavar="N", help="of each path (default: 20)")
    words = "share of a text's largest attribution (default: 0.1, or the preset's)"
    option("--threshold", type=float, metavar="T", help=words)
    option("--facts", type=int, metavar="N", help="of a world, in gaps (default: 60)")
    option(
        "--knock-out",
        nargs="+",
        action="extend",
        type=int,
        metavar="N",
        help="so many neurons of the encoder of queries (default: 1 4 16 64)",
    )


def check(args: argparse.Namespace) -> None:
    """Before models are loaded or trained."""
    for name, least in (("queries", 1), ("passages", 1), ("steps", 2), ("facts", 2)):
        given = getattr(args, name)
        if given is not None and given < least:
            raise ValueError(f"--{name} must be at least {least}, got {given}")
    if args.facts is not None and not args.world:
        raise ValueError("--facts goes with --world: of other data, no facts are known")
    for n in args.knock_out or []:
        if n < 1:
            raise ValueError(f"--knock-out must be at least 1, got {n}")
    if not 0 < threshold_of(args) < 1:
        raise ValueError(f"--threshold must be above 0 and below 1, got {args.threshold}")


def run(args: argparse.Namespace, steps: Steps) -> dict[str, Any]:
    """Surveys both models, knocks neurons out, and writes tables; returns all numbers."""
    from .gaps import of_facts
    from .knock_out import of_rankings

    subject = load_subject(args, paraphrases=_PARAPHRASES)
    rows, groups = drawn_queries(subject, args.queries, args.seed)
    queries = subject.data.take(rows)
    passages = _passages(queries, args.passages, args.seed)
    texts = {"queries": queries.queries, "passages": [queries.documents[d] for d in passages]}
    fact("texts", f"{len(texts['queries']):,} queries, {len(texts['passages']):,} passages")
    surveys = {
        name: {side: _surveyed(args, subject, name, side, texts[side], steps) for side in SIDES}
        for name in (BASE, RETRIEVER)
    }
    found: dict[str, Any] = {"title": subject.title, "threshold": threshold_of(args)}
    for side in SIDES:
        one, other = (surveys[name][side] for name in (BASE, RETRIEVER))
        alike = "paraphrases" if subject.world else "queries of one passage"
        found[side] = _compared(one, other, groups if side == "queries" else [], alike)
        _show_spread(side, found[side])
    found["top"] = _top(args, subject, surveys, texts["passages"])
    found["rankings"] = of_rankings(args, subject, queries, groups, steps)
    if subject.world is not None:
        found["facts"] = of_facts(args, subject, steps)
    found["settings"] = _settings(args)
    return found


def threshold_of(args: argparse.Namespace) -> float:
    """Above which share of a text's largest attribution a neuron is active."""
    from ...mechanisms.neurons.survey import THRESHOLD

    if args.threshold is not None:
        return float(args.threshold)
    return preset_of(args).threshold if args.preset else THRESHOLD


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What was not asked for, but taken."""
    from ...mechanisms.neurons.survey import THRESHOLDS
    from ..neurons import gaps, knock_out

    found = {"threshold": threshold_of(args), "thresholds": list(THRESHOLDS)}
    return {**found, **knock_out.settings(args), **(gaps.settings(args) if args.world else {})}


def drawn_queries(subject: Subject, n: int, seed: int) -> tuple[Any, list[list[int]]]:
    """Rows of queries, those that have paraphrases first, and the groups of them.

    No row beside a group asks for the same passages as one of it.
    """
    from ...mechanisms.probing.candidates import paraphrases

    data = subject.data
    rng = np.random.default_rng([seed, 7])
    if subject.world is not None:  # questions about a fact stand one after the other
        together = np.arange(len(data)).reshape(-1, len(_PARAPHRASES)).tolist()
    else:
        together = paraphrases(data)
    chosen: list[int] = []
    groups = []
    for place in rng.permutation(len(together)):
        group = together[int(place)][: len(_PARAPHRASES)]
        if len(chosen) + len(group) <= n:
            groups.append(list(range(len(chosen), len(chosen) + len(group))))
            chosen += group
    # Paraphrases are not independent texts: what is left of groups, or of those that did not fit,
    # is read where there is nothing else at all.
    others = np.setdiff1d(np.arange(len(data)), [row for group in together for row in group])
    if not len(chosen) and not len(others):
        others = np.array([group[0] for group in together])
    chosen += others[rng.permutation(len(others))[: n - len(chosen)]].tolist()
    return np.array(chosen), groups


def _passages(queries: Any, n: int, seed: int) -> list[int]:
    """Relevant passages, each once."""
    relevant = np.unique(queries.positives.indices)
    drawn = np.random.default_rng([seed, 8]).permutation(len(relevant))[:n]
    return [int(d) for d in relevant[np.sort(drawn)]]


def _surveyed(
    args: argparse.Namespace,
    subject: Subject,
    name: str,
    side: str,
    texts: Sequence[str],
    steps: Steps,
) -> Survey:
    """Some texts at a time, each of which is a step."""
    from ...mechanisms.neurons.survey import Survey, survey_neurons

    encoder = encoder_of(subject, name, side)
    weights = subject.weights(name)
    parts = []
    options = {"threshold": threshold_of(args), "steps": args.steps}
    for begin in range(0, len(texts), _CHUNK):
        some = texts[begin : begin + _CHUNK]
        label = f"{name}, {side} {begin + 1} to {begin + len(some)} of {len(texts)}"

        def make(some: Sequence[str] = some, label: str = label) -> Any:
            return survey_neurons(encoder, some, progress=label, **options).arrays()

        depends = [weights, digest_of(list(some)), options]
        parts.append(Survey.from_arrays(steps.once(f"survey {name} {side}", depends, make)))
    fact("surveyed", f"{count(len(texts), side[:-1] if side == 'passages' else 'query')} of {name}")
    return Survey.merged(parts)


def encoder_of(subject: Subject, name: str, side: str) -> Encoder:
    """Queries are read by the encoder of queries, passages by that of documents."""
    model = subject.models[name]
    return model.query_encoder if side == "queries" else model.document_encoder


def _compared(base: Survey, model: Survey, groups: list[list[int]], alike: str) -> dict[str, Any]:
    from ..findings.claims import engaged, spread

    shares = {
        name: {key: _binned(values) for key, values in survey.shares().items()}
        for name, survey in ((BASE, base), (RETRIEVER, model))
    }
    return {
        "texts": len(base.active),
        "paraphrased": len(groups),
        "spread": spread(base, model, groups, alike=alike),
        "engaged": engaged(base, model),
        "shares": shares,
    }


def _binned(values: Any, bins: int = 64) -> list[float]:
    """The largest of each run of neurons: what a heat map has room for."""
    parts = np.array_split(np.asarray(values), min(bins, len(values)))
    return [round(float(part.max()), 4) for part in parts]


def _show_spread(side: str, found: dict[str, Any]) -> None:
    from ...report.number_format import comparison

    heading(f"Neurons that {count(found['texts'], 'text')} go through: {side}")
    table([row["name"] for row in found["spread"]], comparison(found["spread"]))


def _top(
    args: argparse.Namespace,
    subject: Subject,
    surveys: dict[str, dict[str, Survey]],
    passages: Sequence[str],
) -> list[dict[str, Any]]:
    """Neurons that passages engage more often than before, and what they fire for."""
    from ...mechanisms.neurons.top_texts import top_texts

    shares = {}
    for name in (BASE, RETRIEVER):
        survey = surveys[name]["passages"]
        place = survey.thresholds.index(survey.threshold)
        shares[name] = survey.intermediate[place] / len(survey.active)
    gain = shares[RETRIEVER] - shares[BASE]
    order = np.argsort(-gain, axis=None, kind="stable")[: min(6, np.count_nonzero(gain > 0))]
    neurons = [(int(i // gain.shape[1]), int(i % gain.shape[1])) for i in order]
    if not neurons:
        return []
    encoder = encoder_of(subject, RETRIEVER, "passages")
    documents, batch = subject.data.documents, args.batch_size
    found = top_texts(encoder, documents, neurons, batch_size=batch, progress="top passages")
    return [
        {
            "layer": layer,
            "neuron": place,
            "base": round(float(shares[BASE][layer, place]), 4),
            "retriever": round(float(shares[RETRIEVER][layer, place]), 4),
            "passages": [
                {"text": " ".join(documents[hit.text].split())[:240], "activation": hit.activation}
                for hit in found[layer, place]
            ],
        }
        for layer, place in neurons
    ]
