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
    """Returns a table of measures for each direction, and one of the estimators of uncertainty."""
    tables = []
    for name, heading in HEADINGS.items():
        rows = [row for row in result.measures if row.direction == name]
        if name == "uncertainty" and result.confidence:
            tables.append(_estimators(result))
        if rows:
            tables.append(_measures(heading, rows, _notes(result, name)))
    return tables


def _measures(heading: str, rows: list[DirectionMeasure], notes: list[str]) -> SummaryTable:
    return SummaryTable(
        heading,
        [f"{row.method}: {row.measure}" for row in rows],
        {
            "value": [interval(row.value) for row in rows],
            "of each seed": [" ".join(f"{x:.3f}" for x in row.seeds) for row in rows],
            "minus the reference": [
                interval(row.comparison.difference, signed=True) if row.comparison else ""
                for row in rows
            ],
            "p (Holm)": [p_value(row.comparison.p) if row.comparison else "" for row in rows],
            "reference": [row.reference for row in rows],
        },
        notes,
    )


def _notes(result: DirectionResult, name: str) -> list[str]:
    by_method: dict[str, list[str]] = {}
    for row in result.costs:
        if row.direction == name:
            by_method.setdefault(row.method, []).append(f"{row.cost} {row.value:,.3g}")
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
