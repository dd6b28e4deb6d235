"""Sections of a report on invariant, LLM-aligned retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...report import Figure, Figures, Listing, Paragraph, Section, Table, heat_maps, lines, points
from ...report.figures import Line
from ...report.number_format import interval, number, p_value
from ...report.page import Block
from .invar_result import (
    BOTH,
    RERANKED,
    REWRITES,
    WINDOWS,
    Compared,
    InvarResult,
    Measured,
    RankingStrip,
)
from .invar_summary import digits_of, measured_table
from .view_rankings import VARIANCE

_BETWEEN = {
    REWRITES: "a question and its unseen rewrites",
    WINDOWS: "whole passages and chunks",
    BOTH: "all wordings of a question in all windows",
}
_CHARACTERS = 60  # of a passage in the list below a strip


def invar_sections(result: InvarResult) -> list[Section]:
    """Returns retrieval, robustness, answers, rankings of questions, training and costs.

    Args:
        result: of `run_invar`.
    """
    return [
        Section("Retrieval", _retrieval_blocks(result)),
        Section("Robustness", _robustness_blocks(result)),
        *([Section("Answers", _answer_blocks(result))] if result.generation else []),
        *([Section("Questions under their rewrites", _strip_blocks(result))] * bool(result.strips)),
        *([Section("Weights and views", _sweep_blocks(result))] if result.sweep else []),
        Section("Training", _training_blocks(result)),
    ]


def _retrieval_blocks(result: InvarResult) -> list[Block]:
    likelihood = result.settings.alignment == "likelihood"
    teacher = "likelihood of the answer" if likelihood else "coarse encoder"
    words = (
        "full is the model with a LoRA adapter, trained by the contrastive, the alignment and the "
        "invariance loss. A variant named no leaves that part out; without lora, all weights are "
        "trained. augmentation has rewrites as further training queries in place of the "
        "invariance loss. Training starts from the model before stage 1; the teacher of the "
        f"alignment is the {teacher}. Unseen rewrites are wordings that no training had; values "
        "are means over them."
    )
    depth = result.settings.rerank_depth
    if depth:
        words += f" {RERANKED}: full ranks the coarse encoder's first {depth} again."
    blocks: list[Block] = [Paragraph(words)]
    for condition in dict.fromkeys(row.condition for row in result.retrieval):
        rows = [row for row in result.retrieval if row.condition == condition]
        blocks.append(_measured(f"Retrieval, {condition}", rows, result))
    return [*blocks, *_comparisons(result.comparisons, result)]


def _robustness_blocks(result: InvarResult) -> list[Block]:
    words = (
        "How much the ranking of a question differs between interventions: the standard deviation "
        "and the lowest value of a measure over them, the overlap of the first passages of two "
        "interventions (Jaccard) and the overlap weighted by rank (RBO), how often the first "
        "passage changes between being relevant and not (flips), and the variance of the "
        "probability of a passage, summed over passages. Probabilities are at the temperature of "
        "the training, those of the coarse encoder at the teacher's; other retrievers have none. "
        "A flatter softmax has a smaller variance: read it beside Jaccard and RBO. Rewrites and "
        "windows together are all wordings in all windows."
    )
    blocks: list[Block] = [Paragraph(words)]
    for condition in dict.fromkeys(row.condition for row in result.robustness):
        rows = [row for row in result.robustness if row.condition == condition]
        between = _BETWEEN.get(condition, condition)
        blocks.append(_measured(f"Between {between}", rows, result))
    figure = _by_variant(result, VARIANCE)
    return [*blocks, Figures([figure])] if figure else blocks


def _by_variant(result: InvarResult, measure: str) -> Figure | None:
    rows = [row for row in result.robustness if row.measure == measure]
    if not rows:
        return None
    places = list(dict.fromkeys(row.system for row in rows))
    series = {}
    for condition in dict.fromkeys(row.condition for row in rows):
        own = {row.system: row.value for row in rows if row.condition == condition}
        known = [own.get(place) for place in places]
        series[condition] = Line(
            [None if one is None else one.mean for one in known],
            [None if one is None else one.low for one in known],
            [None if one is None else one.high for one in known],
        )
    svg = points("variance", places, series, x_label="retriever", y_label=measure)
    alt = "; ".join(f"{row.system} {row.condition} {row.value.mean:.4f}" for row in rows)
    caption = "Variance of the probabilities of passages over interventions, by retriever."
    return Figure(svg, f"{measure}: {alt}", caption)


def _measured(heading: str, rows: Sequence[Measured], result: InvarResult) -> Table:
    table = measured_table(heading, rows)
    seeds = len(result.settings.seeds)
    spread = (
        f"averaged over {seeds} seeds; ±: standard deviation of the {seeds} means, which the "
        "intervals do not cover"
        if seeds > 1
        else "of 1 seed, which the intervals do not cover"
    )
    caption = (
        f"{heading}; {rows[0].n:,} {result.samples}, mean and 95% bootstrap interval over them; "
        f"values of trained systems {spread}."
    )
    return Table.from_columns("system", table.labels, table.columns, caption)


def _comparisons(rows: Sequence[Compared], result: InvarResult) -> list[Table]:
    """Returns a table for each system that is compared with."""
    pairs = dict.fromkeys((row.system, row.other) for row in rows)
    return [
        _comparison(
            [row for row in rows if (row.system, row.other) == pair], len(rows), result.samples
        )
        for pair in pairs
    ]


def _comparison(rows: Sequence[Compared], corrected: int, samples: str) -> Table:
    cells = [
        [
            f"{row.measure}, {row.condition}",
            interval(row.comparison.base, digits_of(row.measure)),
            interval(row.comparison.model, digits_of(row.measure)),
            interval(row.comparison.difference, digits_of(row.measure), signed=True),
            p_value(row.comparison.p),
        ]
        for row in rows
    ]
    system, other = rows[0].system, rows[0].other
    caption = (
        f"{system} - {other}; differences paired over {rows[0].comparison.n:,} {samples}, values "
        "averaged over seeds; p: two-sided paired randomisation test, corrected over "
        f"{corrected} difference{'s' * (corrected > 1)} (Holm)."
    )
    return Table(["measure", other, system, "difference", "p (Holm)"], cells, caption)


def _answer_blocks(result: InvarResult) -> list[Block]:
    words = (
        "Answers of the language model to the test questions: without passages; with the passages "
        "of the full retriever, before stage 2; as an ensemble over single passages weighted by "
        "the retriever (REPLUG); and after stage 2, which trained an adapter on prompts with "
        "retrieved passages while the retriever's weights were frozen. Stage 2 of another variant "
        "has the passages of its own retriever."
    )
    return [
        Paragraph(words),
        _measured("Answers", result.generation, result),
        *_comparisons(result.generation_gains, result),
    ]


def _strip_blocks(result: InvarResult) -> list[Block]:
    words = (
        "Each row is a wording of the question, the first one its own; columns are the passages "
        "that the full retriever finds for its own wording, best first. Shades are 1 / rank under "
        "the wording of the row; columns that keep their shade are invariant. A star marks "
        "relevant passages."
    )
    blocks: list[Block] = [Paragraph(words)]
    for place, strip in enumerate(result.strips, 1):
        blocks.append(Figures([_strip_figure(place, strip)]))
        numbered = [
            f"{place}{'*' if gold else ''}: {_short(text)}"
            for place, (text, gold) in enumerate(zip(strip.passages, strip.gold, strict=True), 1)
        ]
        rewrites = [f"rewrite {place}: {text}" for place, text in enumerate(strip.wordings[1:], 1)]
        blocks.append(Listing([("Rewrites and passages", [*rewrites, *numbered])]))
    return blocks


def _strip_figure(row: int, strip: RankingStrip) -> Figure:
    rows = ["question", *(f"rewrite {place}" for place in range(1, len(strip.wordings)))]
    columns = [f"{place}{'*' if gold else ''}" for place, gold in enumerate(strip.gold, 1)]
    maps = {
        variant: np.array([[1 / rank if rank else 0.0 for rank in own] for own in ranks])
        for variant, ranks in strip.ranks.items()
    }
    svg = heat_maps(
        f"strip {row}", rows, maps, x_label="passage", bar_label="1 / rank", columns=columns
    )
    kept = "; ".join(
        f"{variant}: the rank of passage 1 is kept by "
        f"{sum(own[:1] == ranks[0][:1] for own in ranks[1:])} of {len(ranks) - 1} rewrites"
        for variant, ranks in strip.ranks.items()
    )
    return Figure(svg, f"Ranks under rewrites of {strip.question!r}. {kept}", strip.question)


def _short(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[: _CHARACTERS - 3]}..."


def _sweep_blocks(result: InvarResult) -> list[Block]:
    figures = []
    for name in dict.fromkeys(point.name for point in result.sweep):
        rows = [point for point in result.sweep if point.name == name]
        places = sorted({point.value for point in rows})
        for measure in dict.fromkeys(point.measure for point in rows):
            own = {point.value: point.result for point in rows if point.measure == measure}
            series = {
                measure: Line(
                    [own[place].mean for place in places],
                    [own[place].low for place in places],
                    [own[place].high for place in places],
                )
            }
            svg = lines(f"{name} {measure}", places, series, x_label=name, y_label=measure)
            alt = "; ".join(f"{place:g} {own[place].mean:.3f}" for place in places)
            figures.append(Figure(svg, f"{measure} by {name}: {alt}", f"{measure} by {name}."))
    return [Figures(figures)]


def _training_blocks(result: InvarResult) -> list[Block]:
    blocks: list[Block] = []
    names = dict.fromkeys(name for point in result.curves for name in point.losses)
    figures = [_curve(result, name) for name in names]
    if figures:
        blocks.append(Figures(figures))
    rows = [[name, f"{value:,}"] for name, value in result.counts.items()]
    if rows:
        blocks.append(Table(["data", "number"], rows, "Questions, rewrites and what was left out."))
    cells = [[one.stage, number(one.seconds, 1)] for one in result.stages]
    caption = "Wall time of each stage in this run; stages kept from an earlier run take none."
    return [*blocks, Table(["stage", "seconds"], cells, caption)]


def _curve(result: InvarResult, name: str) -> Figure:
    """Draws a loss by step, mean over seeds; the shade is from the lowest to the highest."""
    points = [point for point in result.curves if name in point.losses]
    steps = sorted({point.step for point in points})
    series = {}
    for variant in dict.fromkeys(point.variant for point in points):
        values = [
            [p.losses[name] for p in points if (p.variant, p.step) == (variant, step)]
            for step in steps
        ]
        series[variant] = Line(
            [float(np.mean(own)) if own else None for own in values],
            [min(own) if own else None for own in values],
            [max(own) if own else None for own in values],
        )
    svg = lines(f"curve {name}", steps, series, x_label="step", y_label=name)
    last = "; ".join(f"{variant} {number(line.values[-1], 3)}" for variant, line in series.items())
    return Figure(svg, f"{name} during stage 1, at the end: {last}", f"{name}, stage 1.")
