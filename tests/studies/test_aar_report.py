"""The result of AAR as JSON, as a summary and as a report."""

import math

import pytest

pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[analysis]")

from tilefold.evaluate import Interval
from tilefold.studies.aar import AAR, AARResult, AARSettings
from tilefold.studies.aar.aar_result import (
    CLOSED_BOOK,
    GENREAD,
    UNADAPTED,
    DeletedAnswers,
    Overlap,
    PassageList,
    PassageSweep,
    QuestionExample,
    StageTime,
    TargetAccuracy,
    TargetGain,
    TrainingCounts,
    TrainingPoint,
)
from tilefold.studies.paired_comparison import PairedComparison
from tilefold.studies.report_pages import aar_report
from tilefold.studies.study_file import result_from_json, result_to_json


def around(mean: float) -> Interval:
    return Interval(mean, mean - 0.05, mean + 0.05)


@pytest.fixture(scope="module")
def result() -> AARResult:
    values = {CLOSED_BOOK: 0.2, UNADAPTED: 0.5, "human": 0.51, "lm": 0.6, "both": 0.62}
    targets = ("small T5", "causal <LM>")
    accuracies = [
        TargetAccuracy(
            "PopQA",
            target,
            name,
            around(value + shift),
            (value + shift,) * (1 if name in (CLOSED_BOOK, UNADAPTED) else 2),
            400,
        )
        for target, shift in zip(targets, (0.0, 0.1), strict=True)
        for name, value in values.items()
    ]
    gain = PairedComparison("lm", around(0.6), around(0.5), around(0.1), 400, 0.0004)
    return AARResult(
        settings=AARSettings(world="tiny", seeds=(0, 1)),
        title="A tiny world",
        accuracies=tuple(accuracies),
        gains=(TargetGain("PopQA", targets[0], "lm", gain),),
        overlaps=(
            Overlap("human", "source", around(0.13), 300),
            Overlap("source", targets[0], around(0.55), 300),
            Overlap("human", targets[0], around(0.15), 300),
        ),
        curves=tuple(
            TrainingPoint(mode, seed, step, 0.3 + 0.01 * seed, math.nan)
            for mode in ("lm", "both")
            for seed in (0, 1)
            for step in (0, 50, 100)
        ),
        training=(TrainingCounts("both", 250, 2.9, 0.66, 50),),
        deletions=(
            DeletedAnswers(
                "small T5", "human judges", 0.9, around(0.6), around(0.2), around(0.4), 9
            ),
        ),
        sweep=tuple(
            PassageSweep("PopQA", "small T5", retrieval, n, around(0.1 * n))
            for retrieval in (UNADAPTED, "both")
            for n in (1, 3, 5)
        ),
        examples=(
            QuestionExample(
                "Who <b>?",
                ("she",),
                (PassageList("human judges", ("one",)), PassageList("source LM", ("two", "three"))),
            ),
        ),
        flops={"small T5, per question": 2.5e9},
        stages=(StageTime("preferences", 12.34),),
        constants={"documents": 100.0},
    )


def test_a_result_is_read_back_as_it_was(result):
    again = result_from_json(AAR, result_to_json(AAR, result))
    assert again.accuracies == result.accuracies
    assert again.settings == result.settings
    assert all(math.isnan(point.accuracy) for point in again.curves)
    assert again.examples == result.examples


def test_the_summary_has_a_column_for_each_retrieval(result):
    accuracies, gains, overlaps = AAR.summary(result)
    assert accuracies.heading == "Accuracy on PopQA"
    assert list(accuracies.columns) == [CLOSED_BOOK, UNADAPTED, "human", "lm", "both"]
    assert accuracies.columns["lm"] == ["0.600 [0.550, 0.650]", "0.700 [0.650, 0.750]"]
    assert gains.columns["gain"] == ["+0.100 [+0.050, +0.150]"]
    assert gains.columns["p (Holm)"] == ["< 0.001"]
    assert overlaps.columns["overlap"][1] == "0.550 [0.500, 0.600]"


def test_the_report_has_every_part(result):
    report = aar_report(AAR, result)
    page, text = report.html(), report.markdown()
    headings = [section.heading for section in report.sections]
    assert headings == [
        "Accuracy of target LMs",
        "Overlap of preferences",
        "Training",
        "Answers in passages",
        "Number of passages",
        "Questions",
        "Cost",
        "Settings and seeds",
    ]
    assert (
        page.count("<svg ") == 4
    )  # accuracy, overlap, RR@10, passages: the LM was not measured in training
    assert "causal &lt;LM&gt;" in page
    assert "Who &lt;b&gt;? (she)" in page
    assert "human judges" in text
    assert "small T5, human judges | 0.90 | 0.600 [0.550, 0.650]" in text
    assert "best 0.50 of small T5, un-adapted, with 5" in text
    assert "| tilefold |" in text
    assert "small T5, lm | 0.600, 0.600 |" in text


def test_genread_is_explained_and_stands_beside_closed_book(result):
    import dataclasses

    row = dataclasses.replace(result.accuracies[0], retrieval=GENREAD)
    written = dataclasses.replace(
        result,
        settings=dataclasses.replace(result.settings, genread=True),
        accuracies=(*result.accuracies, row),
    )
    page = aar_report(AAR, written).html()
    assert "GenRead is a target LM that reads one document" in page
    assert "GenRead is" not in aar_report(AAR, result).html()
    places = [page.index(f">{name}</text>") for name in (CLOSED_BOOK, GENREAD, UNADAPTED)]
    assert places == sorted(places)


def test_curves_of_a_target_lm_are_drawn_where_they_were_measured(result):
    import dataclasses

    measured = dataclasses.replace(
        result, curves=tuple(dataclasses.replace(p, accuracy=0.4) for p in result.curves)
    )
    assert aar_report(AAR, measured).html().count("<svg ") == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected world; or retriever, source_lm, data, targets, tasks; missing: retriever"),
        ({"world": "tiny", "data": "x"}, "data: not with world"),
        ({"world": "tiny", "corpora": ["x"]}, "corpora: not with world"),
        ({"world": "tiny", "top_k": 11}, "top_k: expected at most n_retrieved, 10, got 11"),
        ({"world": "tiny", "depth": 20}, "n_negatives: expected at most depth, 20, got 30"),
        ({"world": "tiny", "depth": 5}, "n_retrieved: expected at most depth, 5, got 10"),
        ({"world": "tiny", "group_negatives": 31}, "expected at most n_negatives, 30, got 31"),
        ({"world": "tiny", "seeds": []}, "seeds: expected one or more, got none"),
        ({"world": "tiny", "temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
        ({"world": "tiny", "signal": "gaze"}, "signal: expected one of attention"),
        (
            {"world": "tiny", "signal": "causal attention"},
            "signal: 'causal attention' needs a decoder-only LM, and the source LM of a world",
        ),
        ({"world": "tiny", "modes": ["robot"]}, "modes: expected one of human"),
        ({"world": "tiny", "exact_positives": -1}, "exact_positives: expected 0 or more, got -1"),
        (
            {
                "retriever": "r",
                "source_lm": "s",
                "data": "d",
                "targets": ["fusion:t"],
                "tasks": ["popqa:a", "popqa:b", "mmlu:c"],
                "corpora": ["x", "y"],
            },
            "corpora: expected one for all tasks or one each, 3, got 2",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        AARSettings(**options)
