"""Negatives that rotate by epoch: against a loop, in training, resumed, refreshed, refused."""

import json
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
from two_processes import run_on_two_processes

from tilefold.data import TrainingSet
from tilefold.ragged_lists import Lists
from tilefold.train import Draw, DrawRotating, DrawSeveral, DrawViews, RetrieverTrainer
from tilefold.train.configured import steps_per_epoch
from tilefold.train.yaml_arguments import parse

pytestmark = pytest.mark.usefixtures("one_thread")

ROTATING = {"negatives_rotation": True, "positives_per_query": 0, "train_group_size": 3}


def a_set_with(counts: list[int], positives: int = 1) -> TrainingSet:
    """Query i has so many negatives, which no other query has."""
    n = len(counts)
    starts = n * positives + np.cumsum([0, *counts])
    m = int(starts[-1])
    return TrainingSet(
        [f"q{i}" for i in range(n)],
        [f"who is w{i}" for i in range(n)],
        [f"d{i}" for i in range(m)],
        [f"w{i}" for i in range(m)],
        Lists.pack([range(positives * i, positives * (i + 1)) for i in range(n)]),
        Lists.pack([range(starts[i], starts[i + 1]) for i in range(n)]),
        [()] * n,
    )


def negatives_of(batch, own: int) -> list[str]:
    """The negatives of a batch of one query with so many positives."""
    assert batch.positives[1].tolist() == list(range(own))
    return batch.documents[own:]


def naive_rotation(shuffled: list[str], epoch: int, n_negatives: int) -> list[str]:
    """As the authors write it: the shuffled list twice, and a slice of it from the offset on."""
    offset = epoch * n_negatives % len(shuffled)
    return (shuffled * 2)[offset : offset + n_negatives]


# ---- what is drawn -------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [7, 8, 13, 30, 31])
def test_negatives_are_a_slice_of_the_shuffled_list_written_twice(length):
    policy = DrawRotating(a_set_with([length, 5]), n_negatives=7, steps_per_epoch=4, seed=2)
    drawn = [negatives_of(policy.batch([0], step=4 * epoch), 1) for epoch in range(40)]
    # The shuffle is not part of the rule: it is read off a policy that takes the whole list.
    whole = DrawRotating(a_set_with([length, 5]), n_negatives=length, steps_per_epoch=1, seed=2)
    shuffled = negatives_of(whole.batch([0], step=0), 1)
    assert sorted(shuffled) == sorted(f"w{i}" for i in range(2, 2 + length))
    assert length == 7 or shuffled != sorted(shuffled, key=lambda word: int(word[1:]))
    assert drawn == [naive_rotation(shuffled, epoch, 7) for epoch in range(40)]


@pytest.mark.parametrize("length", [0, 1, 6])
def test_a_query_with_few_negatives_brings_each_once_in_every_epoch(length):
    policy = DrawRotating(a_set_with([length, 9]), n_negatives=7, steps_per_epoch=2, seed=0)
    for step in (0, 1, 2, 17):
        drawn = negatives_of(policy.batch([0], step=step), 1)
        assert sorted(drawn) == [f"w{i}" for i in range(2, 2 + length)]


def test_thirty_negatives_are_met_in_five_epochs_and_random_draws_leave_some_out():
    data = a_set_with([30] * 20)
    policy = DrawRotating(data, n_negatives=7, steps_per_epoch=10, seed=0)
    random = DrawSeveral(data, n_negatives=7, seed=0)
    met, by_chance = (
        [
            len({d for step in steps for d in negatives_of(one.batch([row], step=step), 1)})
            for row in range(20)
        ]
        for one, steps in ((policy, range(0, 50, 10)), (random, range(0, 50, 10)))
    )
    assert met == [30] * 20
    assert max(by_chance) < 30


def test_within_an_epoch_negatives_stay_and_the_next_one_takes_others():
    policy = DrawRotating(a_set_with([30]), n_negatives=7, steps_per_epoch=3, seed=1)
    drawn = [negatives_of(policy.batch([0], step=step), 1) for step in range(6)]
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3] == drawn[4] == drawn[5]
    assert not set(drawn[0]) & set(drawn[3])


