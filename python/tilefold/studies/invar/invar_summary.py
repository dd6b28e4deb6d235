"""Summary of the study of invariant, LLM-aligned retrieval for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ...report.number_format import interval, p_value
from ..study import SummaryTable
from .invar_result import Compared, InvarResult, Measured

_COMPARED = ("RR", "Jaccard")  # beginnings of measures; the report compares all of them


def summarise_invar(result: InvarResult) -> list[SummaryTable]:
    """Returns measures of retrieval, of its robustness, of answers, and comparisons."""
    tables = [
        measured_table(f"Retrieval, {condition}", result.retrieval, condition)
        for condition in dict.fromkeys(row.condition for row in result.retrieval)
    ]
    tables += [
        measured_table(f"Robustness, {condition}", result.robustness, condition)
        for condition in dict.fromkeys(row.condition for row in result.robustness)
    ]
    shown = [row for row in result.comparisons if row.measure.startswith(_COMPARED)]
    if shown:  # with another variant beside the full one
        tables.append(compared_table("Comparisons of retrievers", shown))
    if result.generation:
        tables.append(measured_table("Answers", result.generation))
        tables.append(compared_table("Comparisons of answers", result.generation_gains))
    return tables


def measured_table(
    heading: str, rows: Sequence[Measured], condition: str | None = None
) -> SummaryTable:
    """Returns a row for each system, a column for each measure.

    Args:
        heading: of the table.
        rows: to show.
        condition: of the rows that are shown; None for all.
    """
    own = [row for row in rows if condition in (None, row.condition)]
    systems = list(dict.fromkeys(row.system for row in own))
    cells = {(row.system, row.measure): interval(row.value) for row in own}
    columns = {
        measure: [cells.get((system, measure), "") for system in systems]
        for measure in dict.fromkeys(row.measure for row in own)
    }
    return SummaryTable(heading, systems, columns)


def compared_table(heading: str, rows: Sequence[Compared]) -> SummaryTable:
    """Returns a row for each comparison, with the difference and the corrected p value.

    Args:
        heading: of the table.
        rows: to show.
    """
    return SummaryTable(
        heading,
        [f"{row.system} - {row.other}: {row.measure}, {row.condition}" for row in rows],
        {
            "difference": [interval(row.comparison.difference, signed=True) for row in rows],
            "p (Holm)": [p_value(row.comparison.p) for row in rows],
        },
        ["Paired over questions, values averaged over seeds."] if rows else [],
    )
