"""What a report of mechanisms shows: pages made from the numbers that studies wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..report import (
    Figure,
    Figures,
    Listing,
    Paragraph,
    Report,
    Section,
    Table,
    heat_maps,
    lines,
)
from ..report.figures import Line

Found = Mapping[str, Any]
_MODELS = ("base", "retriever", "random weights")


def report_of(studies: Mapping[str, Found]) -> Report:
    """The report of one pair of models.

    Args:
        studies: what `tilefold mechanisms` wrote of "probe", of "neurons" or of both.

    Raises:
        ValueError: none of them.
    """
    if not studies:
        raise ValueError("report_of: expected what a study wrote, got none")
    sections: list[Section] = []
    if "probe" in studies:
        sections += _probes(studies["probe"])
    if "neurons" in studies:
        sections += _neurons(studies["neurons"])
    sections.append(_settings(studies))
    titles = list(dict.fromkeys(str(found["title"]) for found in studies.values()))
    summary = (
        "A retriever beside the model that it was trained from: what their layers tell apart, and "
        "which neurons texts go through. Intervals are 95% bootstrap intervals over samples or "
        "texts of one run; other seeds may differ by more."
    )
    return Report(f"Mechanisms: {'; '.join(titles)}", summary, sections)


# ---- probes --------------------------------------------------------------------------------------


def _probes(found: Found) -> list[Section]:
    results = found["results"]
    n = min(row["n_candidates"] for row in results)
    kinds = list(dict.fromkeys(row["probe"] for row in results))
    plain = [row for row in results if row["control"] == "none"]
    words = (
        f"A probe is fitted to the rows of one layer of {found['samples']['fitted']:,} samples, "
        f"and asked which passage is relevant in {found['samples']['asked']:,} others. The "
        "concatenation probe is the published one; it is affine in query and passages, which come "
        "in any order, so that it cannot use the query."
    )
    most = max(row["n_candidates"] for row in results)
    if found["samples"].get("fewest_passages", most) < most:
        words += (
            f" Some queries have only {found['samples']['fewest_passages'] - 1} hard negatives, "
            "drawn more than once, as published: with more passages chance is better than 1/N."
        )
    by_layer = [_accuracies(kind, n, plain) for kind in kinds]
    controls = [_controls(kind, n, results) for kind in kinds]
    more = [figure for figure in controls if figure is not None]
    asked = Paragraph(
        "With the queries of other samples, or with relevance drawn at random, a probe that is "
        "above chance reads something else than relevance."
    )
    sections = [
        Section(
            "What layers tell apart",
            [Paragraph(words), Figures(by_layer), _discrimination(found), _by_candidates(plain)],
        )
    ]
    if more:
        sections.append(Section("Controls of probes", [asked, Figures(more)]))
    return sections


def _accuracies(kind: str, n: int, rows: Sequence[Found]) -> Figure:
    own = [row for row in rows if row["probe"] == kind and row["n_candidates"] == n]
    layers = list(dict.fromkeys(row["layer"] for row in own))
    series = {}
    for model in _MODELS:
        some = [row for row in own if row["model"] == model]
        if some:
            columns = ([row[key] for row in some] for key in ("accuracy", "low", "high"))
            series[model] = Line(*columns)
    svg = lines(
        f"probe {kind}",
        layers,
        series,
        x_label="layer (0: embeddings)",
        y_label="accuracy",
        level=(1 / n, "chance"),
    )
    best = {model: max(line.values) for model, line in series.items()}
    alt = f"Accuracy of the {kind} probe by layer; at best " + ", ".join(
        f"{value:.2f} for {model}" for model, value in best.items()
    )
    return Figure(svg, alt, f"{kind.capitalize()} probe, {n} passages, with 95% intervals.")


def _controls(kind: str, n: int, rows: Sequence[Found]) -> Figure | None:
    own = [
        row
        for row in rows
        if (row["probe"], row["n_candidates"], row["model"]) == (kind, n, "retriever")
    ]
    names = list(dict.fromkeys(row["control"] for row in own))
    if len(names) < 2:
        return None
    series = {}
    for control in names:
        some = [row for row in own if row["control"] == control]
        columns = ([row[key] for row in some] for key in ("accuracy", "low", "high"))
        series["as asked" if control == "none" else control] = Line(*columns)
    svg = lines(
        f"controls {kind}",
        list(dict.fromkeys(row["layer"] for row in own)),
        series,
        x_label="layer (0: embeddings)",
        y_label="accuracy",
        level=(1 / n, "chance"),
    )
    alt = f"Accuracy of the {kind} probe of the retriever by layer, beside its controls"
    return Figure(svg, alt, f"{kind.capitalize()} probe of the retriever, {n} passages.")


def _discrimination(found: Found) -> Table:
    rows = [
        [
            f"{row['probe']}, of {row['n_candidates']}",
            _interval(row["base"]),
            _interval(row["model"]),
            _interval(row["difference"], signed=True),
            _p(row["p"]),
        ]
        for row in found["discrimination"]
    ]
    header = ["probe", "base", "retriever", "difference", "p"]
    caption = (
        "Accuracy averaged over layers and samples of a query (claim C1: training does not change "
        "it). Intervals over queries; p: paired randomisation test, corrected over the rows (Holm)."
    )
    return Table(header, rows, caption)


def _by_candidates(rows: Sequence[Found]) -> Table:
    """Layers in which a model differs from its base, by both tests."""
    cells = []
    for kind, n in dict.fromkeys((row["probe"], row["n_candidates"]) for row in rows):
        own = [
            row
            for row in rows
            if (row["probe"], row["n_candidates"], row["model"]) == (kind, n, "retriever")
        ]
        cells.append(
            [
                f"{kind}, of {n}",
                f"{sum(row['t_test'] < 0.05 for row in own)} of {len(own)}",
                f"{sum(row['mcnemar'] < 0.05 for row in own)} of {len(own)}",
            ]
        )
    caption = (
        "Layers in which the retriever differs from its base, p < 0.05 after Bonferroni's "
        "correction over layers: by the published t-test, which takes samples for unpaired, and by "
        "McNemar's; both take samples of one query for independent."
    )
    return Table(["probe", "t-test", "McNemar"], cells, caption)


# ---- neurons -------------------------------------------------------------------------------------


def _neurons(found: Found) -> list[Section]:
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


_SIDES = ("queries", "passages")


def _heat(side: str, found: Found, threshold: float) -> Figure:
    maps = {}
    labels: list[str] = []
    for model, shares in found["shares"].items():
        labels = list(shares)
        wide = max(map(len, shares.values()))
        maps[f"{model}, {side}"] = np.array(
            [
                np.interp(np.linspace(0, len(v) - 1, wide), np.arange(len(v)), v)
                for v in shares.values()
            ]
        )
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
        from_zero=True,
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


def _spread(side: str, found: Found) -> Table:
    rows = []
    for row in found["spread"]:
        digits = 3 if max(abs(row["base"][0]), abs(row["model"][0])) < 2 else 1
        rows.append(
            [
                row["name"],
                _interval(row["base"], digits),
                _interval(row["model"], digits),
                _interval(row["difference"], digits, signed=True),
                _p(row["p"]),
            ]
        )
    caption = (
        f"Per text, {side}, paraphrases counted as one (claim C2: training decentralises). The "
        "effective number is the exponential of the entropy of attributions; p: paired "
        "randomisation test, corrected over the rows (Holm)."
    )
    return Table([side, "base", "retriever", "difference", "p"], rows, caption)


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
    figures = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        whole = own[0]
        sizes = list(dict.fromkeys(row["neurons"] for row in own))
        series = {}
        if len(own) < 2:
            continue
        for what in dict.fromkeys(row["intervention"] for row in own[1:]):
            values = [whole, *(row for row in own if row["intervention"] == what)]
            columns = ([row[measure][i] for row in values] for i in range(3))
            series[what] = Line(*columns)
        svg = lines(
            f"rankings {model}", sizes, series, x_label="neurons", y_label=f"{measure}, {model}"
        )
        lost = [row for row in own if row["intervention"] == "knocked out"]
        alt = f"{measure} of the {model} is {whole[measure][0]:.2f}" + "".join(
            f", {row[measure][0]:.2f} without {row['neurons']}" for row in lost
        )
        figures.append(Figure(svg, alt, f"{model.capitalize()}, neurons of its query encoder."))
    header = ["model", "neurons", "intervention", measure, "change"]
    cells = [
        [
            row["model"],
            str(row["neurons"]),
            row["intervention"],
            _interval(row[measure]),
            _interval(row[f"{measure} change"], signed=True),
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
        "intervals over facts, or groups of queries with the same passages."
    )
    return Section(
        "Rankings without neurons",
        [Paragraph(words), Figures(figures), Table(header, cells, caption)],
    )


def _facts(found: Found) -> Section:
    shared, counts = found["shared_by_relation"], found["neurons"]
    words = (
        f"Of {found['facts']} facts that the base was told, the neurons to which the right word in "
        "the gap is owed (Dai et al., 2022): "
        f"{np.mean(counts):.1f} a fact, in at least {found['share']:.0%} of its prompts. "
        f"Two facts of one relation share {_number(shared['same relation'])} of them, two of "
        f"different relations {_number(shared['other relation'])}. The retriever has no head that "
        "fills gaps."
    )
    layers = ", ".join(f"{n} in layer {layer}" for layer, n in enumerate(found["by_layer"]))
    rows = [
        [
            f"{row['prompts']}, {row['intervention']}",
            _interval(row["before"]),
            _interval(row["change"], signed=True),
            _interval(row["random"], signed=True),
        ]
        for row in found["effects"]
    ]
    caption = "Probability of the right word when a fact's neurons are scaled, over facts."
    header = ["prompts of", "before", "change", "as many others"]
    return Section(
        "Words in gaps without neurons",
        [Paragraph(words), Paragraph(f"Neurons by layer: {layers}."), Table(header, rows, caption)],
    )


# ---- settings ------------------------------------------------------------------------------------


def _settings(studies: Mapping[str, Found]) -> Section:
    blocks = []
    for name, found in studies.items():
        rows = [[key.replace("_", "-"), _words(value)] for key, value in found["asked"].items()]
        rows.append(["tilefold", str(found["tilefold"])])
        blocks.append(Table(["setting", "value"], rows, f"tilefold mechanisms {name}"))
    return Section("Settings and seeds", blocks)


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _interval(values: Sequence[float], digits: int = 3, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if None in values:  # nothing could be measured
        return "none"
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in values)
    return f"{mean} [{low}, {high}]"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
