"""What a study of neurons found, as sections of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...report import Figure, Figures, Listing, Paragraph, Section, Table, heat_maps, lines
from ...report.figures import Limits, Line
from ...report.number_format import comparison, interval, number

Found = Mapping[str, Any]
_SIDES = ("queries", "passages")


def neuron_sections(found: Found) -> list[Section]:
    """Where texts go, how spread that is, what neurons fire for, and what is lost without them.

    Args:
        found: what `tilefold mechanisms neurons` wrote.
    """
    words = (
        "A neuron is a row of a feed-forward sub-layer's weights. What the embedding's length owes "
        "to it is its attribution (integrated gradients of weights, as in the reproducibility "
        f"study); in a text where it exceeds {found['threshold']:g} of the text's largest, the "
        "neuron is active."
    )
    sections = [
        Section(
            "Which neurons texts go through",
            [
                Paragraph(words),
                Figures([_heat(side, found[side], found["threshold"]) for side in _SIDES]),
                Figures([_engaged(side, found[side], found["threshold"]) for side in _SIDES]),
                *(_sweep(side, found[side]) for side in _SIDES),
            ],
        ),
        Section(
            "Is knowledge spread over more neurons?",
            [*(_spread(side, found[side]) for side in _SIDES)],
        ),
    ]
    if found["top"]:
        sections.append(_top(found["top"]))
    if found["rankings"]:
        sections.append(_rankings(found["rankings"]))
    if found.get("facts"):
        sections.append(_facts(found["facts"]))
    return sections


def _heat(side: str, found: Found, threshold: float) -> Figure:
    maps = {}
    labels: list[str] = []
    for model, shares in found["shares"].items():
        labels = list(shares)
        wide = max(map(len, shares.values()))
        maps[f"{model}, {side}"] = np.array([_widened(v, wide) for v in shares.values()])
    svg = heat_maps(
        f"heat {side}",
        labels,
        maps,
        x_label="neurons (largest of a run)",
        bar_label=f"share of {side}",
    )
    alt = (
        f"Heat maps of base and retriever: shares of {side} in which neurons are active, a row for "
        f"each of {len(labels)} sub-layers"
    )
    caption = (
        f"In how many of {found['texts']:,} {side} a neuron is active, that is above {threshold:g} "
        "of the text's largest attribution."
    )
    return Figure(svg, alt, caption)


def _widened(values: Sequence[float], wide: int) -> NDArray[np.float64]:
    """Values repeated, as narrower sub-layers have fewer runs."""
    return np.asarray(values)[np.arange(wide) * len(values) // wide]


def _engaged(side: str, found: Found, threshold: float) -> Figure:
    rows = [row for row in found["engaged"] if row["threshold"] == threshold]
    series = {}
    for kind in ("intermediate", "output"):
        own = [row for row in rows if row["sub_layer"].endswith(kind)]
        series[f"base, {kind}"] = Line([row["base"] for row in own])
        series[f"retriever, {kind}"] = Line([row["model"] for row in own])
    layers = [row["sub_layer"].split()[0] for row in rows if row["sub_layer"].endswith("output")]
    svg = lines(
        f"engaged {side}",
        layers,
        series,
        x_label="layer",
        y_label="neurons active",
        limits=(0, None),
    )
    totals = [sum(row[key] for row in rows) for key in ("base", "model")]
    alt = (
        f"Neurons that any of the {side} engages, by layer: {totals[0]:,} in all for the base, "
        f"{totals[1]:,} for the retriever"
    )
    change = f" ({totals[1] / totals[0] - 1:+.0%})" if totals[0] else ""
    caption = (
        f"Neurons active in at least one of the {side}: {totals[0]:,} to {totals[1]:,}{change}."
    )
    return Figure(svg, alt, caption)


def _sweep(side: str, found: Found) -> Table:
    """Neurons of all sub-layers at every threshold."""
    rows = []
    for threshold in dict.fromkeys(row["threshold"] for row in found["engaged"]):
        own = [row for row in found["engaged"] if row["threshold"] == threshold]
        cells = [f"{threshold:g}"]
        for suffix in ("", "_half"):
            base, model = (sum(row[f"{name}{suffix}"] for row in own) for name in ("base", "model"))
            cells += [f"{base:,}", f"{model:,}", f"{model / base - 1:+.0%}" if base else ""]
        rows.append(cells)
    header = ["threshold", "base", "retriever", "change", "base, half", "retriever, half", "change"]
    caption = (
        f"Neurons of all sub-layers that are active in any of the {side}, and in more than half of "
        "them, above each share of a text's largest attribution."
    )
    return Table(header, rows, caption)


def _spread(side: str, found: Found) -> Table:
    rows = found["spread"]
    caption = (
        f"Per text, {side}, paraphrases counted as one (claim C2: training decentralises). The "
        "effective number is the exponential of the entropy of attributions; p: paired "
        "randomisation test, corrected over the rows (Holm)."
    )
    return Table.of_columns(side, [row["name"] for row in rows], comparison(rows), caption)


def _top(rows: Sequence[Found]) -> Section:
    items = []
    for row in rows:
        heading = (
            f"Layer {row['layer']}, neuron {row['neuron']}: active in {row['base']:.0%} of "
            f"passages for the base, in {row['retriever']:.0%} for the retriever"
        )
        texts = [f"{hit['activation']:.2f}: {hit['text']}" for hit in row["passages"]]
        items.append((heading, texts))
    words = (
        "The intermediate neurons that training made active in more passages, and the passages in "
        "which the retriever's fire most, with the activation."
    )
    return Section("What neurons fire for", [Paragraph(words), Listing(items)])


def _rankings(rows: Sequence[Found]) -> Section:
    measure = next(key for key in rows[0] if key.startswith("RR"))
    most = max(row[measure][2] or 0 for row in rows)
    models = dict.fromkeys(row["model"] for row in rows)
    figures = [
        _curves(measure, model, own, (0, 1.05 * most or 1))
        for model in models
        if len(own := [row for row in rows if row["model"] == model]) > 1
    ]
    header = ["model", "neurons", "intervention", measure, "change"]
    cells = [
        [
            row["model"],
            str(row["neurons"]),
            row["intervention"],
            interval(row[measure]),
            interval(row[f"{measure} change"], signed=True),
        ]
        for row in rows
    ]
    words = (
        "Neurons to which the relevant passage's probability is owed most (integrated gradients of "
        "activations, from other queries) are multiplied by 0 or by 2 while queries are encoded; "
        "as a control, as many others of the same layers. Knowledge that many ways lead to should "
        "survive."
    )
    caption = (
        "Rankings of all passages of the data, by queries that the neurons were not chosen from; "
        "intervals over queries, those that ask for the same passages counted as one."
    )
    return Section(
        "Rankings without neurons",
        [Paragraph(words), Figures(figures), Table(header, cells, caption)],
    )


def _curves(measure: str, model: str, rows: Sequence[Found], limits: Limits) -> Figure:
    """A measure over numbers of neurons, for each intervention; the first row is of none."""
    whole, *scaled = rows
    series = {}
    for what in dict.fromkeys(row["intervention"] for row in scaled):
        values = [whole, *(row for row in scaled if row["intervention"] == what)]
        series[what] = Line(*([row[measure][i] for row in values] for i in range(3)))
    svg = lines(
        f"rankings {model}",
        list(dict.fromkeys(row["neurons"] for row in rows)),
        series,
        x_label="neurons",
        y_label=f"{measure}, {model}",
        limits=limits,
    )
    alt = f"{measure} of the {model} is {number(whole[measure][0])}" + "".join(
        f", {number(row[measure][0])} without {row['neurons']}"
        for row in scaled
        if row["intervention"] == "knocked out"
    )
    return Figure(svg, alt, f"{model.capitalize()}, neurons of its query encoder.")


def _facts(found: Found) -> Section:
    words = (
        f"Of {found['facts']} facts that the base was told, the neurons to which the right word in "
        "the gap is owed, and as a baseline those that are most active there, in most prompts of a "
        "fact (Dai et al., 2022; they are chosen from the same prompts that are asked without "
        "them, as published). The retriever has no head that fills gaps."
    )
    header = "neurons by", "of a fact", "of prompts", "shared in a relation", "with others"
    chosen = Table(
        [*header, "of a relation", "by layer"],
        [
            [
                row["by"],
                f"{np.mean(row['neurons']):.1f}",
                f"{row['share']:.0%}",
                number(row["shared"]["same relation"]),
                number(row["shared"]["other relation"]),
                number(float(np.mean([*of])) if (of := row["of_relations"].values()) else None),
                ", ".join(map(str, row["by_layer"])),
            ]
            for row in found["chosen"]
        ],
        "Neurons of a fact on average; how many two facts share, of one relation or of two; how "
        "many a tenth of a relation's facts have, or two facts where a tenth are fewer.",
    )
    effects = Table(
        ["prompts of", "neurons by", "before", "change", "as many others"],
        [
            [
                f"{row['prompts']}, {row['intervention']}",
                row["by"],
                interval(row["before"]),
                interval(row["change"], signed=True),
                interval(row["random"], signed=True),
            ]
            for row in found["effects"]
        ],
        "Probability of the right word when a fact's neurons are scaled, over facts that have any.",
    )
    return Section("Words in gaps without neurons", [Paragraph(words), chosen, effects])
