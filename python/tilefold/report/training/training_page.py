"""Sections of a report on a training: curves, measures, log, settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...files.secrets import referenced
from ..csv_files import CsvFile
from ..curves import Curve, curves
from ..number_format import number
from ..page import Block, Figure, Figures, Paragraph, Report, Section, Table
from .training_record import RATES, TrainingRecord, is_gap, thinned

Lines = Sequence[tuple[int, dict[str, float]]]
# Names of the log with the words of their axes; other names are terms of the loss.
_LABELS = {
    "loss": "loss",
    "learning_rate": "learning rate",
    "grad_norm": "norm of the gradient",
    "n_negatives": "negatives of a query",
    "negatives_age": "age of the negatives in steps",
    RATES: "steps per second",
}
_ROWS = 200  # of the table of the log
_FIGURES = 12  # of measures
_EXPONENTS = {"learning_rate": ".2e"}  # shown as the command line shows them
_DIGITS = {"n_negatives": 1, "negatives_age": 0, RATES: 2}


def training_report(record: TrainingRecord) -> Report:
    """Returns the page of a training: the same bytes for the same record.

    Args:
        record: of a training, finished or not.

    Example:
        >>> history = [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 1.25}]
        >>> report = training_report(TrainingRecord("Foxes", "Finished.", history))
        >>> [section.heading for section in report.sections]
        ['Measures', 'Training curve', 'Log', 'Settings, seeds and versions']
    """
    return Report(
        record.title,
        record.status,
        [_measures(record), _curves(record), _log(record), _settings(record)],
    )


def _measures(record: TrainingRecord) -> Section:
    blocks: list[Block] = []
    names = list(record.after or record.before)
    if names:
        columns = {
            label: [number(values.get(name), 4) for name in names]
            for label, values in (("before", record.before), ("after", record.after))
        }
        words = "Before training and after it."
        if not record.after:
            words = "Before training; after it they are not known."
        elif not record.before:
            words = "After training; before it they are not known."
        if record.settings.get("Training", {}).get("load_best_model_at_end"):
            words += " The measures after training are those of the best checkpoint."
        blocks.append(Table.from_columns("measure", names, columns, words))
    lines = record.evaluations()
    measured = list(dict.fromkeys(name for _, values in lines for name in values))
    if len(lines) > 1:
        figures = [_figure(name, [name], lines, y_label=name) for name in measured[:_FIGURES]]
        blocks.append(Figures(figures))
    if len(measured) > _FIGURES:
        blocks.append(Paragraph(f"{len(measured) - _FIGURES} more measures are not drawn."))
    return Section("Measures", blocks or [Paragraph("There was no validation.")])


def _curves(record: TrainingRecord) -> Section:
    lines = thinned(record.losses())
    if not lines:
        return Section("Training curve", [Paragraph("No step was logged.")])
    names = _names(lines)
    terms = [name for name in names if name not in _LABELS]
    weights = [name for name in terms if name.endswith("_weight")]
    terms = [name for name in terms if name not in weights]
    figures = [_figure("loss", ["loss"], lines, y_label=_LABELS["loss"])]
    for label, own in (("terms of the loss", terms), ("weights of the terms", weights)):
        if own:
            figures.append(_figure(label, own, lines, y_label=label))
    for name in (name for name in _LABELS if name in names and name != "loss"):
        figures.append(_figure(name, [name], lines, y_label=_LABELS[name]))
    return Section("Training curve", [Paragraph(_words(record, lines)), Figures(figures)])


def _names(lines: Lines) -> list[str]:
    """Returns names of the log: those that every training has come first."""
    found = dict.fromkeys(name for _, values in lines for name in values)
    return [*(name for name in _LABELS if name in found), *(n for n in found if n not in _LABELS)]


def _words(record: TrainingRecord, lines: Lines) -> str:
    total = len(record.losses())
    words = (
        "The loss, its terms and the number of negatives are means over the steps since the line "
        "before; the learning rate and the norm of the gradient, before it is clipped, are "
        "those of the step itself."
    )
    if len(lines) < total:
        words += f" {len(lines):,} of {total:,} lines are drawn, evenly spaced."
    gaps = sum(is_gap(values["loss"]) for _, values in record.losses())
    if gaps:
        words += f" The loss is NaN or infinite in {gaps:,} lines, which are gaps."
    rates = [values[RATES] for _, values in record.losses() if RATES in values]
    if rates:
        words += (
            f" The median is {np.median(rates):.2f} steps per second, without evaluation and "
            "checkpoints."
        )
    return words


def _figure(name: str, names: Sequence[str], lines: Lines, *, y_label: str) -> Figure:
    """Draws values of the same scale by step."""
    series, words, rows = {}, [], []
    for each in names:
        own = [(step, values[each]) for step, values in lines if each in values]
        if not own:
            continue
        steps = [step for step, _ in own]
        values = [None if is_gap(value) else value for _, value in own]
        series[_LABELS.get(each, each)] = Curve(steps, values)
        rows += [[each, step, value] for step, value in zip(steps, values, strict=True)]
        words.append(
            f"{each} from {_formatted(each, values[0])} at step {steps[0]:,} to "
            f"{_formatted(each, values[-1])} at step {steps[-1]:,}"
        )
    svg = curves(f"training {name}", series, x_label="step", y_label=y_label)
    data = CsvFile(f"{name}.csv", ["name", "step", "value"], rows)
    caption = f"{y_label} by step"
    return Figure(svg, f"{caption}: {'; '.join(words)}", f"{caption}.", data)


def _formatted(name: str, value: float | None) -> str:
    if name in _EXPONENTS and value is not None:
        return f"{value:{_EXPONENTS[name]}}"
    return number(value, _DIGITS.get(name, 4))


def _log(record: TrainingRecord) -> Section:
    """Returns the lines of the log, the first and the last ones where they are many."""
    lines = record.losses()
    if not lines:
        return Section("Log", [Paragraph("There are no lines.")])
    names = _names(lines)
    shown = lines if len(lines) <= _ROWS else [*lines[: _ROWS // 2], *lines[-_ROWS // 2 :]]
    rows = [
        [str(step), *(_formatted(name, values.get(name)) for name in names)]
        for step, values in shown
    ]
    caption = "Lines of the log with a loss."
    if len(shown) < len(lines):
        caption += f" The first and the last {_ROWS // 2} of {len(lines):,} are shown."
    kept = thinned(lines)
    every = "all lines" if len(kept) == len(lines) else f"{len(kept):,} lines"
    data = CsvFile(
        "log.csv",
        ["step", *names],
        [[step, *(values.get(name) for name in names)] for step, values in kept],
    )
    caption += f" The file has {every}, in full precision."
    header = ["step", *(_LABELS.get(name, name) for name in names)]
    return Section("Log", [Table(header, rows, caption, data=data, sortable=True)])


def _settings(record: TrainingRecord) -> Section:
    blocks: list[Block] = [
        _table(group, values) for group, values in record.settings.items() if values
    ]
    if record.versions:
        blocks.append(_table("Versions", record.versions))
    return Section("Settings, seeds and versions", blocks or [Paragraph("None were recorded.")])


def _table(group: str, values: Mapping[str, Any]) -> Table:
    rows = [[name, referenced(name, _text(value))] for name, value in values.items()]
    return Table(["name", "value"], rows, f"{group}.", texts=True)


def _text(value: Any) -> str:
    value = getattr(value, "value", value)  # of an enumeration
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return json.dumps(value, default=str)
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"
