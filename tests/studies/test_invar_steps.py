"""What the study of Invar-RAG keeps: each step depends on all that changes it, and resumes."""

import dataclasses
import shutil
from pathlib import Path

import pytest

pytest.importorskip("peft", reason="not installed: pip install tilefold[train]")
pytest.importorskip("bm25s", reason="not installed: pip install tilefold[demo]")

import transformers
from invar_inputs import from_files, write_inputs

import tilefold.invar
from tilefold.files.steps import Steps
from tilefold.studies.invar import retrieval_stage, run_invar, trained_generators
from tilefold.studies.invar.generator_settings import GeneratorSettings
from tilefold.studies.invar.invar_result import CLOSED_BOOK, ENSEMBLE, GOLD, STAGE_2, VANILLA
from tilefold.studies.invar.invar_subject import InvarSubject
from tilefold.studies.invar.retriever_settings import RetrieverSettings
from tilefold.studies.invar.stage_1 import Stage1, training_key


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def kept_steps(tmp_path_factory) -> Steps:
    return Steps(tmp_path_factory.mktemp("steps"))


def test_answers_that_depend_on_no_training_are_computed_once(files, tmp_path, monkeypatch):
    steps, computed = Steps(tmp_path), []
    once = Steps.once

    def counted(self, name, depends, make):
        return once(self, name, depends, lambda: computed.append(name) or make())

    monkeypatch.setattr(Steps, "once", counted)
    result = run_invar(from_files(files, seeds=[0, 1]), steps=steps)
    assert [computed.count(name) for name in ("closed book", "answers before stage 2")] == [1, 2]
    seeds = {row.system: len(row.by_seed) for row in result.generation}
    assert seeds == {CLOSED_BOOK: 1, VANILLA: 2, ENSEMBLE: 2, STAGE_2: 2, GOLD: 2}
    computed.clear()
    run_invar(from_files(files, seeds=[0, 1], generator_learning_rate=1e-3), steps=steps)
    assert computed == ["answers"] * 2
    computed.clear()
    run_invar(from_files(files, seeds=[0, 1], max_new_tokens=3), steps=steps)
    assert computed == ["closed book", *["answers before stage 2", "answers"] * 2]


def test_a_training_that_was_stopped_ends_in_the_same_losses(files, tmp_path, monkeypatch):
    make = retrieval_stage._trainer
    settings = from_files(files, epochs=30, generator_variants=[])  # 90 steps, a line for each 4
    whole = run_invar(settings, steps=Steps(tmp_path / "whole"))

    class Stop(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 50:
                raise KeyboardInterrupt

    def stopped(*args):
        trainer = make(*args)
        trainer.add_callback(Stop())
        return trainer

    steps = Steps(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(retrieval_stage, "_trainer", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_invar(settings, steps=steps)
    assert list((tmp_path / "stopped").glob("**/checkpoint-*"))
    resumed = run_invar(settings, steps=steps)
    assert resumed.curves == whole.curves
    assert resumed.robustness == whole.robustness


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({"alignment": "representation"}, {}),
        ({"divergence": "reverse_kl"}, {}),
        ({"alignment_weight": 2.0}, {}),
        ({"invariance": "risk"}, {}),
        ({"invariance_weight": 5.0}, {}),
        ({"warmup_share": 0.5}, {}),
        ({"ramp_share": 0.0, "warmup_share": 0.0}, {}),
        ({"n_views": 2}, {}),
        ({"training_windows": (3,)}, {}),
        ({"top_patterns": 1}, {}),
        ({"beta": 3.0}, {"top_patterns": 4}),
        ({"invariance_mask": "queries"}, {"invariance": "risk"}),
        ({"lora_rank": 3}, {}),
        ({"lora_alpha": 1.0}, {}),
        ({"lora_dropout": 0.5}, {}),
        ({"lora_targets": ("q_proj",)}, {}),
        ({"depth": 2}, {}),
        ({"group_negatives": 2}, {}),
        ({"refresh_steps": 1}, {}),
        ({"train_batch_size": 5}, {}),
        ({"learning_rate": 1e-2}, {}),
        ({"temperature": 0.5}, {}),
        ({"coarse_temperature": 0.5}, {}),
        ({"invariance_temperature": 0.5}, {}),
        ({"representation_temperature": 0.5}, {"alignment": "representation"}),
        ({"query_max_length": 4}, {}),
        ({"document_max_length": 4}, {}),
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_every_setting_of_stage_1_changes_its_losses(files, kept_steps, changes, base):
    base = {"generator_variants": [], "epochs": 2, "learning_rate": 1e-3, **base}
    curves = [
        run_invar(from_files(files, **{**base, **some}), steps=kept_steps).curves
        for some in ({}, changes)
    ]
    assert [point.losses for point in curves[0]] != [point.losses for point in curves[1]]


def test_kept_trainings_depend_on_every_setting(files):
    """On those of stage 1 and stage 2, but for the ones that name them."""
    settings = from_files(files)
    subject = InvarSubject("", "", *[None] * 4, [], "")
    stage = Stage1("full", 0, 1.0, 1.0, 1)
    key = training_key(subject, settings, stage, [])
    (chosen,) = (part for part in key if isinstance(part, dict))
    fields = {field.name for field in dataclasses.fields(RetrieverSettings)}
    of_stage = {field.name for field in dataclasses.fields(Stage1)} & fields
    assert of_stage == {"alignment_weight", "invariance_weight", "n_views"}
    assert tuple(key[-5:]) == dataclasses.astuple(stage)
    assert set(chosen) | of_stage | {"variants"} == fields
    fields = {field.name for field in dataclasses.fields(GeneratorSettings)}
    named = {"generator_variants", "template", "max_new_tokens"}  # template: of the subject
    assert fields - set(trained_generators._TRAINING) == named


def test_likelihoods_of_answers_are_computed_once(files, tmp_path, monkeypatch):
    computed = []
    teacher = tilefold.invar.likelihood_teacher

    def counted(*args, **options):
        computed.append(options["template"])
        return teacher(*args, **options)

    monkeypatch.setattr(tilefold.invar, "likelihood_teacher", counted)
    options = {"alignment": "likelihood", "variants": ["full", "no invariance"]}
    settings = from_files(files, **options)
    first = run_invar(settings, steps=Steps(tmp_path))
    assert computed == ["popqa"]
    for training in tmp_path.glob("retriever-*"):
        shutil.rmtree(training)
    again = run_invar(settings, steps=Steps(tmp_path))
    assert computed == ["popqa"]
    assert dataclasses.replace(again, stages=()) == dataclasses.replace(first, stages=())
    unkept = run_invar(settings)  # once in a run that keeps nothing
    assert computed == ["popqa"] * 2
    assert dataclasses.replace(unkept, stages=()) == dataclasses.replace(first, stages=())
    other = from_files(files, alignment="likelihood", template="author")
    run_invar(other, steps=Steps(tmp_path))
    assert computed == ["popqa", "popqa", "author"]
