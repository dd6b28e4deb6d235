"""The section of measures: means with intervals, and recall by rank."""

from __future__ import annotations

from ...evaluate import bootstrap, evaluate
from ..csv_files import Cell, CsvFile
from ..curves import Curve, curves
from ..number_format import interval
from ..page import Figure, Figures, Paragraph, Section, Table
from .ranked_systems import EvaluatedSystems, RankedSystem

_RANKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)


def quality_section(found: EvaluatedSystems) -> Section:
    """Returns a section with the table of measures and the curve of recall."""
    judged = len(found.relevant) - sum(not len(own) for own in found.relevant)
    words = (
        f"Means over {len(found.relevant):,} queries, {judged:,} of them with a relevant document. "
        "Intervals are 95% bootstrap intervals over queries: another sample of queries would give "
        "other means. A query without a judgment does not count, and one whose judgments name no "
        "relevant document counts as 0."
    )
    return Section("Measures", [Paragraph(words), _table(found), Figures([_recall_figure(found)])])


def _table(found: EvaluatedSystems) -> Table:
    cells = []
    numbers: list[list[Cell]] = []
    for name, system in found.systems.items():
        row = [name]
        for measure, values in system.values.items():
            mean = bootstrap(values)
            row.append(interval(mean))
            numbers.append([name, measure, *mean])
        cells.append([*row, f"{system.found_nothing:,}"])
    header = ["ranking", *found.measures, "queries without results"]
    data = CsvFile("measures.csv", ["ranking", "measure", "mean", "low", "high"], numbers)
    return Table(header, cells, "Mean of each measure and its 95% interval.", data=data)


def _recall_figure(found: EvaluatedSystems) -> Figure:
    ranks = sorted({k for k in _RANKS if k < found.k} | {found.k})
    series = {name: _recall(found, system, ranks) for name, system in found.systems.items()}
    svg = curves(
        "recall",
        series,
        x_label="k (ranks that count)",
        y_label="recall at k",
        log=True,
        limits=(0, 1.02),
    )
    words = "; ".join(
        f"{name} {interval(curve.values[:1])} at {ranks[0]}, "
        f"{interval(curve.values[-1:])} at {ranks[-1]}"
        for name, curve in series.items()
    )
    rows: list[list[Cell]] = [
        [name, *row]
        for name, curve in series.items()
        for row in zip(curve.at, curve.values, curve.low or (), curve.high or (), strict=True)
    ]
    data = CsvFile("recall.csv", ["ranking", "k", "recall", "low", "high"], rows)
    caption = "Recall of relevant documents among the first k, with 95% intervals."
    return Figure(svg, f"Recall by k: {words}", caption, data)


def _recall(found: EvaluatedSystems, system: RankedSystem, ranks: list[int]) -> Curve:
    names = [f"R@{k}" for k in ranks]
    values = evaluate(system.ids, found.collection.qrels, names)
    means = [bootstrap(values[name]) for name in names]
    return Curve(ranks, *map(list, zip(*means, strict=True)))
