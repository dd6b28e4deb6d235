"""Reports of trainings from their logs: curves, tables, gaps and secrets."""

import math

import pytest

pytest.importorskip("jinja2", reason="not installed: pip install tilefold[analysis]")
pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[analysis]")

from page_parser import Page
from tilefold.report.training import TrainingRecord, training_report
from tilefold.report.training.training_record import thinned


def a_history(n: int = 6) -> list[dict[str, float]]:
    lines: list[dict[str, float]] = []
    for step in range(1, n + 1):
        line = {"loss": 2 / step, "grad_norm": 1.5, "learning_rate": 1e-5 * step, "step": step}
        line |= {"epoch": step / n, "contrastive": 1 / step, "distillation": 0.5 / step}
        line |= {"distillation_weight": 0.1 * step, "n_negatives": 7.5, "steps_per_second": 2.0}
        lines.append(line)
        if step % 3 == 0:
            lines.append({"eval_RR@10": 0.1 * step, "eval_average_rank": 9.0 - step, "step": step})
    return [*lines, {"train_runtime": 9.0, "train_loss": 1.0, "total_flos": 0.0, "step": n}]


def a_record(**options) -> TrainingRecord:
    known = {
        "before": {"RR@10": 0.05, "average_rank": 12.0},
        "after": {"RR@10": 0.61, "average_rank": 3.0},
        "settings": {"Model": {"pooling": "mean"}, "Training": {"hub_token": "abc", "seed": 7}},
        "versions": {"tilefold": "0.1.0"},
    }
    return TrainingRecord("Foxes", "Finished.", a_history(), **{**known, **options})


def page_of(record: TrainingRecord) -> Page:
    return Page(training_report(record).html())


def test_every_quantity_of_the_log_has_a_curve_with_its_numbers():
    files = page_of(a_record()).files()
    assert files["loss.csv"][1:] == [["loss", str(n), repr(2 / n)] for n in range(1, 7)]
    names = {row[0] for row in files["terms of the loss.csv"][1:]}
    assert names == {"contrastive", "distillation"}
    assert files["weights of the terms.csv"][1] == ["distillation_weight", "1", "0.1"]
    for name in ("learning_rate", "grad_norm", "n_negatives", "steps_per_second"):
        assert [row[1] for row in files[f"{name}.csv"][1:]] == list("123456")
    assert not {"epoch.csv", "train_runtime.csv", "total_flos.csv"} & set(files)


def test_measures_are_shown_before_after_and_by_step():
    page = page_of(a_record())
    table = page.table("measure")
    assert table["RR@10"] == ["0.0500", "0.6100"]
    assert table["average_rank"] == ["12.0000", "3.0000"]
    rows = page.files()["RR@10.csv"][1:]
    assert [row[1] for row in rows] == ["0", "3", "6"]
    assert float(rows[0][2]) == 0.05


@pytest.mark.parametrize(
    ("options", "words", "cells"),
    [
        ({"after": {}}, "after it they are not known", ["0.0500", "none"]),
        ({"before": {}}, "before it they are not known", ["none", "0.6100"]),
    ],
)
def test_measures_that_are_not_known_are_named(options, words, cells):
    page = page_of(a_record(**options))
    assert words in page.text
    assert page.table("measure")["RR@10"] == cells


def test_an_empty_training_says_so():
    page = page_of(TrainingRecord("Empty", "Interrupted.", []))
    for words in ("There was no validation.", "No step was logged.", "There are no lines."):
        assert words in page.text
    assert page.pictures == []


def test_the_log_is_formatted_as_on_the_terminal():
    header, *rows = next(t for t in page_of(a_record()).tables if t[0][0] == "step")
    assert header[:3] == ["step", "loss", "learning rate"]
    assert rows[1][:3] == ["2", "1.0000", "2.00e-05"]
    assert len(rows) == 6


def test_losses_that_are_not_finite_are_gaps_and_counted():
    history = a_history()
    history[0]["loss"], history[1]["loss"] = math.nan, math.inf
    page = page_of(TrainingRecord("Foxes", "Finished.", history))
    assert "NaN or infinite in 2 lines" in page.text
    assert page.files()["loss.csv"][1:3] == [["loss", "1", ""], ["loss", "2", ""]]


def test_of_two_evaluations_of_a_step_the_last_one_counts():
    again = {"eval_RR@10": 0.9, "eval_average_rank": 1.0, "step": 6}
    record = TrainingRecord("Foxes", "Finished.", [*a_history(), again])
    assert record.evaluations()[-1] == (6, {"RR@10": 0.9, "average_rank": 1.0})


def test_settings_hide_tokens_and_texts_are_escaped():
    record = TrainingRecord("<script>", "<b>", [], settings={"Training": {"hub_token": "abc"}})
    page = page_of(record)
    assert page.headings[0] == ("h1", "<script>")
    assert page.scripts == []
    assert page.table("name")["hub_token"] == ["${HUB_TOKEN}"]


def test_a_long_log_is_thinned_evenly_and_keeps_its_end():
    lines = [(step, {"loss": 1.0}) for step in range(1, 2502)]
    kept = thinned(lines)
    assert len(kept) <= 1000
    assert kept[:3] == [lines[0], lines[3], lines[6]]
    assert kept[-1] == lines[-1]
    assert thinned(lines[:1000]) == lines[:1000]
    assert thinned([]) == []
    for n in (1999, 2000, 2001):
        assert len(thinned(lines[:n])) <= 1000
        assert thinned(lines[:n])[-1] == lines[n - 1]


def test_a_page_of_a_hundred_thousand_lines_is_small():
    history = [{"loss": 1 / n, "learning_rate": 1e-5, "step": n} for n in range(1, 100_001)]
    html = training_report(TrainingRecord("Long", "Finished.", history)).html()
    assert len(html) < 1_000_000
    page = Page(html)
    assert "1,000 of 100,000 lines are drawn" in page.text
    assert "The first and the last 100 of 100,000 are shown." in page.text
    rows = next(table for table in page.tables if table[0][0] == "step")
    assert [rows[1][0], rows[-1][0]] == ["1", "100000"]


def test_the_same_record_gives_the_same_bytes():
    assert training_report(a_record()).html() == training_report(a_record()).html()


def test_values_of_settings_wrap_and_names_stay_whole():
    values = {"kwargs": {"num_cycles": 2}, "prefix": "", "folder": "x" * 300}
    html = training_report(TrainingRecord("T", "F", [], settings={"Training": values})).html()
    table = Page(html).table("name")
    assert table["kwargs"] == ['{"num_cycles": 2}']
    assert table["prefix"] == ["none"]
    assert '<table class="texts">' in html
    assert ".texts tbody th { white-space: nowrap;" in html
    assert ".texts td { white-space: normal; overflow-wrap: anywhere; }" in html
    assert 'class="texts"' not in training_report(TrainingRecord("T", "F", a_history())).html()
