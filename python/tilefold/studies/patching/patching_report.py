"""Sections of a report on patching by axioms of retrieval."""

from __future__ import annotations

import numpy as np

from ...report import Figure, Figures, Listing, Paragraph, Section, Table, heat_maps
from ...report.number_format import interval
from ...report.page import Block
from .patching_result import AxiomEffect, PatchingResult
from .patching_summary import (
    MEANINGS,
    axioms_of,
    effect_columns,
    labels_of,
    layers_of,
    remarks,
    token_columns,
)

_WORDS = (
    "Pairs of passages have as many tokens and differ in the words at their end. By an axiom of "
    "retrieval (Fang, Tao and Zhai, 2004) the clean one scores higher for its query, where a score "
    "is the inner product of the embeddings. TFC1 (term frequency): one more occurrence of a "
    "query term, against a filler word. TDC (term discrimination): a query term of few documents, "
    "against one of more documents. LNC1 (length normalisation): filler words, against words of "
    "another passage that the query does not have. Then the corrupted passage is read again and "
    "again, each time with the output of one attention head or feed-forward block as in the clean "
    "passage (activation patching: Chen, Merullo and Eickhoff, 2024). The share recovered is what "
    "this adds to the scores of all pairs, divided by the sum of their differences: 0 changes "
    "nothing, 1 gives the clean scores. Shares need not add up to 1. Intervals are 95% bootstrap "
    "intervals over pairs."
)


def patching_sections(result: PatchingResult) -> list[Section]:
    """Returns a section on the axioms, and one for each of them on what carries it.

    Args:
        result: of `run_patching`.
    """
    items = [
        (
            f"{one.axiom}: {one.query}",
            [f"clean: ... {one.clean}", f"corrupted: ... {one.corrupted}"],
        )
        for one in result.shown
    ]
    table = Table.from_columns(
        "axiom, model",
        labels_of(result.effects),
        effect_columns(result.effects),
        "Clean minus corrupted scores, and the share of pairs that agree with the axiom. Skipped: "
        "queries that were tried and that no pair can be made for. An axiom holds where the "
        "interval is above 0, and is reversed where it is below 0.",
    )
    sections = [Section("Axioms of retrieval", [Paragraph(_WORDS), table, Listing(items)])]
    for axiom in axioms_of(result):
        own = [row for row in result.effects if row.axiom == axiom]
        sections.append(_axiom(axiom, own))
    return sections


def _axiom(axiom: str, rows: list[AxiomEffect]) -> Section:
    blocks: list[Block] = [Paragraph(f"By the axiom, {MEANINGS[axiom]}.")]
    blocks += [Paragraph(text) for text in remarks(rows)]
    effective = [row for row in rows if row.strongest]
    if effective:
        blocks += [Figures([_heat(axiom, effective)]), _strongest(effective)]
    by_token = [row for row in effective if row.tokens]
    if by_token:
        blocks.append(_tokens(axiom, by_token))
    return Section(f"What carries {axiom}", blocks)


def _heat(axiom: str, rows: list[AxiomEffect]) -> Figure:
    maps = {
        row.model: np.column_stack([np.array(row.heads), np.array(row.feed_forward)])
        for row in rows
    }
    layers, columns = next(iter(maps.values())).shape
    svg = heat_maps(
        f"patching {axiom}",
        [str(layer) for layer in range(layers)],
        maps,
        x_label="head, or feed-forward block (FF)",
        bar_label="share recovered",
        columns=[*(str(head) for head in range(columns - 1)), "FF"],
    )
    parts = [f"{row.model} most in {row.strongest[0].component}" for row in rows]
    alt = f"Heat maps of shares recovered for {axiom}, a row for each layer: {'; '.join(parts)}"
    caption = f"Share of the difference of {axiom} that each component recovers, by layer (rows)."
    return Figure(svg, alt, caption)


def _strongest(rows: list[AxiomEffect]) -> Table:
    cells = [
        [f"{row.model}, {one.component}", interval(one.share, 2)]
        for row in rows
        for one in row.strongest
    ]
    caption = (
        "Components of the largest absolute shares. They were chosen on the same pairs, so that "
        "the largest shares are rather too large."
    )
    return Table(["component", "share recovered"], cells, caption)


def _tokens(axiom: str, rows: list[AxiomEffect]) -> Table:
    caption = (
        f"Share of the difference of {axiom} that the states of tokens behind each layer recover, "
        "each token patched alone, in sum over the tokens of a class; pairs without such a token "
        "are left out. The first token is one that the tokenizer adds, such as [CLS]: behind the "
        "last layer it is the embedding of models that pool it."
    )
    return Table.from_columns("model, layer", layers_of(rows), token_columns(rows), caption)
