"""Summary of the study of directions, for a terminal."""

from __future__ import annotations

from ...report.number_format import interval, p_value
from ..study import SummaryTable
from .direction_result import DirectionMeasure, DirectionResult

HEADINGS = {
    "exposure": "Direction 1: DPR trained with more knowledge",
    "injection": "Direction 2: facts injected as decentralised representations",
    "uncertainty": "Direction 3: uncertainty of retrieval",
    "maps": "Direction 4: internal states mapped to passages",
}


def summarise_directions(result: DirectionResult) -> list[SummaryTable]:
    """Returns a table of each measure of each direction, and one of estimators of uncertainty."""
    tables = []
    for name, heading in HEADINGS.items():
        rows = [row for row in result.measures if row.direction == name]
        if name == "uncertainty" and result.confidence:
            tables.append(_estimators(result))
        measures = list(dict.fromkeys(row.measure for row in rows))
        for measure in measures:
            own = [row for row in rows if row.measure == measure]
            notes = _notes(result, name) if measure == measures[-1] else []
            tables.append(_measured(f"{heading}; {measure}", own, notes))
    return tables


def _measured(heading: str, rows: list[DirectionMeasure], notes: list[str]) -> SummaryTable:
    columns = {
        "value": [interval(row.value) for row in rows],
        "of each seed": [" ".join(f"{x:.3f}" for x in row.seeds) for row in rows],
        "minus the reference": [
            interval(row.comparison.difference, signed=True) if row.comparison else ""
            for row in rows
        ],
        "p (Holm)": [p_value(row.comparison.p) if row.comparison else "" for row in rows],
        "reference": [row.reference for row in rows],
    }
    if all(len(row.seeds) == 1 for row in rows):
        del columns["of each seed"]
    if not any(row.comparison for row in rows):
        for name in ("minus the reference", "p (Holm)", "reference"):
            del columns[name]
    return SummaryTable(heading, [row.method for row in rows], columns, notes)


def _notes(result: DirectionResult, name: str) -> list[str]:
    by_method: dict[str, list[str]] = {}
    for row in result.costs:
        if row.direction == name:
            shown = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.3g}"
            by_method.setdefault(row.method, []).append(f"{row.cost} {shown}")
    notes = [f"{method}: {', '.join(own)}" for method, own in by_method.items()]
    left_out = [row for row in result.left_out if row.direction == name]
    return notes + [f"{row.method} is left out: {row.reason}" for row in left_out]


def _estimators(result: DirectionResult) -> SummaryTable:
    rows = result.confidence
    return SummaryTable(
        "Direction 3: is the first passage relevant? Confidence by estimator",
        [row.estimator for row in rows],
        {
            "AUROC": [interval(row.auroc) for row in rows],
            "minus the first": [
                interval(row.gain, signed=True) if row.gain else "" for row in rows
            ],
            "calibration error": [interval(row.calibration_error) for row in rows],
            "AURC": [interval(row.risk_area) for row in rows],
            "fit, s": [f"{row.fit_seconds:.1f}" for row in rows],
            "estimates, s": [f"{row.seconds:.1f}" for row in rows],
        },
    )
