"""What probes of layers found, as sections of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...report import Figure, Figures, Paragraph, Section, Table, lines
from ...report.figures import Limits, Line
from ...report.number_format import comparison
from ...report.page import Block

Found = Mapping[str, Any]
_MODELS = ("base", "retriever", "random weights")
_INTERVALS = ("accuracy", "low", "high")


def probe_sections(found: Found) -> list[Section]:
    """Accuracies by layer, the claim, more passages than the fewest, and controls.

    Args:
        found: what `tilefold mechanisms probe` wrote.
    """
    results = found["results"]
    kinds = list(dict.fromkeys(row["probe"] for row in results))
    fewest, *more = sorted({row["n_candidates"] for row in results})
    plain = [row for row in results if row["control"] == "none"]
    blocks: list[Block] = [
        Paragraph(_what_is_asked(found)),
        Figures(_panels(kinds, [fewest], plain)),
        _discrimination(found),
        _by_candidates(plain),
    ]
    sections = [Section("What layers tell apart", blocks)]
    more = [n for n in more if any(row["n_candidates"] == n for row in plain)]
    if more:
        sections.append(Section("Among more passages", [Figures(_panels(kinds, more, plain))]))
    controlled = _controls(kinds, fewest, results)
    if controlled:
        words = (
            "With the queries of other samples, or with relevance drawn at random, a probe that is "
            "above chance reads something else than relevance."
        )
        sections.append(Section("Controls of probes", [Paragraph(words), Figures(controlled)]))
    return sections


def _what_is_asked(found: Found) -> str:
    words = (
        f"A probe is fitted to the rows of one layer of {found['samples']['fitted']:,} samples, "
        f"and asked which passage is relevant in {found['samples']['asked']:,} others; queries "
        "that ask for the same passages are on one side. Settings below say how it is trained."
    )
    familiar = found["samples"]["familiar"]
    if familiar:
        words += (
            f" The relevant passage of {familiar:,} of these others is also relevant to a query "
            "that probes are fitted to, which asks for other passages besides; what is gained by "
            "remembering it is what the control with random labels shows."
        )
    if any(row["probe"] == "concatenation" for row in found["results"]):
        words += (
            " The concatenation probe has the published form; it is affine in query and passages, "
            "which come in any order, so that it cannot use the query."
        )
    passages = found["samples"]["fewest_passages"]
    if passages < max(row["n_candidates"] for row in found["results"]):
        words += (
            f" Some queries have only {passages - 1} hard negatives, drawn more than once, as "
            "published: with more passages chance is better than 1/N."
        )
    return words


def _panels(kinds: Sequence[str], sizes: Sequence[int], rows: Sequence[Found]) -> list[Figure]:
    """A picture of each probe for each number of passages, all with the same y axis."""
    shown = [row for row in rows if row["n_candidates"] in sizes]
    limits = _limits(shown)
    return [
        _accuracies(
            kind, n, [r for r in shown if (r["probe"], r["n_candidates"]) == (kind, n)], limits
        )
        for kind in kinds
        for n in sizes
    ]


def _limits(rows: Sequence[Found]) -> Limits:
    """What intervals and chance reach."""
    reached = [row[key] for row in rows for key in ("low", "high")]
    reached += [1 / row["n_candidates"] for row in rows]
    return max(0.0, min(reached) - 0.02), min(1.02, max(reached) + 0.02)


def _accuracies(kind: str, n: int, rows: Sequence[Found], limits: Limits) -> Figure:
    series = {
        model: _line([row for row in rows if row["model"] == model])
        for model in _MODELS
        if any(row["model"] == model for row in rows)
    }
    best = ", ".join(
        f"{max(row['accuracy'] for row in rows if row['model'] == model):.2f} for {model}"
        for model in series
    )
    return Figure(
        _by_layer(f"probe {kind} {n}", n, rows, series, limits),
        f"Accuracy of the {kind} probe by layer, among {n} passages; at best {best}",
        f"{kind.capitalize()} probe, {n} passages; 95% intervals over samples.",
    )


def _controls(kinds: Sequence[str], n: int, rows: Sequence[Found]) -> list[Figure]:
    """Of the retriever's probes, those that were asked with controls."""
    own = [row for row in rows if (row["n_candidates"], row["model"]) == (n, "retriever")]
    limits = _limits(own)
    figures = []
    for kind in kinds:
        some = [row for row in own if row["probe"] == kind]
        series = {
            "as asked" if control == "none" else control: _line(
                [row for row in some if row["control"] == control]
            )
            for control in dict.fromkeys(row["control"] for row in some)
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
    name: str, n: int, rows: Sequence[Found], series: Mapping[str, Line], limits: Limits
) -> str:
    return lines(
        name,
        list(dict.fromkeys(row["layer"] for row in rows)),
        series,
        x_label="layer (0: embeddings)",
        y_label="accuracy",
        level=(1 / n, "chance"),
        limits=limits,
    )


def _line(rows: Sequence[Found]) -> Line:
    return Line(*([row[key] for row in rows] for key in _INTERVALS))


def _discrimination(found: Found) -> Table:
    rows = found["discrimination"]
    names = [f"{row['probe']}, of {row['n_candidates']}" for row in rows]
    caption = (
        "Accuracy averaged over layers and samples of a query (claim C1: training does not change "
        f"it). Intervals over {found['samples']['independent']:,} queries, those that ask for the "
        "same passages counted as one; p: paired randomisation test, corrected (Holm)."
    )
    return Table.of_columns("probe", names, comparison(rows), caption)


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
