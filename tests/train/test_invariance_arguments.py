"""Arguments of invariance, windows and a teacher model: what they build, train and refuse."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import (
    a_scored_set,
    a_set,
    arguments,
    assert_same_bits,
    load,
    losses_of,
    weights,
)

from tilefold.data import write_training
from tilefold.data.rewrites import read_rewrites
from tilefold.models import BiEncoder
from tilefold.train import (
    ContrastiveObjective,
    Draw,
    DrawRotating,
    DrawTeacher,
    DrawViews,
    DrawWindows,
    PolicyInputs,
    RetrieverTrainer,
    Schedule,
)
from tilefold.train.trainer_setup import prepare
from tilefold.train.yaml_arguments import parse

pytestmark = pytest.mark.usefixtures("one_thread")

RAMP = "linear:0:2:4"
OWN = {"invariance_candidates": "own", "invariance_patterns": 2, "train_group_size": 3}


@pytest.fixture
def rewrites(tmp_path: Path) -> Path:
    """Two rewrites of each query but the last."""
    path = tmp_path / "rewrites.jsonl"
    lines = [
        {"_id": f"q{i}", "rewrites": [f"w{i} who", {"text": f"is w{i}", "family": "template"}]}
        for i in range(23)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.fixture
def train_file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    write_training(path, a_set(), format="tevatron")
    return path


def column(trainer: RetrieverTrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def prepared(
    tiny_bert: Path, train_file: Path, tmp_path: Path, *words: str, config: Path | None = None
) -> RetrieverTrainer:
    given = {
        "model_name_or_path": tiny_bert,
        "train_path": train_file,
        "output_dir": tmp_path / "out",
        "per_device_train_batch_size": 6,
        "report_to": "none",
        "warmup_steps": 0,
    }
    options = [f"--{name}={value}" for name, value in given.items()]
    return prepare(parse([*options, "--use_cpu", *words], config))


# ---- what is built -------------------------------------------------------------------------------


def test_a_command_describes_views_and_their_loss(tiny_bert, train_file, tmp_path, rewrites):
    config = tmp_path / "invariance.yaml"
    config.write_text(
        f"query_rewrites: {rewrites}\ninvariance_weight: linear:0:0.5:1000\n"
        "document_windows: [2, 3]\nn_query_views: 2\nn_document_views: 2\n"
    )
    words = ["--invariance_form", "risk", "--invariance_mask", "queries", "--positives_mode", "sum"]
    words += ["--gate_temperature", "0.2"]
    trainer = prepared(tiny_bert, train_file, tmp_path, *words, config=config)
    objective = trainer.training_objective
    assert objective.weights == {
        "contrastive": Schedule(1.0),
        "invariance": Schedule(0.5, steps=1000, shape="linear"),
    }
    invariance = objective.objectives["invariance"]
    assert (invariance.loss.form, invariance.mode) == ("risk", "sum")
    assert (invariance.mask.swap, invariance.mask.gate_temperature) == ("queries", 0.2)
    assert isinstance(trainer.draw, DrawWindows)
    assert trainer.draw.words == [2, 3]
    assert isinstance(trainer.draw.policy, DrawViews)
    assert trainer.draw.policy.rewrites == read_rewrites(rewrites, trainer.draw.data.query_ids)
    batch = trainer.draw.batch([0, 23], step=0)
    assert {view[0] for view in batch.query_views} == {"w0 who", "is w0"}
    assert {view[1] for view in batch.query_views} == {"who is w23"}  # it has no rewrite
    assert len(batch.document_views) == 2


def test_a_teacher_model_scores_what_is_drawn(tiny_bert, train_file, tmp_path):
    words = {
        "teacher_model": tiny_bert,
        "teacher_candidates": "batch",
        "teacher_temperature": 0.1,
        "distillation_weight": 2,
        "distillation_divergence": "js",
        "representation_weight": "cosine:0:1:9",
        "representation_form": "mse",
    }
    trainer = prepared(
        tiny_bert, train_file, tmp_path, *(f"--{name}={value}" for name, value in words.items())
    )
    objectives = trainer.training_objective.objectives
    assert objectives["distillation"].loss.options["divergence"] == "js"
    assert objectives["distillation"].loss.options["teacher_temperature"] == 0.1
    assert (objectives["representation"].form, objectives["representation"].temperature) == (
        "mse",
        None,
    )
    assert isinstance(trainer.draw, DrawTeacher)
    teacher, data = BiEncoder.from_pretrained(tiny_bert), trainer.draw.data
    batch = trainer.draw.batch([3, 8], step=1)
    queries = teacher.encode_queries([data.queries[3], data.queries[8]])
    documents = teacher.encode_corpus(batch.documents)
    np.testing.assert_allclose(batch.coarse.queries, queries, rtol=1e-5, atol=1e-6)
    expected = (queries @ documents[batch.teacher.indices[:4]].T)[0]
    np.testing.assert_allclose(batch.teacher.scores[:4], expected, rtol=1e-5)


def test_scores_of_the_file_give_way_to_a_teacher_model(tiny_bert, tmp_path):
    args = arguments(
        tmp_path, max_steps=2, distillation_weight=1, teacher_model=str(tiny_bert), temperature=0.5
    )
    trained = []
    for data in (a_scored_set(), a_set()):
        transformers.set_seed(0)
        trainer = RetrieverTrainer(load(tiny_bert), args, data)
        trainer.train()
        trained.append(weights(trainer.training_objective))
    assert_same_bits(*trained)


def test_held_out_queries_have_their_own_rewrites_and_scores(
    tiny_bert, train_file, tmp_path, rewrites
):
    words = {
        "query_rewrites": rewrites,
        "invariance_weight": 1,
        "teacher_model": tiny_bert,
        "distillation_weight": 1,
        "dev_holdout": 5,
        "dev_measures": "loss",
    }
    trainer = prepared(
        tiny_bert, train_file, tmp_path, *(f"--{name}={value}" for name, value in words.items())
    )
    (loss,) = trainer.evaluators
    policies = {"train": trainer.draw, "held out": loss.policy}
    ids = {name: policy.data.query_ids for name, policy in policies.items()}
    assert len(ids["held out"]) == 5
    assert not set(ids["train"]) & set(ids["held out"])
    for name, policy in policies.items():
        assert isinstance(policy, DrawTeacher)
        texts = dict(zip(ids[name], policy.policy.rewrites, strict=True))
        assert all(all(key[1:] in text for text in own) for key, own in texts.items())
        assert len(policy.queries) == len(ids[name])
    assert np.isfinite(trainer.evaluate()["eval_loss"])


def test_nothing_new_is_built_by_default(tiny_bert, tmp_path):
    trainer = RetrieverTrainer(load(tiny_bert), arguments(tmp_path), a_set())
    assert isinstance(trainer.training_objective, ContrastiveObjective)
    assert isinstance(trainer.draw, Draw)
    assert trainer.inputs == PolicyInputs()


# ---- training ------------------------------------------------------------------------------------


def test_a_training_of_all_terms_resumes_to_the_same_bits(tiny_bert, tmp_path, rewrites):
    """Contrastive, both alignments, and invariant patterns under a ramp, with refreshed pools."""
    options = {
        "query_rewrites": str(rewrites),
        "document_windows": [2],
        "invariance_weight": RAMP,
        **OWN,
        "teacher_model": str(tiny_bert),
        "distillation_weight": 0.5,
        "representation_weight": RAMP,
        "representation_temperature": 0.1,
        "refresh_steps": 2,
        "refresh_depth": 8,
        "refresh_negatives": 4,
        "grad_cache": True,
        "gc_q_chunk_size": 4,
        "max_steps": 7,
        "save_strategy": "steps",
        "save_steps": 3,
    }

    def run(folder: Path, resume: Path | None) -> RetrieverTrainer:
        transformers.set_seed(0)
        trainer = RetrieverTrainer(load(tiny_bert), arguments(folder, **options), a_set())
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer

    whole = run(tmp_path / "whole", None)
    again = run(tmp_path / "again", tmp_path / "whole" / "checkpoint-3")
    assert_same_bits(weights(whole.training_objective), weights(again.training_objective))
    for name in ("loss", "distillation", "representation", "invariance", "invariance_weight"):
        assert column(again, name)[-4:] == column(whole, name)[-4:]
    assert column(whole, "invariance_weight") == pytest.approx([0, 0.5, 1, 1.5, 2, 2, 2])
    assert len(set(column(whole, "distillation"))) == 7


def test_an_aar_configuration_takes_the_invariance_term(tiny_bert, tmp_path, rewrites):
    """All positives, rotating and refreshed negatives, with rewrites whose rankings agree."""
    recipe = {
        "positives_per_query": 0,
        "train_group_size": 2,
        "negatives_rotation": True,
        "refresh_steps": 2,
        "refresh_depth": 8,
        "refresh_negatives": 4,
        "num_train_epochs": 10,
    }
    data = a_set(positives=2)
    spread = []
    for weight in (None, 20.0):
        transformers.set_seed(0)
        term = {"query_rewrites": str(rewrites), "n_query_views": 2, "invariance_weight": weight}
        model = load(tiny_bert)
        args = arguments(tmp_path, **recipe, **(term if weight else {}))
        trainer = RetrieverTrainer(model, args, data)
        trainer.train()
        inner = trainer.draw.policy if weight else trainer.draw
        assert isinstance(inner, DrawRotating)
        texts = read_rewrites(rewrites, data.query_ids)[:23]
        views = [data.queries[:23], *map(list, zip(*texts, strict=True))]
        documents = torch.from_numpy(model.encode_corpus(data.documents))
        scores = [torch.from_numpy(model.encode_queries(view)) @ documents.T for view in views]
        p = torch.stack(scores).softmax(-1)
        spread.append(float(p.var(0, correction=0).sum(1).mean()))
    assert spread[1] < 0.5 * spread[0], spread


def test_inputs_that_were_read_before_are_used(tiny_bert, tmp_path, rewrites):
    data = a_set()
    args = arguments(
        tmp_path, max_steps=1, query_rewrites=str(rewrites), invariance_weight=1, temperature=0.5
    )
    inputs = PolicyInputs(rewrites=[["w1"]] * 24)
    trainer = RetrieverTrainer(load(tiny_bert), args, data, inputs=inputs)
    assert trainer.draw.batch([4], step=0).query_views == (["w1"],)
    assert inputs.take(np.array([2, 3])).rewrites == [["w1"], ["w1"]]
    trainer.train()
    assert len(losses_of(trainer)) == 1


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"invariance_weight": 1}, "invariance_weight: expected query_rewrites or document_window"),
        ({"query_rewrites": "x"}, "query_rewrites or document_windows: without effect while"),
        ({"invariance_weight": "x"}, "invariance_weight: Schedule: expected a number or SHAPE"),
        ({"invariance_form": "risk"}, "invariance_form: has no effect without invariance_weight"),
        ({"invariance_patterns": 2}, "invariance_patterns: has no effect without invariance_wei"),
        ({"invariance_beta": 2}, "invariance_beta: has no effect without invariance_patterns"),
        ({"invariance_mask": "rewrites"}, "invariance_mask: has no effect without invariance_form"),
        ({"gate_temperature": 2}, "gate_temperature: has no effect without invariance_mask"),
        ({"gate_temperature": 0}, "gate_temperature: expected a number above 0, got 0"),
        ({"invariance_form": "any"}, "invariance_form: expected consistency, risk or variance"),
        ({"invariance_candidates": "any"}, "invariance_candidates: expected batch or own, got"),
        ({"invariance_patterns": -1}, "invariance_patterns: expected 0 or more, got -1"),
        ({"invariance_beta": -1}, "invariance_beta: expected 0 or more, got -1"),
        ({"document_windows": [3, 0]}, "document_windows: expected different numbers of words"),
        ({"document_windows": [3, 3]}, "document_windows: expected different numbers of words"),
        ({"n_query_views": 2}, "n_query_views: has no effect without query_rewrites"),
        ({"n_query_views": 0}, "n_query_views: expected 1 or more, got 0"),
        ({"n_document_views": 2}, "n_document_views: has no effect without document_windows"),
        ({"teacher_model": "x"}, "teacher_model: has no effect without distillation_weight or rep"),
        ({"teacher_candidates": "batch"}, "teacher_candidates: has no effect without teacher_mod"),
        ({"teacher_candidates": "any"}, "teacher_candidates: expected own or batch, got 'any'"),
        ({"representation_weight": 1}, "representation_weight: expected teacher_model, got none"),
        ({"representation_form": "mse"}, "representation_form: has no effect without representati"),
        ({"representation_form": "l1"}, "representation_form: expected forward_kl, reverse_kl, js"),
        ({"distillation_divergence": "js"}, "distillation_divergence: has no effect without dist"),
        ({"distillation_divergence": "l1"}, "distillation_divergence: expected forward_kl, rever"),
    ],
)
def test_arguments_without_effect_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learn_temperature": True}, "learn_temperature: not with invariance_weight"),
        (
            {"invariance_form": "variance", "invariance_candidates": "own"},
            "invariance_candidates: has no effect without invariance_form consistency",
        ),
        ({"n_document_views": 2}, "n_document_views: expected at most 1, one for each of"),
        (
            {"query_rewrites": "x", "n_query_views": 2},
            "n_document_views: expected as many as n_query_views where both have views, 2, got 1",
        ),
        ({**OWN, "train_group_size": 1}, "train_group_size: expected 2 or more with invariance_c"),
    ],
)
def test_arguments_of_views_that_do_not_fit_each_other_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, document_windows=[4], invariance_weight=1, **options)


def test_a_projection_without_scores_needs_no_candidates(tmp_path):
    teacher = {"teacher_model": "x", "representation_weight": 1}
    with pytest.raises(ValueError, match="teacher_candidates: has no effect without distillation"):
        arguments(tmp_path, **teacher, teacher_candidates="batch")
    options = {"representation_form": "mse", "representation_temperature": 0.1}
    with pytest.raises(ValueError, match="representation_temperature: has no effect with mse"):
        arguments(tmp_path, **teacher, **options)


def test_files_and_models_that_cannot_be_used_are_named(tiny_bert, tmp_path, train_file, rewrites):
    invariance = ["--invariance_weight=1", f"--query_rewrites={rewrites}"]
    rewrites.write_text(json.dumps({"_id": "elsewhere", "rewrites": ["who?"]}))
    with pytest.raises(ValueError, match=r"rewrites.jsonl:1: 'elsewhere' is the id of no"):
        prepared(tiny_bert, train_file, tmp_path, *invariance)
    rewrites.write_text(json.dumps({"_id": "q0", "rewrites": []}))
    with pytest.raises(ValueError, match=r"query_rewrites: .*rewrites.jsonl has no rewrite of any"):
        prepared(tiny_bert, train_file, tmp_path, *invariance)
    rewrites.unlink()
    with pytest.raises(FileNotFoundError, match=r"rewrites.jsonl"):
        prepared(tiny_bert, train_file, tmp_path, *invariance)
    teacher = ["--teacher_model=./nowhere", "--distillation_weight=1"]
    with pytest.raises(FileNotFoundError, match=r"there is no folder \./nowhere"):
        prepared(tiny_bert, train_file, tmp_path, *teacher)


def test_views_of_other_queries_are_not_taken_for_those_of_the_data():
    data = a_set(4)
    policy = DrawViews(Draw(data, group_size=2, seed=0), [["a"]] * 4, n_views=1, seed=0)
    others = replace(data, query_ids=["q3", "q2", "q1", "q0"])
    with pytest.raises(ValueError, match=r"DrawViews.with_data: expected the same 4 queries in"):
        policy.with_data(others)
    embeddings = np.eye(4, dtype=np.float32), np.ones((12, 4), np.float32)
    teacher = DrawTeacher(Draw(data, group_size=2, seed=0), *embeddings)
    with pytest.raises(ValueError, match=r"DrawTeacher.with_data: expected the same 4 queries in"):
        teacher.with_data(others)


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (
            {"query_rewrites": "rewrites.jsonl", "n_query_views": 2},
            ["rewrites   46, 2 of a query in a step; 1 query without any"],
        ),
        ({"document_windows": [2, 3]}, ["windows    2, 3 words, 1 of a passage in a step"]),
    ],
)
def test_the_command_shows_what_is_compared(capsys, tmp_path, rewrites, options: Any, lines):
    from tilefold.cli.verbs.train import _show_views

    read = None
    if "query_rewrites" in options:
        read = read_rewrites(rewrites, a_set().query_ids)
    _show_views(read, arguments(tmp_path, invariance_weight=1, **options))
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == lines
