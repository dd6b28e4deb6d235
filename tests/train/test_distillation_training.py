"""Training with a teacher's scores, several positives and views, from files to checkpoints."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_set, arguments, assert_same_bits, load, losses_of, weights

from tilefold import reference
from tilefold.data import TrainingSet, read_training
from tilefold.losses import ContrastiveLoss, InvarianceLoss
from tilefold.train import (
    ContrastiveObjective,
    Draw,
    DrawSeveral,
    DrawViews,
    InvarianceObjective,
    RetrieverTrainer,
    Schedule,
    WeightedObjective,
)
from tilefold.train.trainer_setup import prepare
from tilefold.train.yaml_arguments import parse

pytestmark = pytest.mark.usefixtures("one_thread")

KL_ALONE = {"contrastive_weight": 0, "distillation_weight": 1, "train_group_size": 3}


def column(trainer: RetrieverTrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.fixture
def scored_file(tmp_path: Path) -> Path:
    """FlagEmbedding's format, with a teacher that prefers the second negative to the positive."""
    data, path = a_set(positives=2), tmp_path / "scored.jsonl"
    lines = [
        {
            "query": data.queries[row],
            "pos": [data.documents[i] for i in data.positives.of(row)],
            "neg": [data.documents[i] for i in data.negatives.of(row)],
            "pos_scores": [1.0 + row / 24, 0.5],
            "neg_scores": [-1.0, 2.5],
        }
        for row in range(len(data))
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def mean_kl(model: Any, data: TrainingSet) -> float:
    """KL(teacher || student) over all listed passages of each query, by the reference."""
    queries = model.encode_queries(data.queries, progress=False)
    documents = model.encode_corpus(data.documents, progress=False)
    student = torch.from_numpy(queries @ documents.T).double()
    teacher = torch.zeros_like(student)
    listed = torch.zeros(student.shape, dtype=torch.bool)
    for lists, scores in (
        (data.positives, data.positive_scores),
        (data.negatives, data.negative_scores),
    ):
        teacher[lists.owners(), lists.indices] = torch.from_numpy(scores)
        listed[lists.owners(), lists.indices] = True
    return float(reference.alignment_losses(student, teacher, candidates=listed).mean())


def test_training_on_a_file_with_scores_brings_the_student_to_the_teacher(
    tiny_bert, tmp_path, scored_file
):
    data, model = read_training(scored_file), load(tiny_bert)
    before = mean_kl(model, data)
    args = arguments(tmp_path, **{**KL_ALONE, "num_train_epochs": 25, "positives_per_query": 0})
    RetrieverTrainer(model, args, data).train()
    assert mean_kl(model, data) < 0.5 * before
    # The teacher prefers the second negative to each query's positives, and now the student does.
    queries, documents = model.encode_queries(data.queries), model.encode_corpus(data.documents)
    scores = queries @ documents.T
    positive, negative = (
        np.array([scores[row, lists.of(row)].max() for row in range(len(data))])
        for lists in (data.positives, data.negatives)
    )
    assert (negative > positive).mean() > 0.8


def test_scores_are_not_used_unless_it_is_requested(tiny_bert, tmp_path, scored_file):
    scored = read_training(scored_file)
    trained = []
    for data in (scored, replace(scored, positive_scores=None, negative_scores=None)):
        transformers.set_seed(0)
        trainer = RetrieverTrainer(load(tiny_bert), arguments(tmp_path, max_steps=3), data)
        assert isinstance(trainer.training_objective, ContrastiveObjective)
        trainer.train()
        trained.append(weights(trainer.training_objective))
    assert_same_bits(*trained)


def test_both_losses_and_the_weight_are_logged(tiny_bert, tmp_path, scored_file):
    args = arguments(
        tmp_path, max_steps=5, train_group_size=3, distillation_weight="linear:0:2:4", temperature=2
    )
    trainer = RetrieverTrainer(load(tiny_bert), args, read_training(scored_file))
    trainer.train()
    ramp = [0.0, 0.5, 1.0, 1.5, 2.0]
    assert column(trainer, "distillation_weight") == pytest.approx(ramp)
    kl = [0.0, *column(trainer, "distillation")]  # not computed at the step with weight 0
    total = np.array(column(trainer, "contrastive")) + np.array(ramp) * kl
    np.testing.assert_allclose(losses_of(trainer), total, rtol=1e-5)
    assert len(column(trainer, "n_negatives")) == 5


def test_a_line_of_the_log_has_means_over_its_steps(tiny_bert, tmp_path, scored_file):
    options = {"max_steps": 4, "train_group_size": 3, "distillation_weight": "linear:0:1:4"}
    args = arguments(tmp_path, **options, logging_steps=2, gradient_accumulation_steps=2)
    trainer = RetrieverTrainer(load(tiny_bert), args, read_training(scored_file))
    trainer.train()
    assert column(trainer, "distillation_weight") == pytest.approx([0.125, 0.625])


@pytest.mark.parametrize(
    "options",
    [
        {"distillation_weight": "linear:0:2:6", "train_group_size": 3},
        {
            "distillation_weight": "cosine:0:1:5",
            "contrastive_weight": "linear:1:0.2:4",
            "positives_per_query": 2,
            "grad_cache": True,
            "gradient_accumulation_steps": 2,
        },
    ],
    ids=["ramp", "two ramps, chunks"],
)
def test_a_resumed_training_with_a_ramp_ends_in_the_same_bits(
    tiny_bert, tmp_path, scored_file, options
):
    schedule = {"max_steps": 7, "save_strategy": "steps", "save_steps": 3, **options}
    data = read_training(scored_file)

    def run(folder: Path, resume: Path | None) -> RetrieverTrainer:
        transformers.set_seed(0)
        trainer = RetrieverTrainer(load(tiny_bert), arguments(folder, **schedule), data)
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer

    whole = run(tmp_path / "whole", None)
    again = run(tmp_path / "again", tmp_path / "whole" / "checkpoint-3")
    assert_same_bits(weights(whole.training_objective), weights(again.training_objective))
    for name in ("loss", "distillation", "distillation_weight", "contrastive"):
        assert column(again, name)[-4:] == column(whole, name)[-4:]
    assert len(set(column(whole, "distillation_weight"))) > 4


def test_several_positives_are_trained_on(tiny_bert, tmp_path):
    args = arguments(tmp_path, max_steps=2, positives_per_query=0, positives_mode="sum")
    trainer = RetrieverTrainer(load(tiny_bert), args, a_set(positives=3))
    assert trainer.training_objective.loss.options["mode"] == "sum"
    batch = trainer.draw.batch([0, 1], step=0)
    assert batch.positives[0].tolist() == [0, 3, 6]
    trainer.train()
    assert len(losses_of(trainer)) == 2


def test_mined_negatives_go_to_the_policy_that_draws_several(tiny_bert, tmp_path):
    mined = {"refresh_at_start": True, "refresh_depth": 8, "refresh_negatives": 4}
    args = arguments(tmp_path, max_steps=2, positives_per_query=2, train_group_size=3, **mined)
    data = a_set(negatives=False, positives=2)
    trainer = RetrieverTrainer(load(tiny_bert), args, data)
    trainer.train()
    batch = trainer.draw.batch(range(24), step=9)
    assert len(batch.documents) == 24 * (2 + 2)


def test_an_objective_and_a_policy_of_ones_own_train_for_invariance(tiny_bert, tmp_path):
    data = a_set()
    rewrites = [[f"is w{row} of w{row}"] for row in range(24)]
    disagreement = []
    for weight in (1e-6, 20.0):  # the ramp's end; nearly 0 trains for the same queries without it
        transformers.set_seed(0)
        model = load(tiny_bert)
        policy = DrawViews(Draw(data, group_size=2, seed=0), rewrites, n_views=1, seed=0)
        objective = WeightedObjective(
            {
                "contrastive": ContrastiveObjective(model, ContrastiveLoss(1.0)),
                "invariance": InvarianceObjective(model, InvarianceLoss(temperature=1.0)),
            },
            {"invariance": Schedule(weight, steps=20, shape="linear")},
        )
        args = arguments(tmp_path, num_train_epochs=15)
        trainer = RetrieverTrainer(model, args, data, objective=objective, policy=policy)
        trainer.train()
        assert len(column(trainer, "invariance")) == 59  # of 60 steps; at the first its weight is 0
        assert column(trainer, "invariance_weight")[-1] == pytest.approx(weight)
        views = [data.queries, [text for (text,) in rewrites]]
        queries = [torch.from_numpy(model.encode_queries(view)) for view in views]
        documents = torch.from_numpy(model.encode_corpus(data.documents))
        scores = torch.stack([q @ documents.T for q in queries])
        disagreement.append(float(reference.consistency_losses(scores)[0].mean()))
    assert disagreement[1] < 0.5 * disagreement[0], disagreement


def test_arguments_of_a_file_and_a_command_describe_objective_and_policy(
    tiny_bert, tmp_path, scored_file
):
    config = tmp_path / "train.yaml"
    config.write_text(
        f"model_name_or_path: {tiny_bert}\ntrain_path: {scored_file}\n"
        f"output_dir: {tmp_path / 'out'}\n"
        "contrastive_weight: 0.5\npositives_per_query: 0\nuse_cpu: true\nreport_to: none\n"
        "warmup_steps: 0\n"
    )
    command = ["--distillation_weight", "cosine:0:2:100", "--teacher_temperature", "3"]
    trainer = prepare(parse(command, config))
    objective = trainer.training_objective
    assert objective.weights == {
        "contrastive": Schedule(0.5),
        "distillation": Schedule(2.0, steps=100, shape="cosine"),
    }
    assert objective.objectives["distillation"].loss.options["teacher_temperature"] == 3
    assert isinstance(trainer.draw, DrawSeveral)


# ---- bad input -----------------------------------------------------------------------------------


def test_data_without_a_teachers_scores_are_refused(tiny_bert, tmp_path, scored_file):
    args, scored = arguments(tmp_path, **KL_ALONE), read_training(scored_file)
    with pytest.raises(ValueError, match="the training set has no teacher scores; FlagEmbedding"):
        RetrieverTrainer(load(tiny_bert), args, a_set())
    scores = scored.positive_scores.copy()
    scores[[7, 9]] = np.nan
    with pytest.raises(ValueError, match=r"2 of 48 positives have none; .* of query '3'"):
        RetrieverTrainer(load(tiny_bert), args, replace(scored, positive_scores=scores))
    with pytest.raises(ValueError, match=r"48 of 48 negatives have none; .* of query '0'"):
        RetrieverTrainer(load(tiny_bert), args, replace(scored, negative_scores=None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distillation_weight": "x"}, "distillation_weight: Schedule: expected a number or SHAPE"),
        (
            {"distillation_weight": -1},
            "distillation_weight: .*finite and 0 or more, got -1",
        ),
        ({"contrastive_weight": 0}, "contrastive_weight and distillation_weight: expected one"),
        ({"teacher_temperature": 2.0}, "teacher_temperature: has no effect without distillation"),
        ({**KL_ALONE, "teacher_temperature": 0.0}, "teacher_temperature: expected a number above"),
        ({**KL_ALONE, "learn_temperature": True}, "learn_temperature: not with distillation"),
        ({**KL_ALONE, "refresh_at_start": True}, "refresh_steps: not with distillation_weight"),
        ({**KL_ALONE, "train_group_size": 1}, "train_group_size: expected 2 or more with"),
        ({"positives_mode": "any"}, "positives_mode: expected each or sum, got 'any'"),
        ({"positives_per_query": -1}, "positives_per_query: expected 0 or more, got -1"),
    ],
)
def test_arguments_that_do_not_fit_each_other_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **options)


def test_arguments_that_an_objective_or_a_policy_replaces_are_refused(tiny_bert, tmp_path):
    model, data = load(tiny_bert), a_set()
    objective = ContrastiveObjective(model, ContrastiveLoss(0.5))
    policy = Draw(data, group_size=3, seed=0)
    args = arguments(tmp_path, temperature=0.5)
    with pytest.raises(ValueError, match=r"temperature=0\.5 has no effect where an objective"):
        RetrieverTrainer(model, args, data, objective=objective)
    args = arguments(tmp_path, train_group_size=3)
    with pytest.raises(ValueError, match="train_group_size=3 has no effect where a policy"):
        RetrieverTrainer(model, args, data, policy=policy)
    args = arguments(tmp_path)
    with pytest.raises(ValueError, match="the objective must be of the model"):
        RetrieverTrainer(load(tiny_bert), args, data, objective=objective)
    with pytest.raises(ValueError, match="the policy must draw from the data"):
        RetrieverTrainer(model, args, a_set(), policy=policy)