def test_a_rotation_depends_on_seed_step_and_query_alone():
    data = a_set_with([12] * 9, positives=3)

    def documents(rows, *, seed=1, step=11, **options):
        policy = DrawRotating(data, n_negatives=4, steps_per_epoch=5, seed=seed, **options)
        batch = policy.batch(rows, step=step)
        return [batch.documents[first : first + 7] for first in batch.positives[1].tolist()[::3]]

    rows = list(range(9))
    assert documents(rows) == documents(rows[::-1])[::-1]
    assert documents(rows)[2:5] == documents(rows[2:5])
    assert documents(rows) != documents(rows, seed=2)
    assert documents(rows) == documents(rows, step=14) != documents(rows, step=15)
    shuffles = {tuple(int(w[1:]) % 12 for w in group[3:]) for group in documents(rows)}
    assert len(shuffles) == 9


def test_positives_are_all_of_them_or_some_at_random():
    data = a_set_with([9], positives=4)
    options = {"n_negatives": 2, "steps_per_epoch": 2, "seed": 0}
    assert negatives_of(DrawRotating(data, **options).batch([0], step=0), 4)
    some = DrawRotating(data, max_positives=2, **options)
    seen = {tuple(some.batch([0], step=step).documents[:2]) for step in range(40)}
    assert len({text for pair in seen for text in pair}) == 4
    first = DrawRotating(data, max_positives=2, first_positives=True, **options)
    assert {tuple(first.batch([0], step=s).documents[:2]) for s in range(9)} == {("w0", "w1")}


def test_other_data_rotate_by_the_same_policy():
    data = a_set_with([12], positives=2)
    policy = DrawRotating(
        data, n_negatives=5, steps_per_epoch=3, seed=7, max_positives=1, first_positives=True
    )
    others = data.with_negatives(Lists.pack([[13, 12, 11, 10, 9, 8, 7, 6]]))
    again = policy.with_data(others)
    assert again.data is others
    for name in ("n_negatives", "steps_per_epoch", "seed", "max_positives", "first_positives"):
        assert getattr(again, name) == getattr(policy, name)
    assert set(negatives_of(again.batch([0], step=0), 1)) <= {f"w{i}" for i in range(6, 14)}


@pytest.mark.parametrize("name", ["n_negatives", "steps_per_epoch", "max_positives"])
def test_numbers_below_one_are_refused(name):
    options = {"n_negatives": 1, "steps_per_epoch": 1, "seed": 0}
    with pytest.raises(ValueError, match=f"DrawRotating: {name} must be at least 1, got 0"):
        DrawRotating(a_set(), **{**options, name: 0})
    with pytest.raises(TypeError, match=f"DrawRotating: {name} must be an integer, got float"):
        DrawRotating(a_set(), **{**options, name: 1.5})


def test_seeds_and_rows_out_of_range_are_refused():
    policy = DrawRotating(a_set(4), n_negatives=1, steps_per_epoch=1, seed=0)
    with pytest.raises(ValueError, match="DrawRotating: rows must be 0 to 3, got 4"):
        policy.batch([4], step=0)
    with pytest.raises(ValueError, match="DrawRotating: step must be 0 or more, got -1"):
        policy.batch([0], step=-1)
    negative = DrawRotating(a_set(4), n_negatives=1, steps_per_epoch=1, seed=-1)
    with pytest.raises(ValueError, match="DrawRotating: seed must be 0 or more, got -1"):
        negative.batch([0], step=0)


