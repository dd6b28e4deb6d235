"""Summary of the study of invariant, LLM-aligned retrieval for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...report.number_format import interval, number, p_value
from ..study import SummaryTable
from .invar_result import Compared, InvarResult, Measured
from .view_rankings import VARIANCE

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
        tables.append(compared_table("Comparisons of retrievers", shown, result.samples))
    if result.generation:
        tables.append(measured_table("Answers", result.generation))
        gains = result.generation_gains
        tables.append(compared_table("Comparisons of answers", gains, result.samples))
    return tables


def measured_table(
    heading: str, rows: Sequence[Measured], condition: str | None = None
) -> SummaryTable:
    """Returns a row for each system, a column for each measure.

    A cell is mean, interval, and after "±" the standard deviation over the means of seeds, where
    there are several.

    Args:
        heading: of the table.
        rows: to show.
        condition: of the rows that are shown; None for all.
    """
    own = [row for row in rows if condition in (None, row.condition)]
    systems = list(dict.fromkeys(row.system for row in own))
    cells = {(row.system, row.measure): _cell(row) for row in own}
    columns = {
        measure: [cells.get((system, measure), "") for system in systems]
        for measure in dict.fromkeys(row.measure for row in own)
    }
    seeds = max((len(row.by_seed) for row in own), default=1)
    notes = [f"±: standard deviation over {seeds} seeds."] if seeds > 1 else []
    return SummaryTable(heading, systems, columns, notes)


def digits_of(measure: str) -> int:
    """Returns how many digits of a measure are shown; variances of probabilities are small."""
    return 4 if measure == VARIANCE else 3


def _cell(row: Measured) -> str:
    shown = interval(row.value, digits_of(row.measure))
    if len(row.by_seed) < 2:
        return shown
    return f"{shown} ± {number(float(np.std(row.by_seed, ddof=1)), digits_of(row.measure))}"


def compared_table(heading: str, rows: Sequence[Compared], samples: str) -> SummaryTable:
    """Returns a row for each comparison, with the difference and the corrected p value.

    Args:
        heading: of the table.
        rows: to show.
        samples: what they are paired over.
    """
    return SummaryTable(
        heading,
        [f"{row.system} - {row.other}: {row.measure}, {row.condition}" for row in rows],
        {
            "difference": [
                interval(row.comparison.difference, digits_of(row.measure), signed=True)
                for row in rows
            ],
            "p (Holm)": [p_value(row.comparison.p) for row in rows],
        },
        [f"Paired over {rows[0].comparison.n:,} {samples}, values averaged over seeds."]
        if rows
        else [],
    )
