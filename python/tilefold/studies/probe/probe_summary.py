"""Summary of the study of probes for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ...report.number_format import comparison_columns
from ..study import SummaryTable
from ..subject import BASE
from .probe_result import LayerAccuracy, ProbeResult


def summarise_probe(result: ProbeResult) -> list[SummaryTable]:
    """Returns accuracies by layer with the fewest candidates, and the comparison with the base."""
    n = min(row.n_candidates for row in result.layers)
    tables = [
        _accuracies(probe, n, [r for r in result.layers if (r.probe, r.n_candidates) == (probe, n)])
        for probe in dict.fromkeys(row.probe for row in result.layers)
    ]
    rows = result.discrimination
    claim = SummaryTable(
        "Does the retriever discriminate better than its base? (mean over layers)",
        [row.name for row in rows],
        comparison_columns(rows),
    )
    return [*tables, SummaryTable("", notes=_notes(result)), claim]


def _notes(result: ProbeResult) -> list[str]:
    notes = [
        "* differs from the base by McNemar's test, p < 0.05 corrected for layers (Bonferroni). "
        "Layer 0 is the output of the embeddings."
    ]
    negatives = result.samples.min_passages - 1
    if negatives + 1 < max(row.n_candidates for row in result.layers):
        noun = "hard negative" if negatives == 1 else "hard negatives"
        notes.append(
            f"Some queries have only {negatives} {noun}, which {'is' if negatives == 1 else 'are'} "
            "drawn more than once, as published: with more candidates than different passages, "
            "chance is better than 1/N."
        )
    return notes


def _accuracies(probe: str, n: int, rows: Sequence[LayerAccuracy]) -> SummaryTable:
    columns: dict[str, list[str]] = {}
    for control in dict.fromkeys(row.control for row in rows):
        for model in dict.fromkeys(row.model for row in rows):
            cells = [_cell(r) for r in rows if (r.control, r.model) == (control, model)]
            if cells:
                columns[model if control == "none" else f"{model}, {control}"] = cells
    return SummaryTable(
        f"{probe.capitalize()}: which of {n} passages is relevant (chance {1 / n:.2f})",
        [f"layer {layer}" for layer in dict.fromkeys(row.layer for row in rows)],
        columns,
    )


def _cell(row: LayerAccuracy) -> str:
    significant = row.mcnemar < 0.05 and row.model != BASE
    return f"{row.accuracy:.2f}{'*' if significant else ''}"
