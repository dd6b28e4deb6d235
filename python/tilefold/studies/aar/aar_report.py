"""Sections of a report on augmentation-adapted retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...report import (
    Figure,
    Figures,
    Paragraph,
    Section,
    SideBySide,
    Table,
    heat_maps,
    lines,
    points,
)
from ...report.figures import Line
from ...report.number_format import interval, number, p_value
from ...report.page import Block
from .aar_result import (
    ADAPTIVE,
    CLOSED_BOOK,
    GENREAD,
    GOLD,
    UNADAPTED,
    AARResult,
    Overlap,
    TargetAccuracy,
)
from .aar_summary import accuracy_table

_ORDER = (CLOSED_BOOK, GENREAD, UNADAPTED, ADAPTIVE, "human", "lm", "both", GOLD)


def aar_sections(result: AARResult) -> list[Section]:
    """Returns accuracies, gains, overlaps, training, questions and costs.

    Args:
        result: of `run_aar`.
    """
    return [
        Section("Accuracy of target LMs", _accuracy_blocks(result)),
        Section("Overlap of preferences", _overlap_blocks(result.overlaps)),
        Section("Training", _training_blocks(result)),
        *_analyses(result),
        Section("Questions", _question_blocks(result)),
        Section("Cost", _cost_blocks(result)),
    ]


def _accuracy_blocks(result: AARResult) -> list[Block]:
    seeds = len(result.settings.seeds)
    words = (
        "The retriever was adapted to the preferences of the source LM, and then serves target LMs "
        "that it has not met. Closed book is a target LM without passages; un-adapted is the "
        "retriever before adaptation; human, lm and both are its training with human positives, "
        "with passages that the source LM prefers, and with their union."
    )
    if result.settings.genread:
        words += (
            " GenRead is a target LM that reads one document, which it wrote itself for the "
            "question; Adaptive Retrieval answers popular subjects with it."
        )
    blocks: list[Block] = [Paragraph(words)]
    for task in dict.fromkeys(row.task for row in result.accuracies):
        rows = [row for row in result.accuracies if row.task == task]
        blocks.append(Figures([_accuracy_figure(task, rows)]))
        table = accuracy_table(task, rows)
        caption = (
            f"Accuracy on {task}, {rows[0].n:,} questions; 95% bootstrap intervals over questions, "
            f"accuracies averaged over {seeds} seeds of training."
        )
        blocks.append(Table.from_columns("target LM", table.labels, table.columns, caption))
        if seeds > 1:
            blocks.append(_by_seed(task, rows))
    if result.gains:
        blocks.append(_gain_table(result))
    return blocks


def _accuracy_figure(task: str, rows: Sequence[TargetAccuracy]) -> Figure:
    places = [name for name in _ORDER if any(row.retrieval == name for row in rows)]
    series = {}
    for target in dict.fromkeys(row.target for row in rows):
        own = {row.retrieval: row.accuracy for row in rows if row.target == target}
        known = [own.get(place) for place in places]
        series[target] = Line(
            [None if one is None else one.mean for one in known],
            [None if one is None else one.low for one in known],
            [None if one is None else one.high for one in known],
        )
    best = "; ".join(
        f"{row.target} {row.retrieval} {row.accuracy.mean:.2f}"
        for row in rows
        if row.retrieval != GOLD
    )
    svg = points(f"accuracy {task}", places, series, x_label="retrieval", y_label="accuracy")
    return Figure(svg, f"Accuracy of target LMs on {task}: {best}", f"Accuracy on {task}.")


def _by_seed(task: str, rows: Sequence[TargetAccuracy]) -> Table:
    trained = [row for row in rows if len(row.by_seed) > 1]
    cells = [
        [f"{row.target}, {row.retrieval}", ", ".join(number(value, 3) for value in row.by_seed)]
        for row in trained
    ]
    return Table(["target LM and retrieval", "accuracy of each seed"], cells, f"Seeds on {task}.")


def _gain_table(result: AARResult) -> Table:
    cells = [
        [
            f"{row.target} on {row.task}, {row.retrieval}",
            interval(row.comparison.base),
            interval(row.comparison.model),
            interval(row.comparison.difference, signed=True),
            p_value(row.comparison.p),
        ]
        for row in result.gains
    ]
    caption = (
        "Adapted retrievers beside the un-adapted one: accuracies paired over questions and "
        "averaged over seeds; p: two-sided paired randomisation test, corrected over all rows "
        "(Holm)."
    )
    return Table(["target LM", UNADAPTED, "adapted", "gain", "p (Holm)"], cells, caption)


def _overlap_blocks(overlaps: Sequence[Overlap]) -> list[Block]:
    names = list(dict.fromkeys(name for row in overlaps for name in (row.first, row.second)))
    matrix = np.eye(len(names))
    for row in overlaps:
        i, j = names.index(row.first), names.index(row.second)
        matrix[i, j] = matrix[j, i] = row.overlap.mean
    svg = heat_maps(
        "overlap",
        names,
        {"overlap": matrix},
        x_label="",
        bar_label="overlap of positives",
        columns=names,
    )
    alt = "; ".join(f"{row.first} and {row.second} {row.overlap.mean:.2f}" for row in overlaps)
    figure = Figure(svg, f"Overlap of positives: {alt}", "Overlap of positives (eq. 8).")
    table = Table(
        ["annotators", "overlap", "questions"],
        [
            [f"{row.first} and {row.second}", interval(row.overlap), f"{row.n:,}"]
            for row in overlaps
        ],
        "Shared positives as a share of all positives of a question, mean and 95% interval. The "
        "paper found 0.55 and more between LMs, and about 0.13 between human judges and LMs.",
    )
    return [Figures([figure]), table]


def _training_blocks(result: AARResult) -> list[Block]:
    cells = [
        [
            row.retrieval,
            f"{row.questions:,}",
            number(row.positives, 2),
            number(row.from_lm, 2),
            f"{row.dropped:,}",
        ]
        for row in result.training
    ]
    header = ["positives", "questions", "positives each", "share by the LM", "dropped"]
    caption = (
        "Training sets. Dropped: questions without the positives that are required, or without any "
        "hard negative."
    )
    blocks: list[Block] = [Table(header, cells, caption)]
    if result.curves:
        figures = [_curve(result, "reciprocal_rank", "RR@10 of human judgments")]
        if any(row.accuracy == row.accuracy for row in result.curves):
            figures.append(_curve(result, "accuracy", "accuracy of the first target LM"))
        blocks.append(Figures(figures))
    return blocks


def _curve(result: AARResult, name: str, label: str) -> Figure:
    """Draws a measure by step, mean over seeds; the shade is from the lowest to the highest."""
    steps = sorted({row.step for row in result.curves})
    series = {}
    for retrieval in dict.fromkeys(row.retrieval for row in result.curves):
        values = [
            [
                getattr(row, name)
                for row in result.curves
                if (row.retrieval, row.step) == (retrieval, step)
            ]
            for step in steps
        ]
        series[retrieval] = Line(
            [float(np.mean(own)) if own else None for own in values],
            [min(own) if own else None for own in values],
            [max(own) if own else None for own in values],
        )
    svg = lines(f"curve {name}", steps, series, x_label="step", y_label=label)
    first = "; ".join(
        f"{retrieval} from {number(line.values[0], 3)} to {number(line.values[-1], 3)}"
        for retrieval, line in series.items()
    )
    caption = f"{label[0].upper()}{label[1:]} on held-out source questions; shade over seeds."
    return Figure(svg, f"{label} during training: {first}", caption)


def _analyses(result: AARResult) -> list[Section]:
    """Returns sections of analyses that were made."""
    sections = []
    if result.deletions:
        sections.append(Section("Answers in passages", [_deletion_table(result)]))
    if result.sweep:
        tasks = dict.fromkeys(row.task for row in result.sweep)
        figures = [_sweep_figure(result, task) for task in tasks]
        sections.append(Section("Number of passages", [Figures(figures)]))
    return sections


def _deletion_table(result: AARResult) -> Table:
    cells = [
        [
            f"{row.target}, {row.source}",
            number(row.with_answer, 2),
            interval(row.whole),
            interval(row.deleted),
            interval(row.loss, signed=True),
        ]
        for row in result.deletions
    ]
    header = ["target LM and passages", "with answer", "accuracy", "without answers", "loss"]
    caption = (
        f"Passages of {result.deletions[0].n:,} source questions, as they are and without the "
        "answers in them. The paper found that passages which an LM prefers lose less."
    )
    return Table(header, cells, caption)


def _sweep_figure(result: AARResult, task: str) -> Figure:
    rows = [row for row in result.sweep if row.task == task]
    places = sorted({row.n_passages for row in rows})
    series = {}
    for target, retrieval in dict.fromkeys((row.target, row.retrieval) for row in rows):
        own = [row for row in rows if (row.target, row.retrieval) == (target, retrieval)]
        series[f"{target}, {retrieval}"] = Line([row.accuracy.mean for row in own])
    svg = lines(f"sweep {task}", places, series, x_label="passages read", y_label="accuracy")
    best = max(rows, key=lambda row: row.accuracy.mean)
    alt = (
        f"Accuracy on {task} by number of passages; best {best.accuracy.mean:.2f} of "
        f"{best.target}, {best.retrieval}, with {best.n_passages}"
    )
    return Figure(svg, alt, f"Accuracy on {task} by the number of passages read, first seed.")


def _question_blocks(result: AARResult) -> list[Block]:
    words = (
        "Source questions with the passages of human judges, of the source LM, and of the "
        "retriever before and after adaptation."
    )
    items = [
        (
            f"{one.question} ({', '.join(one.answers)})" if one.answers else one.question,
            {each.source: list(each.passages) for each in one.lists},
        )
        for one in result.examples
    ]
    return [Paragraph(words), SideBySide(items)]


def _cost_blocks(result: AARResult) -> list[Block]:
    blocks: list[Block] = []
    if result.flops:
        rows = [[name, f"{value / 1e9:,.2f}"] for name, value in result.flops.items()]
        caption = "Floating-point operations of a question, mean, computed from shapes."
        blocks.append(Table(["model and stage", "GFLOP"], rows, caption))
    rows = [[one.stage, number(one.seconds, 1)] for one in result.stages]
    caption = "Wall time of each stage in this run; stages kept from an earlier run take none."
    return [*blocks, Table(["stage", "seconds"], rows, caption)]
