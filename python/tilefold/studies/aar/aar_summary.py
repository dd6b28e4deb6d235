"""Summary of the study of AAR for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ...report.number_format import interval, p_value
from ..study import SummaryTable
from .aar_result import AARResult, TargetAccuracy


def summarise_aar(result: AARResult) -> list[SummaryTable]:
    """Returns accuracies, gains over the un-adapted retriever, and overlaps of positives."""
    tables = [
        accuracy_table(task, [row for row in result.accuracies if row.task == task])
        for task in dict.fromkeys(row.task for row in result.accuracies)
    ]
    tables.append(_gains(result))
    tables.append(
        SummaryTable(
            "Overlap of positives (eq. 8)",
            [f"{row.first} and {row.second}" for row in result.overlaps],
            {"overlap": [interval(row.overlap) for row in result.overlaps]},
        )
    )
    return tables


def accuracy_table(task: str, rows: Sequence[TargetAccuracy]) -> SummaryTable:
    """Returns accuracies of a task: a row for each target LM, a column for each retrieval."""
    targets = list(dict.fromkeys(row.target for row in rows))
    cells = {(row.target, row.retrieval): interval(row.accuracy) for row in rows}
    columns = {
        retrieval: [cells.get((target, retrieval), "") for target in targets]
        for retrieval in dict.fromkeys(row.retrieval for row in rows)
    }
    return SummaryTable(f"Accuracy on {task}", targets, columns)


def _gains(result: AARResult) -> SummaryTable:
    rows = result.gains
    return SummaryTable(
        "Gain over the un-adapted retriever",
        [f"{row.target} on {row.task}, {row.retrieval}" for row in rows],
        {
            "gain": [interval(row.comparison.difference, signed=True) for row in rows],
            "p (Holm)": [p_value(row.comparison.p) for row in rows],
        },
        ["Paired over questions, accuracies averaged over seeds."] if rows else [],
    )
