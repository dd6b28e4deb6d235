"""Summary of the study of layers, for a terminal, and its section of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...report.number_format import interval, p_value
from ..study import SummaryTable
from .layer_result import LayerResult

if TYPE_CHECKING:
    from ...report import Section

_WORDS = (
    "DPR training with all weights frozen but those of some layers: embeddings are trained only "
    "where everything is. Reichman and Heck's first version finds that middle layers matter most "
    "(claim C4). A layer that alone reaches as much as all of them suffices for retrieval."
)


def summarise_layers(result: LayerResult) -> list[SummaryTable]:
    """Returns a table of retrievers, and one of differences between layers."""
    rows = result.retrievers
    columns = {
        result.measure: [interval(row.value) for row in rows],
        "of each seed": [" ".join(f"{x:.3f}" for x in row.seeds) for row in rows],
        "minus all": [
            interval(row.comparison.difference, signed=True) if row.comparison else ""
            for row in rows
        ],
        "p (Holm)": [p_value(row.comparison.p) if row.comparison else "" for row in rows],
    }
    heading = f"{result.measure} by the layers that are trained, {result.facts:,} facts"
    between = SummaryTable(
        "Middle layers against the first and the last ones",
        [one.name for one in result.between],
        {
            "difference": [interval(one.difference, signed=True) for one in result.between],
            "p (Holm)": [p_value(one.p) for one in result.between],
        },
    )
    return [SummaryTable(heading, [row.name for row in rows], columns), between]


def layer_sections(result: LayerResult) -> list[Section]:
    """Returns a section with the tables of the summary."""
    from ...report import Paragraph, Section, Table

    table, between = summarise_layers(result)
    caption = (
        f"{table.heading} that no retriever was trained on, {len(result.settings.seeds)} seeds; "
        "means over the wordings of each question, 95% bootstrap intervals over facts; differences "
        "are paired."
    )
    block = Table.from_columns("trained", table.labels, table.columns, caption)
    words = f"{between.heading}; paired over facts, 95% bootstrap intervals."
    other = Table.from_columns("layers", between.labels, between.columns, words)
    return [Section("Training with frozen layers", [Paragraph(_WORDS), block, other])]
