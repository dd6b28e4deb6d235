"""Effects on rankings of knocking out or amplifying neurons of the query encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...files.steps import digest_of
from ..paired_comparison import group_means
from ..study import Reporter, StepStore
from ..subject import BASE, RETRIEVER, Subject
from .neuron_result import RankingEffect
from .neuron_settings import NeuronSettings

if TYPE_CHECKING:
    from ...data import TrainingSet

MEASURES = ("RR@10", "R@10")
ATTRIBUTED_QUERIES = 100  # at most, from which neurons are chosen
RANDOM_DRAWS = 3  # of other neurons, whose measures are averaged
_NEGATIVES = 4
_BATCH = 8  # queries in a backward pass


def knock_out_rankings(
    settings: NeuronSettings,
    subject: Subject,
    queries: TrainingSet,
    groups: Sequence[Sequence[int]],
    steps: StepStore,
    progress: Reporter,
) -> tuple[RankingEffect, ...]:
    """Measures rankings without the neurons of the largest attribution scores, and without others.

    Neurons are chosen from some of the queries, and rankings are measured on the rest; queries of
    a group are on one side, and count as one.

    Args:
        settings: numbers of neurons, steps of integrated gradients, seed.
        subject: models and data; all documents of the data are ranked.
        queries: with their positives and hard negatives.
        groups: rows of queries that ask for the same passages, in order.
        steps: keeps vectors of documents and attributions.
        progress: receives reports.

    Returns:
        Effects for the base and for the retriever; empty where there are too few queries.
    """
    cut = min(ATTRIBUTED_QUERIES, len(queries) // 2)
    within = next((group for group in groups if group[0] <= cut <= group[-1]), [cut])
    cut = within[0] or within[-1] + 1
    if not 0 < cut < len(queries):
        progress.warn("Knock-outs need queries to choose neurons from, and others to rank for.")
        return ()
    known = queries.take(np.arange(cut))
    ranked = queries.take(np.arange(cut, len(queries)))
    passages = draw_candidates(known, len(subject.data.documents), settings.seed)
    if not passages:
        progress.warn("Knock-outs need a query with both a relevant passage and another one.")
        return ()
    own = [[row - cut for row in group] for group in groups if group[0] >= cut]
    effects: list[RankingEffect] = []
    for name in (BASE, RETRIEVER):
        effects += _knock_out(
            settings, subject, name, known, passages, ranked, own, steps, progress
        )
    return tuple(effects)


def _knock_out(
    settings: NeuronSettings,
    subject: Subject,
    name: str,
    known: TrainingSet,
    passages: Mapping[int, Sequence[int]],
    ranked: TrainingSet,
    groups: Sequence[Sequence[int]],
    steps: StepStore,
    progress: Reporter,
) -> list[RankingEffect]:
    from ...mechanisms.neurons.interventions import random_neurons, retrieval_effect, strongest
    from ...mechanisms.neurons.knowledge_neurons import leave_others

    encoder = subject.models[name].query_encoder
    documents, attribution = _attribute(settings, subject, name, known, passages, steps, progress)
    relevant = ranked.positives
    qrels = (relevant.offsets, relevant.indices, np.ones(len(relevant.indices)))

    def measured(neurons: Any, factor: float) -> dict[str, Any]:
        options: dict[str, Any] = {"measures": MEASURES, "batch_size": settings.batch_size}
        return retrieval_effect(
            encoder, ranked.queries, documents, qrels, neurons, factor, **options
        )

    whole = measured(frozenset(), 1.0)

    def effect(n: int, intervention: str, values: Mapping[str, Any]) -> RankingEffect:
        return _effect(name, n, intervention, values, whole, groups)

    effects = [effect(0, "none", whole)]
    for n in progress.track(settings.knock_out, f"knock-outs, {name}"):
        own = strongest(attribution, n)
        if not leave_others(own, attribution.shape[2]):
            progress.warn(
                f"{n} neurons of the {name} are more than half of a layer, which leaves too few "
                "others to compare with."
            )
            break
        effects.append(effect(n, "knocked out", measured(own, 0.0)))
        effects.append(effect(n, "amplified", measured(own, 2.0)))
        draws = [
            measured(random_neurons(encoder, own, seed=settings.seed + draw), 0.0)
            for draw in range(RANDOM_DRAWS)
        ]
        mean = {key: np.mean([draw[key] for draw in draws], axis=0) for key in whole}
        effects.append(effect(n, "others knocked out", mean))
    return effects


def _attribute(
    settings: NeuronSettings,
    subject: Subject,
    name: str,
    known: TrainingSet,
    passages: Mapping[int, Sequence[int]],
    steps: StepStore,
    progress: Reporter,
) -> tuple[Any, Any]:
    """Returns vectors of all documents, and attribution scores of the chosen queries."""
    model, data = subject.models[name], subject.data
    depends = [subject.fingerprints(name), digest_of(data.documents)]
    documents = steps.once(
        f"documents {name}",
        depends,
        lambda: {
            "rows": model.encode_corpus(
                data.documents,
                batch_size=settings.batch_size,
                progress=f"documents, {name}" if progress.bars else False,
            )
        },
    )["rows"]
    candidates = np.array(list(passages.values()))
    texts = [known.queries[row] for row in passages]

    def make() -> dict[str, Any]:
        found = _attribution(settings.steps, model, texts, documents[candidates], progress)
        return {"attribution": found}

    digest = digest_of([texts, candidates.tolist()])
    kept = steps.once(f"retrieval {name}", [*depends, digest, settings.steps], make)
    return documents, kept["attribution"]


def draw_candidates(known: TrainingSet, n: int, seed: int) -> dict[int, list[int]]:
    """Draws a relevant passage and four hard negatives for each query, or random negatives.

    All queries get as many candidates, two at least: queries to which nearly every passage is
    relevant are left out.

    Args:
        known: queries with positives and hard negatives.
        n: documents to draw random negatives from.
        seed: of the draw.

    Returns:
        Candidates by the row of the query; the relevant one comes first.
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


def _attribution(
    n_steps: int, model: Any, queries: Sequence[str], candidates: Any, progress: Reporter
) -> Any:
    """Attributes the probability of the first candidate among those of its query."""
    import torch

    from ...mechanisms import activation_attribution, retrieval

    encoder = model.query_encoder
    found = []
    for begin in progress.track(range(0, len(queries), _BATCH), "retrieval"):
        some = queries[begin : begin + _BATCH]
        tokens = encoder.pad(encoder.tokenize(some))
        shown = torch.from_numpy(candidates[begin : begin + _BATCH])
        target = retrieval(encoder, shown, torch.zeros(len(some), dtype=torch.int64))
        positions = tokens["attention_mask"]
        own = activation_attribution(encoder, tokens, target, positions, steps=n_steps)
        found.append(own.scores)
    return np.concatenate(found)


def _effect(
    name: str,
    n: int,
    intervention: str,
    values: Mapping[str, Any],
    whole: Mapping[str, Any],
    groups: Sequence[Sequence[int]],
) -> RankingEffect:
    from ...evaluate import bootstrap

    measures = {key: bootstrap(group_means(own, groups)) for key, own in values.items()}
    changes = {key: bootstrap(group_means(own - whole[key], groups)) for key, own in values.items()}
    return RankingEffect(name, n, intervention, measures, changes)
