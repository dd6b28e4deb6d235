"""Runs the study of neurons: surveys of both models, top passages, knock-outs and facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..study import NoStepStore, Reporter, StepStore
from ..subject import BASE, RETRIEVER, Subject, load_subject
from .drawn_texts import PARAPHRASES, draw_passages, draw_queries
from .fact_neurons import COARSE_SHARES, RELATION_SHARE, study_facts
from .gap_reports import reported_gaps
from .knock_out import ATTRIBUTED_QUERIES, RANDOM_DRAWS, knock_out_rankings
from .neuron_result import SIDES, NeuronResult, TopNeuron, TopPassage
from .neuron_settings import NeuronSettings
from .surveys import compare_surveys, encoder_of, survey_texts

if TYPE_CHECKING:
    from ...mechanisms import Survey

_TOP_NEURONS = 6
_TOP_TEXT_LENGTH = 240  # characters shown of a passage


def run_neurons(
    settings: NeuronSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> NeuronResult:
    """Attributes texts to neurons of a retriever and of its base, and knocks neurons out.

    Neurons are rows of feed-forward weights, attributed by integrated gradients (Reichman and
    Heck, 2024; Dai et al., 2022).

    Args:
        settings: models, data and numbers of texts.
        steps: keeps attributions, so that a run that was stopped continues.
        progress: receives reports.

    Raises:
        OSError: no such file or model.
        ValueError: data that cannot be read.

    Example:
        >>> settings = NeuronSettings(world="tiny", queries=40, passages=10)
        >>> result = run_neurons(settings)  # doctest: +SKIP
        >>> result.queries.spread[0].difference  # doctest: +SKIP
        Interval(mean=31.2, low=24.5, high=38.0)
    """
    steps, progress = steps or NoStepStore(), progress or Reporter()
    with reported_gaps(progress):
        return _run(settings, steps, progress)


def _run(settings: NeuronSettings, steps: StepStore, progress: Reporter) -> NeuronResult:
    subject = load_subject(settings, paraphrases=PARAPHRASES, progress=progress)
    rows, groups = draw_queries(subject, settings.queries, settings.seed)
    queries = subject.data.take(rows)
    passages = draw_passages(queries, settings.passages, settings.seed)
    texts = {"queries": queries.queries, "passages": [queries.documents[d] for d in passages]}
    progress.fact("texts", f"{len(rows):,} queries, {len(passages):,} passages")
    surveys = {
        name: {
            side: survey_texts(settings, subject, name, side, texts[side], steps, progress)
            for side in SIDES
        }
        for name in (BASE, RETRIEVER)
    }
    alike = "paraphrases" if subject.world else "queries of one passage"
    compared = {
        side: compare_surveys(
            surveys[BASE][side],
            surveys[RETRIEVER][side],
            groups if side == "queries" else [],
            alike,
        )
        for side in SIDES
    }
    return NeuronResult(
        settings,
        subject.title,
        settings.active_threshold,
        compared["queries"],
        compared["passages"],
        _top_neurons(settings, subject, surveys, texts["passages"], progress),
        knock_out_rankings(settings, subject, queries, groups, steps, progress),
        None if subject.world is None else study_facts(settings, subject, steps, progress),
        _constants(settings),
    )


def _constants(settings: NeuronSettings) -> dict[str, int | float | tuple[float, ...]]:
    from ...mechanisms.neurons.survey import THRESHOLDS

    found: dict[str, int | float | tuple[float, ...]] = {
        "threshold": settings.active_threshold,
        "thresholds": tuple(THRESHOLDS),
        "random_draws": RANDOM_DRAWS,
        "attributed_queries": ATTRIBUTED_QUERIES,
    }
    if settings.world is None:
        return found
    shares = {f"coarse_share_by_{by}": share for by, share in COARSE_SHARES.items()}
    return {**found, "facts": settings.n_facts, **shares, "relation_share": RELATION_SHARE}


def _top_neurons(
    settings: NeuronSettings,
    subject: Subject,
    surveys: Mapping[str, Mapping[str, Survey]],
    passages: Sequence[str],
    progress: Reporter,
) -> tuple[TopNeuron, ...]:
    """Neurons that are active in more passages than in the base, with their top passages."""
    from ...mechanisms.neurons.top_texts import top_texts

    shares = {}
    for name in (BASE, RETRIEVER):
        survey = surveys[name]["passages"]
        place = survey.thresholds.index(survey.threshold)
        shares[name] = survey.intermediate[place] / len(survey.active)
    gain = shares[RETRIEVER] - shares[BASE]
    n = min(_TOP_NEURONS, np.count_nonzero(gain > 0))
    order = np.argsort(-gain, axis=None, kind="stable")[:n]
    neurons = [(int(i // gain.shape[1]), int(i % gain.shape[1])) for i in order]
    if not neurons:
        return ()
    found = top_texts(
        encoder_of(subject, RETRIEVER, "passages"),
        documents := subject.data.documents,
        neurons,
        batch_size=settings.batch_size,
        progress="top passages" if progress.bars else False,
    )
    return tuple(
        TopNeuron(
            layer,
            neuron,
            round(float(shares[BASE][layer, neuron]), 4),
            round(float(shares[RETRIEVER][layer, neuron]), 4),
            tuple(
                TopPassage(" ".join(documents[hit.text].split())[:_TOP_TEXT_LENGTH], hit.activation)
                for hit in found[layer, neuron]
            ),
        )
        for layer, neuron in neurons
    )
