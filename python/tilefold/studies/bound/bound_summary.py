"""Summary of the study of the knowledge bound, for a terminal."""

from __future__ import annotations

from ...report.number_format import interval, p_value
from ..study import SummaryTable
from .bound_result import GROUPS, BoundResult


def summarise_bound(result: BoundResult) -> list[SummaryTable]:
    """Returns tables of edits, retrievers, differences, and of facts by what the base knows."""
    edits = SummaryTable(
        "Edits of the base, on prompts that the editor did not see",
        [row.mode for row in result.edits],
        {
            "success": [interval(row.success) for row in result.edits],
            "probability before": [interval(row.before) for row in result.edits],
            "after": [interval(row.after) for row in result.edits],
            "locality": [interval(row.unchanged) for row in result.edits],
        },
    )
    measure = result.measures[0].measure
    names = list(dict.fromkeys(row.retriever for row in result.measures))
    cells = {(row.retriever, row.facts): interval(row.value) for row in result.measures}
    means = SummaryTable(
        f"{measure} of questions about facts, by the base of the retriever",
        names,
        {group: [cells[name, group] for name in names] for group in GROUPS},
    )
    rows = result.comparisons
    differences = SummaryTable(
        f"{measure} minus that of the retriever from the unedited base",
        [f"{row.retriever}: {row.facts}" for row in rows],
        {
            "difference": [interval(row.comparison.difference, signed=True) for row in rows],
            "of each seed": [" ".join(f"{x:+.3f}" for x in row.seeds) for row in rows],
            "p (Holm)": [p_value(row.comparison.p) for row in rows],
        },
    )
    effects = result.specific
    specific = SummaryTable(
        "Change of the edited facts minus that of other facts of the same retriever",
        [f"{row.retriever}: {row.facts} minus {row.others}" for row in effects],
        {
            "difference": [interval(row.difference, signed=True) for row in effects],
            "of each seed": [" ".join(f"{x:+.3f}" for x in row.seeds) for row in effects],
            "p (Holm)": [p_value(row.p) for row in effects],
        },
    )
    known = SummaryTable(
        f"{measure} of facts that no retriever was trained on, by the object's rank in the base",
        [row.label for row in result.bins],
        {
            measure: [interval(row.value) for row in result.bins],
            "facts": [f"{row.n:,}" for row in result.bins],
        },
        [f"In the pre-training minus not: {interval(result.known, signed=True)}"],
    )
    return [edits, means, differences, specific, known]
