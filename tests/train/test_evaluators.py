"""Evaluations in training: the loss of held-out queries, values of other evaluators, the split."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_set, arguments, load, weights

from tilefold import search
from tilefold.data import TrainingSet
from tilefold.losses import ContrastiveLoss
from tilefold.ragged_lists import Lists
from tilefold.train import (
    ContrastiveObjective,
    DrawSeveral,
    HeldOutLoss,
    RankingEvaluator,
    RetrieverTrainer,
    Validation,
    hold_out,
    train_step,
)
from tilefold.train.trainer_setup import prepare
from tilefold.train.validation import as_collection
from tilefold.train.yaml_arguments import parse

pytestmark = pytest.mark.usefixtures("one_thread")


class CountsSteps:
    """An evaluator that says at which steps it ran, and scores the retriever by them."""

    def __init__(self, values=lambda step: {"lm": float(step)}):
        self.steps, self._values = [], values

    def evaluate(self, objective, *, step):
        assert objective.model.encode_queries(["w1"]).shape == (1, 32)
        self.steps.append(step)
        return self._values(step)


# ---- the loss of held-out queries ----------------------------------------------------------------


def test_the_held_out_loss_is_the_mean_training_loss_without_dropout(tiny_bert):
    data = a_set(10, positives=3)
    policy = DrawSeveral(data, n_negatives=2, seed=0)
    objective = ContrastiveObjective(load(tiny_bert), ContrastiveLoss(0.5)).train()
    found = HeldOutLoss(policy, batch_size=4).evaluate(objective, step=9)
    assert objective.training
    # Ten queries in batches of four at most are batches of 4, 3 and 3.
    objective.eval()
    expected = 0.0
    for rows in ([0, 1, 2, 3], [4, 5, 6], [7, 8, 9]):
        expected += len(rows) * float(train_step(objective, policy.batch(rows, step=0)).value)
    assert found == {"loss": pytest.approx(expected / 10, rel=1e-5)}
    assert HeldOutLoss(policy, batch_size=10).evaluate(objective, step=0) != found


def test_the_held_out_loss_leaves_no_gradients_and_changes_no_weights(tiny_bert):
    objective = ContrastiveObjective(load(tiny_bert), ContrastiveLoss(0.5, learn_temperature=True))
    before = weights(objective)
    HeldOutLoss(DrawSeveral(a_set(6), n_negatives=2, seed=0)).evaluate(objective, step=0)
    assert all(torch.equal(x, before[name]) for name, x in weights(objective).items())
    assert all(parameter.grad is None for parameter in objective.parameters())


@pytest.mark.parametrize(
    ("n", "size", "message"),
    [(4, 0, "batch_size must be at least 1, got 0"), (0, 4, "expected queries .* got none")],
)
def test_held_out_queries_that_give_no_loss_are_refused(n, size, message):
    policy = DrawSeveral(a_set().take(range(n)), n_negatives=1, seed=0)
    with pytest.raises(ValueError, match=f"HeldOutLoss: {message}"):
        HeldOutLoss(policy, batch_size=size)


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch):
    policy = DrawSeveral(a_set().take(range(3)), n_negatives=1, seed=0)
    monkeypatch.setattr("tilefold.train.evaluators.processes.world", lambda: 2)
    with pytest.raises(ValueError, match="2 processes cannot share a batch of 1 queries; hold out"):
        HeldOutLoss(policy, batch_size=2)
    assert HeldOutLoss(policy, batch_size=3).batch_size == 3


# ---- evaluators of a trainer ---------------------------------------------------------------------


def test_evaluators_run_at_every_evaluation_beside_the_validation(tiny_bert, tmp_path):
    data, tracker = a_set(), CountsSteps()
    trainer = RetrieverTrainer(
        load(tiny_bert),
        arguments(tmp_path, max_steps=6, eval_strategy="steps", eval_steps=2),
        data,
        validation=Validation(as_collection(data), ["RR@10"]),
        evaluators=[tracker],
    )
    assert trainer.can_evaluate
    trainer.train()
    assert tracker.steps == [2, 4, 6]
    logged = [entry for entry in trainer.state.log_history if "eval_lm" in entry]
    assert [(entry["step"], entry["eval_lm"]) for entry in logged] == [(2, 2), (4, 4), (6, 6)]
    assert all("eval_RR@10" in entry for entry in logged)


def test_the_best_checkpoint_is_chosen_by_the_value_of_an_evaluator(tiny_bert, tmp_path):
    accuracy = {1: 0.2, 2: 0.9, 3: 0.4}
    trainer = RetrieverTrainer(
        load(tiny_bert),
        arguments(
            tmp_path,
            max_steps=3,
            save_strategy="steps",
            save_steps=1,
            eval_strategy="steps",
            eval_steps=1,
            load_best_model_at_end=True,
            metric_for_best_model="lm",
            greater_is_better=True,
        ),
        a_set(),
        evaluators=[CountsSteps(lambda step: {"lm": accuracy[step]})],
    )
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")


@pytest.mark.parametrize("titled", [False, True])
def test_rankings_of_the_model_in_training_are_passed_to_a_function(tiny_bert, tmp_path, titled):
    data, rankings = a_set(), []
    titles = [f"w{i % 7}" for i in range(72)] if titled else None

    def values(found):
        rankings.append(found)
        return {"first": float((found.ids[:, 0] == np.arange(24)).mean())}

    tracker = RankingEvaluator(data.queries, data.documents, values, k=3, titles=titles)
    args = arguments(tmp_path, num_train_epochs=2, eval_strategy="epoch", learning_rate=1e-2)
    trainer = RetrieverTrainer(load(tiny_bert), args, data, evaluators=[tracker])
    trainer.train()
    assert len(rankings) == 2
    assert not np.array_equal(rankings[0].ids, rankings[1].ids)
    model = trainer.training_objective.model
    documents = model.encode_documents(data.documents, titles or [""] * 72)
    expected = search(model.encode_queries(data.queries), documents, 3)
    np.testing.assert_array_equal(rankings[1].ids, expected.ids)
    logged = [e["eval_first"] for e in trainer.state.log_history if "eval_first" in e]
    assert logged[1] == (expected.ids[:, 0] == np.arange(24)).mean()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["q"], []), {}, "expected documents, got none"),
        (([], ["d"]), {}, "expected queries, got none"),
        ((["q"], ["d"]), {"titles": ["a", "b"]}, "expected 1 titles, got 2"),
        ((["q"], ["d"]), {"k": 0}, "k must be at least 1, got 0"),
    ],
)
def test_nothing_to_rank_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=f"RankingEvaluator: {message}"):
        RankingEvaluator(*arguments, lambda found: {}, **options)


def test_two_values_of_one_name_are_refused(tiny_bert, tmp_path):
    data = a_set()
    validation = Validation(as_collection(data), ["RR@10"])
    clash = CountsSteps(lambda step: {"RR@10": 1.0})
    for options in (
        {"evaluators": [CountsSteps(), CountsSteps()]},
        {"validation": validation, "evaluators": [clash]},
    ):
        trainer = RetrieverTrainer(load(tiny_bert), arguments(tmp_path), data, **options)
        with pytest.raises(ValueError, match=r"CountsSteps has a value named '.*', which is there"):
            trainer.evaluate()


# ---- the split -----------------------------------------------------------------------------------


def naive_split(data: TrainingSet, chosen: list[int]) -> list[int]:
    passages = {data.documents[i] for row in chosen for i in data.positives.of(row)}
    questions = {data.queries[row] for row in chosen}
    return [
        row
        for row in range(len(data))
        if data.queries[row] not in questions
        and not passages & {data.documents[i] for i in data.positives.of(row)}
    ]


def test_the_last_queries_are_held_out_on_request():
    data = a_set(12, positives=2)
    rest, held = hold_out(data, 3, seed=0, last=True)
    assert held.query_ids == ["q9", "q10", "q11"]
    # Query 8 shares a positive with query 9, and query 0 with query 11.
    assert rest.query_ids == [f"q{i}" for i in range(1, 8)]
    assert hold_out(data, 3, seed=5, last=True)[1].query_ids == held.query_ids


def test_what_is_left_to_train_on_is_what_a_loop_leaves():
    rng = np.random.default_rng(0)
    for seed in range(40):
        data = TrainingSet(
            [f"q{i}" for i in range(15)],
            [f"w{rng.integers(20)}" for _ in range(15)],
            [f"d{i}" for i in range(25)],
            [f"text {rng.integers(60)}" for _ in range(25)],
            Lists.pack([rng.permutation(25)[: rng.integers(1, 4)] for _ in range(15)]),
            Lists.pack([[]] * 15),
            [()] * 15,
        )
        rest, held = hold_out(data, 2, seed=seed)
        chosen = [data.query_ids.index(name) for name in held.query_ids]
        assert rest.query_ids == [data.query_ids[row] for row in naive_split(data, chosen)]


def test_a_split_that_leaves_nothing_is_refused():
    data = dataclasses.replace(a_set(4), positives=Lists.pack([[0]] * 4))
    with pytest.raises(ValueError, match="none is left to train on"):
        hold_out(data, 1, seed=0)


# ---- arguments -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of Tevatron: 20 queries with two positives and three negatives each."""
    path = tmp_path_factory.mktemp("tevatron") / "train.jsonl"

    def passages(numbers):
        return [{"docid": f"d{i}", "title": f"w{i % 9}", "text": f"w{i} of w1"} for i in numbers]

    lines = [
        json.dumps(
            {
                "query_id": f"q{i}",
                "query": f"who is w{i}",
                "positive_passages": passages([5 * i, 5 * i + 1]),
                "negative_passages": passages([5 * i + 2, 5 * i + 3, 5 * i + 4]),
            }
        )
        for i in range(20)
    ]
    path.write_text("\n".join(lines))
    return path


