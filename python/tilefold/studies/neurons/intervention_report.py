"""Sections of a report on interventions: rankings and facts while neurons are scaled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...report import Figure, Figures, Paragraph, Section, Table, lines
from ...report.canvas import Limits
from ...report.figures import Line
from ...report.number_format import interval, number
from .neuron_result import FactNeurons, RankingEffect


def ranking_section(effects: Sequence[RankingEffect]) -> Section:
    """Returns measures of rankings over numbers of scaled neurons, for both models."""
    measure = next(name for name in effects[0].measures if name.startswith("RR"))
    highs = [effect.measures[measure].high for effect in effects]
    top = max((high for high in highs if high == high), default=0.0)
    figures = [
        _curves(measure, model, own, (0, 1.05 * top or 1))
        for model in dict.fromkeys(effect.model for effect in effects)
        if len(own := [effect for effect in effects if effect.model == model]) > 1
    ]
    header = ["model", "neurons", "intervention", measure, "change"]
    cells = [
        [
            effect.model,
            str(effect.neurons),
            effect.intervention,
            interval(effect.measures[measure]),
            interval(effect.changes[measure], signed=True),
        ]
        for effect in effects
    ]
    words = (
        "Neurons with the largest attribution scores for the relevant passage's probability "
        "(integrated gradients of activations, from other queries) are multiplied by 0 or by 2 "
        "while queries are encoded; as a control, as many others of the same layers. Knowledge "
        "with many pathways should survive."
    )
    caption = (
        "Rankings of all passages of the data, by queries that the neurons were not chosen from; "
        "intervals over queries, those that ask for the same passages counted as one."
    )
    return Section(
        "Rankings without neurons",
        [Paragraph(words), Figures(figures), Table(header, cells, caption)],
    )


def _curves(measure: str, model: str, effects: Sequence[RankingEffect], limits: Limits) -> Figure:
    """Draws a measure over numbers of neurons, for each intervention; the first has none."""
    whole, *scaled = effects
    series = {}
    for intervention in dict.fromkeys(effect.intervention for effect in scaled):
        own = [whole, *(effect for effect in scaled if effect.intervention == intervention)]
        values = [effect.measures[measure] for effect in own]
        series[intervention] = Line(
            [value.mean for value in values],
            [value.low for value in values],
            [value.high for value in values],
        )
    svg = lines(
        f"rankings {model}",
        list(dict.fromkeys(effect.neurons for effect in effects)),
        series,
        x_label="neurons",
        y_label=f"{measure}, {model}",
        limits=limits,
    )
    alt = f"{measure} of the {model} is {number(whole.measures[measure].mean)}" + "".join(
        f", {number(effect.measures[measure].mean)} without {effect.neurons}"
        for effect in scaled
        if effect.intervention == "knocked out"
    )
    return Figure(svg, alt, f"{model.capitalize()}, neurons of its query encoder.")


def fact_section(found: FactNeurons) -> Section:
    """Returns knowledge neurons of facts, and what scaling them changes."""
    words = (
        f"For {found.facts} facts that the base was trained on, the neurons with the largest "
        "attribution scores for the correct word in the gap, and as a baseline those with the "
        "largest activations there, in most prompts of a fact (Dai et al., 2022; they are chosen "
        "from the same prompts that are tested without them, as published). The retriever has no "
        "masked language model's head."
    )
    header = "neurons by", "of a fact", "of prompts", "shared in a relation", "with others"
    chosen = Table(
        [*header, "of a relation", "by layer"],
        [
            [
                row.by,
                f"{np.mean(row.neurons):.1f}",
                f"{row.share:.0%}",
                number(row.shared_in_relation),
                number(row.shared_with_others),
                number(float(np.mean([*own])) if (own := row.relation_neurons.values()) else None),
                ", ".join(map(str, row.by_layer)),
            ]
            for row in found.chosen
        ],
        "Neurons of a fact on average; how many two facts share, of one relation or of two; how "
        "many a tenth of a relation's facts have, or two facts where a tenth are fewer.",
    )
    effects = Table(
        ["prompts of", "neurons by", "before", "change", "as many others"],
        [
            [
                f"{row.prompts}, {row.intervention}",
                row.by,
                interval(row.before),
                interval(row.change, signed=True),
                interval(row.random, signed=True),
            ]
            for row in found.effects
        ],
        "Probability of the correct word when a fact's neurons are scaled, over facts that have "
        "any.",
    )
    return Section("Words in gaps without neurons", [Paragraph(words), chosen, effects])