# ---- in training ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dataloader_drop_last": False},
        {"gradient_accumulation_steps": 3},
        {"gradient_accumulation_steps": 3, "dataloader_drop_last": False},
        {"gradient_accumulation_steps": 100},
    ],
    ids=["plain", "last", "accumulated", "accumulated-last", "one-step"],
)
def test_epochs_of_the_policy_are_those_of_the_trainer(tiny_bert, tmp_path, options):
    """The epoch in transformers' own state is compared at the beginning of every step."""
    data = a_set(26)
    args = arguments(tmp_path, num_train_epochs=3, **ROTATING, **options)
    trainer = RetrieverTrainer(load(tiny_bert), args, data)
    seen = []

    class Compare(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **rest):
            seen.append((state.global_step // trainer.draw.steps_per_epoch, int(state.epoch)))

    trainer.add_callback(Compare())
    trainer.train()
    assert {epoch for epoch, _ in seen} == {0, 1, 2}
    assert all(ours == theirs for ours, theirs in seen)
    assert trainer.state.global_step == 3 * trainer.draw.steps_per_epoch


def test_each_epoch_of_a_training_takes_the_next_negatives(tiny_bert, tmp_path, monkeypatch):
    data = a_set_with([6] * 12)
    args = arguments(tmp_path, num_train_epochs=4, **ROTATING)
    trainer = RetrieverTrainer(load(tiny_bert), args, data)
    met, draw = {}, trainer.draw.batch

    def spy(rows, *, step):
        for row in rows:
            drawn = negatives_of(draw([row], step=step), 1)
            met.setdefault(int(row), []).append(tuple(drawn))
        return draw(rows, step=step)

    monkeypatch.setattr(trainer.draw, "batch", spy)
    trainer.train()
    for row in range(12):
        one, two, three, four = met[row]
        assert len({*one, *two, *three}) == 6
        assert four == one


@pytest.mark.parametrize(
    "options",
    [{}, {"gradient_accumulation_steps": 2}, {"refresh_steps": 2, "refresh_negatives": 4}],
    ids=["plain", "accumulated", "refreshed"],
)
def test_a_resumed_rotation_ends_in_the_same_bits(tiny_bert, tmp_path, options):
    if "refresh_steps" in options:
        options = {**options, "refresh_depth": 8, "refresh_at_start": True}
    schedule = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 3, **options}

    def run(folder: Path, resume: Path | None) -> RetrieverTrainer:
        transformers.set_seed(0)
        args = arguments(folder, **ROTATING, **schedule)
        trainer = RetrieverTrainer(load(tiny_bert), args, a_set_with([7] * 24))
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer

    whole = run(tmp_path / "whole", None)
    again = run(tmp_path / "again", tmp_path / "whole" / "checkpoint-3")
    assert_same_bits(weights(whole.training_objective), weights(again.training_objective))
    assert losses_of(again)[-2:] == losses_of(whole)[-2:]
    assert whole.state.global_step > 5


def test_negatives_that_were_mined_again_rotate_as_well(tiny_bert, tmp_path):
    """ANCE's refresh: `refresh_steps` replaces the list, and the rotation goes on over the new."""
    data = a_set(negatives=False, positives=3)
    args = arguments(
        tmp_path,
        num_train_epochs=2,
        refresh_steps=2,
        refresh_at_start=True,
        refresh_depth=8,
        refresh_negatives=6,
        **ROTATING,
    )
    trainer = RetrieverTrainer(load(tiny_bert), args, data)
    trainer.train()
    assert isinstance(trainer.draw, DrawRotating)
    assert np.diff(trainer.draw.data.negatives.offsets).tolist() == [6] * 24
    ages = [entry["negatives_age"] for entry in trainer.state.log_history if "loss" in entry]
    assert ages == [1, 2] * 4
    steps = trainer.draw.steps_per_epoch
    drawn = [negatives_of(trainer.draw.batch([3], step=e * steps), 3) for e in range(4)]
    mined = {data.documents[i] for i in trainer.draw.data.negatives.of(3)}
    assert {*drawn[0], *drawn[1], *drawn[2]} == mined
    assert drawn[3] == drawn[0]


def test_a_policy_with_epochs_of_another_length_is_refused(tiny_bert, tmp_path):
    data = a_set()
    right = steps_per_epoch(len(data), arguments(tmp_path))
    policy = DrawRotating(data, n_negatives=2, steps_per_epoch=right + 1, seed=0)
    for one in (policy, DrawViews(policy, [["w1"]] * 24, n_views=1, seed=0)):
        trainer = RetrieverTrainer(load(tiny_bert), arguments(tmp_path), data, policy=one)
        with pytest.raises(ValueError, match=r"steps_per_epoch 5, but an epoch .* has 4"):
            trainer.train()


TWO = """
import json, sys
from pathlib import Path
import torch
from training_runs import a_scored_set, arguments, load, losses_of, without_dropout
from tilefold.train import HeldOutLoss, RetrieverTrainer
from tilefold.distributed.processes import leave
torch.set_num_threads(1)
model, folder, every = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
for name, options in every.items():
    args = arguments(folder / name, ddp_backend="gloo", **options)
    data = a_scored_set(n=26, positives=2)
    trainer = RetrieverTrainer(without_dropout(load(model)), args, data)
    held_out = HeldOutLoss(trainer.draw.with_data(data.take(range(7))), batch_size=4)
    before = held_out.evaluate(trainer.training_objective, step=0)["loss"]
    trainer.train()
    after = held_out.evaluate(trainer.training_objective, step=0)["loss"]
    if args.process_index == 0:
        found = {"losses": losses_of(trainer), "steps": trainer.draw.steps_per_epoch}
        found["held out"] = [before, after]
        (folder / f"{name}.json").write_text(json.dumps(found))
    del trainer
leave()
"""
ROTATIONS: dict[str, dict[str, Any]] = {
    name: {
        "learning_rate": 1e-4,
        "num_train_epochs": 3,
        **ROTATING,
        "train_group_size": 2,  # one of two negatives in an epoch
        **extra,
    }
    for name, extra in {"plain": {}, "parts": {"gradient_accumulation_steps": 3}}.items()
}


@pytest.fixture(scope="module")
def rotations_of_two_processes(tiny_bert, tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("two")
    run_on_two_processes(TWO, folder, str(tiny_bert), str(folder), json.dumps(ROTATIONS))
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ROTATIONS}


@pytest.mark.slow  # two processes import torch and transformers
@pytest.mark.parametrize("name", ROTATIONS)
def test_two_processes_rotate_as_one_with_twice_the_batch(
    tiny_bert, rotations_of_two_processes, tmp_path, name
):
    from training_runs import without_dropout

    from tilefold.train import HeldOutLoss

    data = a_scored_set(n=26, positives=2)
    one = RetrieverTrainer(
        without_dropout(load(tiny_bert)),
        arguments(tmp_path / "one", **{**ROTATIONS[name], "per_device_train_batch_size": 12}),
        data,
    )
    held_out = HeldOutLoss(one.draw.with_data(data.take(range(7))), batch_size=4)
    before = held_out.evaluate(one.training_objective, step=0)["loss"]
    one.train()
    after = held_out.evaluate(one.training_objective, step=0)["loss"]
    two = rotations_of_two_processes[name]
    assert two["steps"] == one.draw.steps_per_epoch
    np.testing.assert_allclose(two["losses"], losses_of(one), rtol=1e-4)
    np.testing.assert_allclose(two["held out"], [before, after], rtol=1e-4)
    assert after < before


# ---- arguments -----------------------------------------------------------------------------------


def test_arguments_describe_the_rotation(tmp_path):
    words = ["--model_name_or_path", "x", "--train_path", "y", "--output_dir", str(tmp_path)]
    words += ["--negatives_rotation", "--train_group_size", "8", "--positives_per_query", "3"]
    *_, args = parse([*words, "--use_cpu", "--report_to", "none"])
    assert args.negatives_rotation
    assert not arguments(tmp_path).negatives_rotation


def test_positives_of_the_arguments_are_those_of_the_policy(tiny_bert, tmp_path):
    model = load(tiny_bert)
    for given, expected in ((0, None), (1, 1), (3, 3)):
        args = arguments(tmp_path, **{**ROTATING, "positives_per_query": given})
        policy = RetrieverTrainer(model, args, a_set(positives=3)).draw
        assert isinstance(policy, DrawRotating)
        assert (policy.max_positives, policy.n_negatives, policy.seed) == (expected, 2, args.seed)
    plain = RetrieverTrainer(model, arguments(tmp_path), a_set()).draw
    assert isinstance(plain, Draw)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negative_passage_no_shuffle": True}, "not with negative_passage_no_shuffle"),
        ({"train_group_size": 1}, "has no effect without hard negatives; .* got 1"),
    ],
)
def test_rotation_without_effect_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=f"negatives_rotation: {message}"):
        arguments(tmp_path, **{**ROTATING, **options})


def test_rotation_beside_an_explicit_policy_is_refused(tiny_bert, tmp_path):
    data = a_set()
    args = arguments(tmp_path, negatives_rotation=True)
    with pytest.raises(ValueError, match="negatives_rotation=True has no effect where a policy"):
        RetrieverTrainer(load(tiny_bert), args, data, policy=Draw(data, group_size=2, seed=0))