def trainer_of(model: Path, file: Path, folder: Path, *words: str) -> RetrieverTrainer:
    given = ["--model_name_or_path", str(model), "--train_path", str(file)]
    given += ["--output_dir", str(folder), "--use_cpu", "--report_to", "none", "--pooling", "mean"]
    given += ["--per_device_train_batch_size", "4", "--per_device_eval_batch_size", "3"]
    given += ["--warmup_steps", "0"]
    return prepare(parse([*given, *words]))


def test_the_loss_of_the_last_examples_is_a_measure(tiny_bert, training_file, tmp_path):
    trainer = trainer_of(
        tiny_bert, training_file, tmp_path,
        *("--dev_holdout", "5", "--dev_holdout_last", "--dev_measures", "loss", "RR@10"),
    )  # fmt: skip
    assert trainer.draw.data.query_ids == [f"q{i}" for i in range(15)]
    (held_out,) = trainer.evaluators
    assert held_out.policy.data.query_ids == [f"q{i}" for i in range(15, 20)]
    assert held_out.batch_size == 3
    found = trainer.evaluate()
    assert found.keys() == {"eval_loss", "eval_RR@10", "eval_average_rank"}
    assert found["eval_loss"] > 0


def test_the_loss_alone_encodes_no_collection_and_chooses_the_best(
    tiny_bert, training_file, tmp_path
):
    trainer = trainer_of(
        tiny_bert, training_file, tmp_path,
        *("--dev_holdout", "5", "--dev_measures", "loss", "--max_steps", "3", "--save_steps", "1"),
        *("--eval_strategy", "steps", "--eval_steps", "1", "--load_best_model_at_end"),
    )  # fmt: skip
    assert trainer.validation is None
    assert trainer.args.metric_for_best_model == "loss"
    assert not trainer.args.greater_is_better
    trainer.train()
    found = [e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e]
    assert len(found) == 3
    assert trainer.state.best_metric == min(found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dev_measures", "loss"], "dev_measures: loss needs dev_holdout"),
        (["--dev_holdout_last"], "dev_holdout_last: has no effect without dev_holdout"),
        (
            ["--dev_holdout", "5", "--dev_measures", "loss", "--metric_for_best_model", "RR@10"],
            "metric_for_best_model: expected one of loss, got 'RR@10'",
        ),
        (
            ["--dev_holdout", "5", "--metric_for_best_model", "loss"],
            "metric_for_best_model: expected one of nDCG@10, RR@10, average_rank, got 'loss'",
        ),
    ],
)
def test_measures_that_cannot_be_computed_are_refused(
    tiny_bert, training_file, tmp_path, words, message
):
    with pytest.raises(ValueError, match=message):
        trainer_of(tiny_bert, training_file, tmp_path, *words)
