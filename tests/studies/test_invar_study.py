"""The study of Invar-RAG in a world, with models trained for a few steps."""

import dataclasses
from functools import partial

import numpy as np
import pytest

pytest.importorskip("peft", reason="not installed: pip install tilefold[train]")
pytest.importorskip("bm25s", reason="not installed: pip install tilefold[demo]")

from small_readers import use_small_readers

from tilefold.files.steps import Steps
from tilefold.studies.invar import (
    INVAR,
    InvarSettings,
    generation_stage,
    retrieval_stage,
    run_invar,
)
from tilefold.studies.invar.invar_result import (
    BM25,
    BOTH,
    CLOSED_BOOK,
    COARSE,
    DPR,
    ENSEMBLE,
    GOLD,
    ORIGINAL,
    REWRITES,
    STAGE_2,
    UNTRAINED,
    VANILLA,
    WINDOWS,
)
from tilefold.world import reading_retriever

WORLD = InvarSettings(
    world="tiny",
    seeds=[0, 1],
    n_views=1,
    windows=[16],
    sweep_weights=[1.0],
    lora_rank=2,
    lora_alpha=4.0,
    lora_dropout=0.0,
    depth=10,
    group_negatives=2,
    epochs=1,
    train_batch_size=32,
    temperature=0.05,
    query_max_length=48,
    document_max_length=96,
    generator_epochs=1,
    n_passages=2,
    max_new_tokens=2,
    max_length=256,
    examples=2,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder of models that have one layer and were trained for two steps."""
    with pytest.MonkeyPatch.context() as patch:
        use_small_readers(patch, tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("invar")


@pytest.fixture(scope="module")
def result(cache, folder):
    return run_invar(WORLD, steps=Steps(folder))


def test_every_retriever_is_measured_on_both_wordings(result):
    systems = dict.fromkeys(row.system for row in result.retrieval)
    assert list(systems) == [BM25, COARSE, DPR, UNTRAINED, *WORLD.variants]
    for system in systems:
        own = {
            (row.condition, row.measure): row for row in result.retrieval if row.system == system
        }
        assert {condition for condition, _ in own} == {ORIGINAL, REWRITES}
        assert {measure for _, measure in own} == {"RR@10", "Success@1", "R@100"}
        seeds = 2 if system in WORLD.variants else 1
        assert {len(row.by_seed) for row in own.values()} == {seeds}
        assert all(0 <= row.value.mean <= 1 for row in own.values())


def test_robustness_is_measured_over_rewrites_over_windows_and_over_both(result):
    full = {(row.condition, row.measure) for row in result.robustness if row.system == "full"}
    assert {condition for condition, _ in full} == {REWRITES, WINDOWS, BOTH}
    names = {"deviation of RR@10", "lowest RR@10", "Jaccard@10", "RBO@10", "flips of Success@1"}
    for condition in (REWRITES, WINDOWS, BOTH):
        own = {name for of, name in full if of == condition}
        assert own == {*names, "variance of probabilities"}
    words = {row.measure for row in result.robustness if row.system == BM25}
    assert "variance of probabilities" not in words  # BM25 has no probabilities


def test_the_full_retriever_is_compared_with_every_variant(result):
    assert {row.other for row in result.comparisons} == set(WORLD.variants) - {"full"}
    for row in result.comparisons:
        found = {
            one.system: one.value.mean
            for one in (*result.retrieval, *result.robustness)
            if (one.condition, one.measure) == (row.condition, row.measure)
        }
        assert row.comparison.model.mean == pytest.approx(found["full"])
        assert row.comparison.base.mean == pytest.approx(found[row.other])


def test_questions_about_the_same_passages_are_one_sample_of_every_measure(result):
    """Chains of passages connect most of this world, so groups are questions with equal ones."""
    n = result.counts["test questions"]
    assert result.samples == f"groups of {n} questions that have the same relevant passages"
    sizes = {row.n for row in (*result.retrieval, *result.robustness, *result.generation)}
    sizes |= {row.comparison.n for row in (*result.comparisons, *result.generation_gains)}
    (samples,) = sizes
    assert n / 2 < samples < n
    for row in (*result.retrieval, *result.robustness, *result.generation):
        assert np.mean(row.by_seed) == pytest.approx(row.value.mean)


def test_losses_are_those_that_a_variant_has(result):
    terms = {row.variant: set(row.losses) for row in result.curves}
    assert terms["full"] == terms["no lora"] == {"contrastive", "alignment", "invariance"}
    assert terms["no alignment"] == {"contrastive", "invariance"}
    assert terms["no invariance"] == terms["augmentation"] == {"contrastive", "alignment"}


def test_answers_are_measured_before_and_after_stage_2(result):
    systems = list(dict.fromkeys(row.system for row in result.generation))
    assert systems == [CLOSED_BOOK, VANILLA, ENSEMBLE, STAGE_2, GOLD]
    assert {row.measure for row in result.generation} == {"EM", "F1", "contains"}
    assert {row.other for row in result.generation_gains} == {CLOSED_BOOK, VANILLA, ENSEMBLE}


def test_the_sweep_has_the_weight_of_the_study_and_the_others(result):
    assert {point.value for point in result.sweep} == {1.0, WORLD.invariance_weight}
    (same,) = [
        row.by_seed[0]
        for row in result.retrieval
        if (row.system, row.condition, row.measure) == ("full", REWRITES, "RR@10")
    ]
    (found,) = [
        point.result.mean
        for point in result.sweep
        if point.value == WORLD.invariance_weight and point.measure.startswith("RR@10")
    ]
    assert found == pytest.approx(same)


def test_strips_have_the_rank_of_each_passage_under_each_wording(result):
    assert len(result.strips) == WORLD.examples
    for strip in result.strips:
        assert len(strip.wordings) == 1 + WORLD.n_unseen
        assert list(strip.ranks) == ["full", "no invariance"]
        full = strip.ranks["full"]
        assert full[0] == tuple(range(1, len(strip.passages) + 1))
        assert len(full) == len(strip.wordings)


def test_a_second_run_trains_nothing_and_is_equal(result, folder, monkeypatch):
    for stage in (retrieval_stage, generation_stage):
        monkeypatch.setattr(stage, "_trainer", lambda *_: pytest.fail("a second training"))
    steps = Steps(folder)
    again = run_invar(WORLD, steps=steps)
    assert steps.resumed > 0
    assert dataclasses.replace(again, stages=()) == dataclasses.replace(result, stages=())


def test_the_report_and_the_summary_show_every_table(result):
    headings = [section.heading for section in INVAR.sections(result)]
    assert headings == [
        "Retrieval",
        "Robustness",
        "Answers",
        "Questions under their rewrites",
        "Weights and views",
        "Training",
    ]
    tables = [table.heading for table in INVAR.summary(result)]
    assert f"Retrieval, {REWRITES}" in tables
    assert "Comparisons of answers" in tables


# ---- from files ----------------------------------------------------------------------------------


def test_a_coarse_retriever_of_other_wordings_is_another_model(cache):
    from tilefold.world.reading_world import make_reading_world

    world = make_reading_world("tiny")
    train = partial(reading_retriever.judged_retriever, world, range(64), width=16, layers=1)
    assert train(paraphrases=(0,), epochs=1) != train(epochs=1)
