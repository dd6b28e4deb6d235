"""Tables of the study of Invar-RAG: intervals over samples, and spread over seeds."""

import pytest

pytest.importorskip("matplotlib", reason="not installed: pip install tilefold[analysis]")

from tilefold.evaluate import Interval
from tilefold.report import Table
from tilefold.studies.invar import INVAR, InvarResult, InvarSettings
from tilefold.studies.invar.invar_result import (
    BM25,
    BOTH,
    ORIGINAL,
    REWRITES,
    STAGE_2,
    VANILLA,
    WINDOWS,
    Compared,
    Measured,
)
from tilefold.studies.paired_comparison import PairedComparison

SAMPLES = "groups of 90 questions that have the same relevant passages"
VARIANCE = "variance of probabilities"


def around(mean: float) -> Interval:
    return Interval(mean, mean - 0.05, mean + 0.05)


def made(samples: str = SAMPLES, seeds: int = 3) -> InvarResult:
    by_seed = (0.5, 0.6, 0.7)[:seeds]
    small = Interval(0.0023, 0.0021, 0.0025), (0.0022, 0.0023, 0.0024)[:seeds]
    retrieval = tuple(
        Measured(system, condition, "RR@10", around(0.6), own, 80)
        for condition in (ORIGINAL, REWRITES)
        for system, own in ((BM25, (0.6,)), ("full", by_seed))
    )
    robustness = tuple(
        Measured("full", condition, measure, *own, 80)
        for condition in (REWRITES, WINDOWS, BOTH)
        for measure, own in (("Jaccard@10", (around(0.6), by_seed)), (VARIANCE, small))
    )
    generation = tuple(
        Measured(system, "", "EM", around(0.6), by_seed, 80) for system in (VANILLA, STAGE_2)
    )
    gain = PairedComparison("EM", around(0.6), around(0.5), around(0.1), 80, 0.04)
    tiny = Interval(-0.0011, -0.0012, -0.0010)
    variance = PairedComparison(VARIANCE, small[0], small[0], tiny, 80, 0.001)
    return InvarResult(
        InvarSettings(world="tiny", seeds=list(range(seeds)), windows=[16]),
        "A tiny world",
        retrieval,
        robustness,
        (Compared("full", "no invariance", BOTH, VARIANCE, variance),),
        generation,
        (Compared(STAGE_2, VANILLA, "answers", "EM", gain),),
        (),
        (),
        (),
        {"test questions": 90},
        (),
        samples,
    )


def tables(result: InvarResult) -> dict[str, Table]:
    """Tables of the report by the beginning of their caption."""
    blocks = [block for section in INVAR.sections(result) for block in section.blocks]
    return {block.caption.split(";")[0]: block for block in blocks if isinstance(block, Table)}


def test_cells_of_trained_systems_have_the_deviation_over_seeds():
    found = tables(made())
    rows = dict(found["Retrieval, original"].rows)
    assert rows == {BM25: "0.600 [0.550, 0.650]", "full": "0.600 [0.550, 0.650] ± 0.100"}
    assert dict(found["Answers"].rows)[STAGE_2] == "0.600 [0.550, 0.650] ± 0.100"
    between = found["Between all wordings of a question in all windows"]
    assert between.header == ["system", "Jaccard@10", VARIANCE]
    shown = ["full", "0.600 [0.550, 0.650] ± 0.100", "0.0023 [0.0021, 0.0025] ± 0.0001"]
    assert between.rows == [shown]
    for name in ("Retrieval, original", "Answers", *(name for name in found if "Between" in name)):
        assert "±: standard deviation of the 3 means" in found[name].caption


def test_one_seed_has_no_deviation():
    found = tables(made(seeds=1))
    assert dict(found["Retrieval, original"].rows)["full"] == "0.600 [0.550, 0.650]"
    assert not any("±" in table.caption for table in found.values())
    assert "of 1 seed" in found["Retrieval, original"].caption


@pytest.mark.parametrize("samples", [SAMPLES, "questions"])
def test_captions_say_what_and_how_many_the_samples_are(samples):
    found = tables(made(samples))
    for name in ("Retrieval, original", "Answers"):
        assert f"; 80 {samples}, mean and 95% bootstrap interval" in found[name].caption
    for name in ("full - no invariance", "stage 2 - vanilla RAG"):
        assert f"; differences paired over 80 {samples}, values averaged" in found[name].caption
        assert "corrected over 1 difference (Holm)" in found[name].caption


def test_a_table_compares_two_systems_and_small_variances_have_four_digits():
    table = tables(made())["full - no invariance"]
    assert table.header == ["measure", "no invariance", "full", "difference", "p (Holm)"]
    ((measure, *_, difference, _),) = table.rows
    assert measure == f"{VARIANCE}, {BOTH}"
    assert difference == "-0.0011 [-0.0012, -0.0010]"


def test_the_summary_has_the_deviation_and_the_samples_too():
    found = {table.heading: table for table in INVAR.summary(made())}
    table = found[f"Robustness, {BOTH}"]
    assert table.columns["Jaccard@10"] == ["0.600 [0.550, 0.650] ± 0.100"]
    assert table.notes == ["±: standard deviation over 3 seeds."]
    assert found["Comparisons of answers"].notes == [
        f"Paired over 80 {SAMPLES}, values averaged over seeds."
    ]
