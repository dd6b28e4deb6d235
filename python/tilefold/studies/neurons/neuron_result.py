"""Result of the study of neurons."""

from __future__ import annotations

from dataclasses import dataclass

from ...evaluate import Interval
from ...version import __version__
from ..paired_comparison import PairedComparison
from .neuron_settings import NeuronSettings

SIDES = ("queries", "passages")  # fields of the result


@dataclass(frozen=True)
class ActiveNeurons:
    """Numbers of neurons of a sub-layer that are active in texts, above one threshold.

    Args:
        sub_layer: layer and kind, such as "0 intermediate".
        threshold: share of a text's largest attribution.
        base, model: neurons that are active in any text.
        base_half, model_half: neurons that are active in more than half of the texts, which the
            paper calls centralised.
    """

    sub_layer: str
    threshold: float
    base: int
    base_half: int
    model: int
    model_half: int


@dataclass(frozen=True)
class SurveyComparison:
    """Surveys of the same texts in the base and in the retriever.

    Args:
        texts: how many there are.
        paraphrase_groups: groups of texts that count as one.
        spread: over how many neurons attributions are spread (claim C2).
        active: neurons of each sub-layer that are active, above each threshold.
        shares: for each model and sub-layer the share of texts in which a neuron is active; the
            largest of each bin of neurons.
    """

    texts: int
    paraphrase_groups: int
    spread: tuple[PairedComparison, ...]
    active: tuple[ActiveNeurons, ...]
    shares: dict[str, dict[str, tuple[float, ...]]]


@dataclass(frozen=True)
class TopPassage:
    """A passage in which a neuron has a large activation."""

    text: str
    activation: float


@dataclass(frozen=True)
class TopNeuron:
    """An intermediate neuron that training made active in more passages.

    Args:
        layer, neuron: its place.
        base, retriever: shares of passages in which it is active.
        passages: in which its activation is largest.
    """

    layer: int
    neuron: int
    base: float
    retriever: float
    passages: tuple[TopPassage, ...]


@dataclass(frozen=True)
class RankingEffect:
    """Measures of rankings while neurons of the query encoder are scaled.

    Args:
        model: base or retriever.
        neurons: how many are scaled.
        intervention: none, knocked out, amplified, or others knocked out (the control).
        measures: mean and interval by the name of the measure.
        changes: of the same measures against no intervention.
    """

    model: str
    neurons: int
    intervention: str
    measures: dict[str, Interval]
    changes: dict[str, Interval]


@dataclass(frozen=True)
class KnowledgeNeurons:
    """Knowledge neurons of facts, chosen in one way.

    Args:
        by: attribution, or activation as a baseline.
        share: of a fact's prompts that have to share a neuron.
        neurons: of each fact, how many.
        by_layer: neurons of all facts in each layer.
        shared_in_relation: neurons that two facts of one relation share on average; NaN where no
            relation has two facts.
        shared_with_others: the same of facts of two relations.
        relation_neurons: neurons of each relation, shared by its facts.
    """

    by: str
    share: float
    neurons: tuple[int, ...]
    by_layer: tuple[int, ...]
    shared_in_relation: float
    shared_with_others: float
    relation_neurons: dict[str, int]


@dataclass(frozen=True)
class FactEffect:
    """Probability of the correct word in a gap while a fact's neurons are scaled.

    Args:
        by: how the neurons were chosen.
        prompts: own, or other fact as a control.
        intervention: knocked out or amplified.
        facts: how many have neurons.
        before: probability as it is.
        change: of the probability.
        random: the change when as many random neurons of the same layers are scaled.
    """

    by: str
    prompts: str
    intervention: str
    facts: int
    before: Interval
    change: Interval
    random: Interval


@dataclass(frozen=True)
class FactNeurons:
    """Knowledge neurons of a world's facts in the base."""

    facts: int
    chosen: tuple[KnowledgeNeurons, ...]
    effects: tuple[FactEffect, ...]


@dataclass(frozen=True)
class NeuronResult:
    """Result of `run_neurons`.

    Args:
        settings: of the run.
        title: names the models and the data.
        threshold: share of a text's largest attribution above which a neuron is active.
        queries, passages: surveys of texts.
        top: neurons that training made active in more passages.
        rankings: effects of knock-outs on rankings; empty where there are too few queries.
        facts: knowledge neurons, of a world alone.
        constants: parameters that are no settings.
        version: of tilefold.
    """

    settings: NeuronSettings
    title: str
    threshold: float
    queries: SurveyComparison
    passages: SurveyComparison
    top: tuple[TopNeuron, ...]
    rankings: tuple[RankingEffect, ...]
    facts: FactNeurons | None
    constants: dict[str, int | float | tuple[float, ...]]
    version: str = __version__
