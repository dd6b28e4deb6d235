"""The section of comparisons: wins, ties and losses, and a table of queries."""

from __future__ import annotations

import numpy as np

from ...evaluate import bootstrap
from ..csv_files import Cell, CsvFile
from ..histograms import bin_file, histograms
from ..number_format import interval, number
from ..page import Block, Figure, Figures, Paragraph, Section, Table
from .query_cells import clipped, format_ranks
from .ranked_systems import EvaluatedSystems, FloatArray

ROWS = 500  # of the table of queries: with their texts, a third of a megabyte to one
_HEADING = "Comparison by query"
_BINS = 21  # an odd number, so that ties lie in the middle of one


def comparison_section(found: EvaluatedSystems) -> Section:
    """Returns a section that compares the first system with the others, query by query."""
    names = list(found.systems)
    if len(names) < 2:
        return Section(_HEADING, [Paragraph("There is one system only.")])
    words = (
        f"{names[0]} against each other ranking, on the same queries. A win is a query on which "
        f"{names[0]} has the higher value; ties are equal to the last bit."
    )
    if found.gains:
        words += (
            " p values are of two-sided paired permutation tests, corrected for all measures (Holm)"
            "; the other rankings were not tested."
        )
    blocks: list[Block] = [Paragraph(words), _wins(found)]
    figure = _difference_figure(found, names[0], names[1])
    if figure is not None:
        blocks.append(Figures([figure]))
    return Section(_HEADING, [*blocks, _queries(found, names[0], names[1])])


def _wins(found: EvaluatedSystems) -> Table:
    (name, first), *others = found.systems.items()
    cells = []
    for place, (other, system) in enumerate(others):
        for measure, values in first.values.items():
            differences = values - system.values[measure]
            tested = found.gains.get(measure) if place == 0 else None
            gain = bootstrap(differences) if tested is None else tested[:3]
            cells.append(
                [
                    f"{other}, {measure}",
                    *(f"{n:,}" for n in _counts(differences)),
                    interval(gain, 4, signed=True),
                    *([""] if found.gains and tested is None else []),
                    *([] if tested is None else [number(tested[3], 4)]),
                ]
            )
    header = [f"{name} against", "wins", "ties", "losses", "mean difference"]
    header += ["p (Holm)"] if found.gains else []
    caption = "Queries that are won, tied and lost, and the mean difference with its 95% interval."
    return Table(header, cells, caption, data=CsvFile("wins.csv", header, cells))


def _counts(differences: FloatArray) -> tuple[int, int, int]:
    return int((differences > 0).sum()), int((differences == 0).sum()), int((differences < 0).sum())


def _difference_figure(found: EvaluatedSystems, name: str, other: str) -> Figure | None:
    measure = found.measures[0]
    values = [found.systems[system].values[measure] for system in (name, other)]
    differences = (values[0] - values[1])[~np.isnan(values[0] - values[1])]
    if not len(differences):
        return None
    widest = float(np.abs(differences).max()) or 1.0
    edges = np.linspace(-widest, widest, _BINS + 1)
    counts = np.histogram(differences, edges)[0]
    label = f"{measure}, {name} minus {other}"
    svg = histograms(
        "differences", edges, {"queries": counts}, x_label=label, y_label="share of the queries"
    )
    wins, ties, losses = _counts(differences)
    words = f"{label}: {wins:,} wins, {ties:,} ties, {losses:,} losses"
    data = bin_file("differences.csv", edges, {"queries": counts})
    return Figure(svg, f"Histogram of differences. {words}", f"{words}.", data)


def _queries(found: EvaluatedSystems, name: str, other: str) -> Table:
    measure, texts = found.measures[0], found.collection
    values = [found.systems[system].values[measure] for system in (name, other)]
    ranks = [found.ranks(found.systems[system]) for system in (name, other)]
    differences = values[0] - values[1]
    rows = _largest(differences)
    cells, numbers = [], []
    for row in rows:
        n = len(found.relevant[row])
        shown_ranks = [format_ranks(own[row], n) for own in ranks]
        query, key = clipped(texts.queries[row]), clipped(texts.query_ids[row], 80)
        cells.append(
            [
                query,
                key,
                *(number(own[row], 3) for own in values),
                number(differences[row], 3, signed=True),
                *shown_ranks,
                str(n),
            ]
        )
        exact: list[Cell] = [float(own[row]) for own in (*values, differences)]
        numbers.append([key, query, *exact, *shown_ranks, n])
    columns = [
        f"{measure}, {name}",
        f"{measure}, {other}",
        "difference",
        f"ranks, {name}",
        f"ranks, {other}",
        "relevant",
    ]
    data = CsvFile("queries.csv", ["id", "query", *columns], numbers)
    caption = _caption(len(texts.queries), len(rows), name, other, found.k)
    return Table(["query", "id", *columns], cells, caption, data=data, sortable=True)


def _largest(differences: FloatArray) -> list[int]:
    """Returns rows by their absolute difference, largest first; those without one are last."""
    order = np.argsort(-np.nan_to_num(np.abs(differences), nan=-1.0), kind="stable")
    return [int(row) for row in order[:ROWS]]


def _caption(n: int, shown: int, name: str, other: str, k: int) -> str:
    words = (
        f"Queries of {name} and {other}, largest difference first, with the ranks of relevant "
        f"documents; those beyond rank {k:,} are missed."
    )
    if shown < n:
        words += (
            f" The {shown:,} queries with the largest difference are shown; {n - shown:,} of "
            f"{n:,} are left out."
        )
    return words
