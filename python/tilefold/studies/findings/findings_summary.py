"""Summary and report of the study of findings: a table for each claim."""

from __future__ import annotations

from ...report import Section, Table
from ...report.number_format import interval, number
from ..study import SummaryTable
from .findings_result import FindingsResult

_NOTE = "Intervals are of the mean over runs (Student's t); one run alone has none."


def summarise_findings(result: FindingsResult) -> list[SummaryTable]:
    """Returns a table for each claim."""
    runs = len(result.settings.runs)
    tables = []
    for claim, rows in result.claims.items():
        columns = {
            "mean, 95% interval": [interval(row.mean, signed=True) for row in rows],
            "of each run": [
                " ".join(number(value, 3, signed=True) for value in row.differences) for row in rows
            ],
        }
        heading = f"{claim}: retriever minus base, in {runs} runs"
        tables.append(SummaryTable(heading, [row.name for row in rows], columns))
    return [*tables, SummaryTable("", notes=[_NOTE])]


def findings_sections(result: FindingsResult) -> list[Section]:
    """Returns a section with a table for each claim."""
    return [
        Section(table.heading, [Table.from_columns("quantity", table.labels, table.columns, _NOTE)])
        for table in summarise_findings(result)
        if table.columns
    ]
