"""Sections of a report on active neurons, and of the whole study of neurons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...report import Figure, Figures, Listing, Paragraph, Section, Table, heat_maps, lines
from ...report.figures import Line
from ...report.number_format import comparison_columns
from .intervention_report import fact_section, ranking_section
from .neuron_result import SIDES, NeuronResult, SurveyComparison, TopNeuron


def neuron_sections(result: NeuronResult) -> list[Section]:
    """Returns active neurons, their spread, top passages, knock-outs and facts.

    Args:
        result: of `run_neurons`.
    """
    words = (
        "A neuron is a row of a feed-forward sub-layer's weights. Its attribution score is its "
        "share in the embedding's length (integrated gradients of weights, as in the "
        f"reproducibility study); in a text where it exceeds {result.threshold:g} of the text's "
        "largest score, the neuron is active."
    )
    sides = [(side, getattr(result, side)) for side in SIDES]
    sections = [
        Section(
            "Active neurons",
            [
                Paragraph(words),
                Figures([_heat(side, found, result.threshold) for side, found in sides]),
                Figures([_active(side, found, result.threshold) for side, found in sides]),
                *(_thresholds(side, found) for side, found in sides),
            ],
        ),
        Section(
            "Is knowledge spread over more neurons?",
            [*(_spread(side, found) for side, found in sides)],
        ),
    ]
    if result.top:
        sections.append(_top(result.top))
    if result.rankings:
        sections.append(ranking_section(result.rankings))
    if result.facts is not None:
        sections.append(fact_section(result.facts))
    return sections


def _heat(side: str, found: SurveyComparison, threshold: float) -> Figure:
    maps = {}
    labels: list[str] = []
    for model, shares in found.shares.items():
        labels = list(shares)
        width = max(map(len, shares.values()))
        maps[f"{model}, {side}"] = np.array([_widened(v, width) for v in shares.values()])
    svg = heat_maps(
        f"heat {side}",
        labels,
        maps,
        x_label="neurons (largest of a bin)",
        bar_label=f"share of {side}",
    )
    alt = (
        f"Heat maps of base and retriever: shares of {side} in which neurons are active, a row for "
        f"each of {len(labels)} sub-layers"
    )
    caption = (
        f"In how many of {found.texts:,} {side} a neuron is active, that is above {threshold:g} "
        "of the text's largest attribution."
    )
    return Figure(svg, alt, caption)


def _widened(values: Sequence[float], width: int) -> NDArray[np.float64]:
    """Repeats values: narrower sub-layers have fewer bins."""
    return np.asarray(values)[np.arange(width) * len(values) // width]


def _active(side: str, found: SurveyComparison, threshold: float) -> Figure:
    rows = [row for row in found.active if row.threshold == threshold]
    series = {}
    for kind in ("intermediate", "output"):
        own = [row for row in rows if row.sub_layer.endswith(kind)]
        series[f"base, {kind}"] = Line([row.base for row in own])
        series[f"retriever, {kind}"] = Line([row.model for row in own])
    layers = [row.sub_layer.split()[0] for row in rows if row.sub_layer.endswith("output")]
    svg = lines(
        f"active {side}",
        layers,
        series,
        x_label="layer",
        y_label="active neurons",
        limits=(0, None),
    )
    totals = [sum(getattr(row, key) for row in rows) for key in ("base", "model")]
    alt = (
        f"Neurons that are active in any of the {side}, by layer: {totals[0]:,} in all for the "
        f"base, {totals[1]:,} for the retriever"
    )
    change = f" ({totals[1] / totals[0] - 1:+.0%})" if totals[0] else ""
    caption = (
        f"Neurons active in at least one of the {side}: {totals[0]:,} to {totals[1]:,}{change}."
    )
    return Figure(svg, alt, caption)


def _thresholds(side: str, found: SurveyComparison) -> Table:
    """Counts active neurons of all sub-layers above every threshold."""
    rows = []
    for threshold in dict.fromkeys(row.threshold for row in found.active):
        own = [row for row in found.active if row.threshold == threshold]
        cells = [f"{threshold:g}"]
        for suffix in ("", "_half"):
            base, model = (
                sum(getattr(row, f"{name}{suffix}") for row in own) for name in ("base", "model")
            )
            cells += [f"{base:,}", f"{model:,}", f"{model / base - 1:+.0%}" if base else ""]
        rows.append(cells)
    header = ["threshold", "base", "retriever", "change", "base, half", "retriever, half", "change"]
    caption = (
        f"Neurons of all sub-layers that are active in any of the {side}, and in more than half of "
        "them, above each share of a text's largest attribution."
    )
    return Table(header, rows, caption)


def _spread(side: str, found: SurveyComparison) -> Table:
    rows = found.spread
    caption = (
        f"Per text, {side}, paraphrases counted as one (claim C2: training decentralises). The "
        "effective number is the exponential of the entropy of attributions; p: paired "
        "randomisation test, corrected over the rows (Holm)."
    )
    return Table.from_columns(side, [row.name for row in rows], comparison_columns(rows), caption)


def _top(neurons: Sequence[TopNeuron]) -> Section:
    items = []
    for neuron in neurons:
        heading = (
            f"Layer {neuron.layer}, neuron {neuron.neuron}: active in {neuron.base:.0%} of "
            f"passages for the base, in {neuron.retriever:.0%} for the retriever"
        )
        items.append((heading, [f"{hit.activation:.2f}: {hit.text}" for hit in neuron.passages]))
    words = (
        "The intermediate neurons that training made active in more passages, and the passages in "
        "which the retriever's have the largest activations."
    )
    return Section("Top passages of neurons", [Paragraph(words), Listing(items)])
