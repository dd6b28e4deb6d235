"""Sections of a report on probes of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...report import Figure, Figures, Paragraph, Section, Table, lines
from ...report.canvas import Limits
from ...report.figures import Line
from ...report.number_format import comparison_columns
from ...report.page import Block
from .probe_result import LayerAccuracy, ProbeResult

_MODELS = ("base", "retriever", "random weights")


def probe_sections(result: ProbeResult) -> list[Section]:
    """Returns accuracies by layer, the comparison with the base, and controls.

    Args:
        result: of `run_probe`.
    """
    results = result.layers
    kinds = list(dict.fromkeys(row.probe for row in results))
    fewest, *more = sorted({row.n_candidates for row in results})
    plain = [row for row in results if row.control == "none"]
    blocks: list[Block] = [
        Paragraph(_method(result)),
        Figures(_panels(kinds, [fewest], plain)),
        _discrimination(result),
        _by_candidates(plain),
    ]
    sections = [Section("Accuracy of probes by layer", blocks)]
    more = [n for n in more if any(row.n_candidates == n for row in plain)]
    if more:
        sections.append(Section("Among more passages", [Figures(_panels(kinds, more, plain))]))
    controlled = _controls(kinds, fewest, results)
    if controlled:
        words = (
            "With the queries of other samples, or with random labels, a probe above chance uses "
            "something other than relevance."
        )
        sections.append(Section("Controls of probes", [Paragraph(words), Figures(controlled)]))
    return sections


def _method(result: ProbeResult) -> str:
    samples = result.samples
    words = (
        "A probe is a classifier that is fitted to the representations of one layer, of "
        f"{samples.fitted:,} samples, and tested on {samples.tested:,} held-out samples: it "
        "chooses the relevant passage. Queries that ask for the same passages are on one side of "
        "the split. How probes are trained is listed under the settings below."
    )
    familiar = samples.familiar
    if familiar:
        words += (
            f" The relevant passage of {familiar:,} held-out samples is also relevant to a fitted "
            "sample, whose query asks for other passages as well; the control with random labels "
            "shows how much memorising it would gain."
        )
    if any(row.probe == "concatenation" for row in result.layers):
        words += (
            " The concatenation probe has the published form: it is affine in the query and the "
            "passages, which come in random order, so that it cannot use the query."
        )
    passages = samples.min_passages
    if passages < max(row.n_candidates for row in result.layers):
        words += (
            f" Some queries have only {passages - 1} hard negatives, which are drawn more than "
            "once, as published: with more passages chance is better than 1/N."
        )
    return words


def _panels(
    kinds: Sequence[str], sizes: Sequence[int], rows: Sequence[LayerAccuracy]
) -> list[Figure]:
    """One figure for each probe and number of passages, all with the same y axis."""
    shown = [row for row in rows if row.n_candidates in sizes]
    limits = _limits(shown)
    return [
        _accuracies(kind, n, [r for r in shown if (r.probe, r.n_candidates) == (kind, n)], limits)
        for kind in kinds
        for n in sizes
    ]


def _limits(rows: Sequence[LayerAccuracy]) -> Limits:
    """Limits that hold all intervals and chance levels."""
    reached = [end for row in rows for end in (row.low, row.high)]
    reached += [1 / row.n_candidates for row in rows]
    return max(0.0, min(reached) - 0.02), min(1.02, max(reached) + 0.02)


def _accuracies(kind: str, n: int, rows: Sequence[LayerAccuracy], limits: Limits) -> Figure:
    series = {
        model: _line([row for row in rows if row.model == model])
        for model in _MODELS
        if any(row.model == model for row in rows)
    }
    best = ", ".join(
        f"{max(row.accuracy for row in rows if row.model == model):.2f} for {model}"
        for model in series
    )
    return Figure(
        _by_layer(f"probe {kind} {n}", n, rows, series, limits),
        f"Accuracy of the {kind} probe by layer, among {n} passages; at best {best}",
        f"{kind.capitalize()} probe, {n} passages; 95% intervals over samples.",
    )


def _controls(kinds: Sequence[str], n: int, rows: Sequence[LayerAccuracy]) -> list[Figure]:
    """Figures of the retriever's probes beside their controls."""
    own = [row for row in rows if (row.n_candidates, row.model) == (n, "retriever")]
    limits = _limits(own)
    figures = []
    for kind in kinds:
        some = [row for row in own if row.probe == kind]
        series = {
            "no control" if control == "none" else control: _line(
                [row for row in some if row.control == control]
            )
            for control in dict.fromkeys(row.control for row in some)
        }
        if len(series) > 1:
            figures.append(
                Figure(
                    _by_layer(f"controls {kind}", n, some, series, limits),
                    f"Accuracy of the {kind} probe of the retriever by layer, beside its controls",
                    f"{kind.capitalize()} probe of the retriever, {n} passages.",
                )
            )
    return figures


def _by_layer(
    name: str, n: int, rows: Sequence[LayerAccuracy], series: Mapping[str, Line], limits: Limits
) -> str:
    return lines(
        name,
        list(dict.fromkeys(row.layer for row in rows)),
        series,
        x_label="layer (0: embeddings)",
        y_label="accuracy",
        level=(1 / n, "chance"),
        limits=limits,
    )


def _line(rows: Sequence[LayerAccuracy]) -> Line:
    return Line(
        [row.accuracy for row in rows], [row.low for row in rows], [row.high for row in rows]
    )


def _discrimination(result: ProbeResult) -> Table:
    rows = result.discrimination
    caption = (
        "Accuracy averaged over layers and samples of a query (claim C1: training does not change "
        f"it). Intervals over {result.samples.independent:,} queries, those that ask for the "
        "same passages counted as one; p: paired randomisation test, corrected (Holm)."
    )
    return Table.from_columns(
        "probe", [row.name for row in rows], comparison_columns(rows), caption
    )


def _by_candidates(rows: Sequence[LayerAccuracy]) -> Table:
    """Counts layers in which the retriever differs from its base, by both tests."""
    cells = []
    for kind, n in dict.fromkeys((row.probe, row.n_candidates) for row in rows):
        own = [
            row
            for row in rows
            if (row.probe, row.n_candidates, row.model) == (kind, n, "retriever")
        ]
        cells.append(
            [
                f"{kind}, of {n}",
                f"{sum(row.t_test < 0.05 for row in own)} of {len(own)}",
                f"{sum(row.mcnemar < 0.05 for row in own)} of {len(own)}",
            ]
        )
    caption = (
        "Layers in which the retriever differs from its base, p < 0.05 after Bonferroni's "
        "correction over layers: by the published t-test, which treats samples as unpaired, and by "
        "McNemar's test; both treat samples of one query as independent."
    )
    return Table(["probe", "t-test", "McNemar"], cells, caption)
