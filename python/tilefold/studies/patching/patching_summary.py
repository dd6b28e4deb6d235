"""Summary of the study of patching for a terminal."""

from __future__ import annotations

from ...report.number_format import interval, number
from ..study import SummaryTable
from .patching_result import NO_EFFECT, REVERSED, AxiomEffect, PatchingResult

MEANINGS = {
    "TFC1": "one more occurrence of a query term scores higher than a filler word",
    "TDC": "a rare query term scores higher than a common one",
    "LNC1": "filler words score higher than as many words of another passage",
}


def summarise_patching(result: PatchingResult) -> list[SummaryTable]:
    """Returns the effects of axioms, and a table of the strongest components for each axiom."""
    rows = result.effects
    tables = [
        SummaryTable(
            "Clean minus corrupted scores of pairs of passages, by axiom",
            labels_of(rows),
            effect_columns(rows),
            [f"{name}: {text}." for name, text in MEANINGS.items() if name in axioms_of(result)],
        )
    ]
    for axiom in axioms_of(result):
        own = [row for row in rows if row.axiom == axiom]
        shares = [(row, one) for row in own for one in row.strongest]
        labels = [f"{row.model}, {one.component}" for row, one in shares]
        columns = {"share recovered": [interval(one.share, 2) for _, one in shares]}
        heading = f"{axiom}: heads and feed-forward blocks with the largest shares"
        tables.append(SummaryTable(heading, labels, columns if shares else {}, remarks(own)))
        by_token = [row for row in own if row.tokens]
        if by_token:
            heading = f"{axiom}: share recovered by states of tokens behind each layer"
            tables.append(SummaryTable(heading, layers_of(by_token), token_columns(by_token)))
    return tables


def axioms_of(result: PatchingResult) -> list[str]:
    """Returns the axioms of a result, each once."""
    return list(dict.fromkeys(row.axiom for row in result.effects))


def labels_of(rows: tuple[AxiomEffect, ...]) -> list[str]:
    """Names each effect: "TFC1, base"."""
    return [f"{row.axiom}, {row.model}" for row in rows]


def effect_columns(rows: tuple[AxiomEffect, ...]) -> dict[str, list[str]]:
    """Returns cells on the effect of each axiom and model, by column."""
    return {
        "pairs": [str(row.pairs) for row in rows],
        "skipped": [str(row.skipped) for row in rows],
        "clean - corrupted": [interval(row.effect, signed=True) for row in rows],
        "pairs that agree": [f"{row.agreeing:.0%}" for row in rows],
        "verdict": [row.verdict for row in rows],
    }


def remarks(rows: list[AxiomEffect]) -> list[str]:
    """Says for which models an axiom does not hold."""
    found = []
    for row in rows:
        if row.verdict == NO_EFFECT:
            found.append(
                f"{row.axiom} does not hold for the {row.model}: the interval of the difference "
                "includes 0, so there is nothing to recover a share of."
            )
        elif row.verdict == REVERSED:
            found.append(
                f"{row.axiom} is reversed for the {row.model}: the corrupted passages score "
                "higher, and shares are of that difference."
            )
    return found


def layers_of(rows: list[AxiomEffect]) -> list[str]:
    """Names each layer of each model: "base, layer 0"."""
    return [f"{row.model}, layer {layer}" for row in rows for layer in range(len(row.feed_forward))]


def token_columns(rows: list[AxiomEffect]) -> dict[str, list[str]]:
    """Returns the share of each class of tokens, a cell for each model and layer, by class."""
    return {
        name: [number(share) for row in rows for share in row.tokens[name]]
        for name in rows[0].tokens
    }
