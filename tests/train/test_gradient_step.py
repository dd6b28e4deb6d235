"""One step: the trainer and hand-written loops add the same gradients, by the same function."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_scored_set, a_set, arguments, load
from two_processes import run_on_two_processes

from tilefold.losses import AlignmentLoss, ContrastiveLoss
from tilefold.train import (
    ContrastiveObjective,
    DistillationObjective,
    Draw,
    RetrieverTrainer,
    WeightedObjective,
    train_step,
)
from tilefold.train import trainer as trainer_module

pytestmark = pytest.mark.usefixtures("one_thread")


class Gradients(transformers.TrainerCallback):
    """Keeps the gradients that an optimizer step begins with."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.found = [p.grad.clone() for p in given["model"].parameters() if p.grad is not None]


@pytest.mark.parametrize(
    ("options", "chunk_sizes"),
    [
        ({}, None),
        ({"grad_cache": True, "gc_q_chunk_size": 4, "gc_p_chunk_size": 5}, (4, 5)),
        ({"gradient_accumulation_steps": 3}, None),
        ({"bf16": True}, None),
    ],
    ids=["plain", "chunks", "accumulated", "bf16"],
)
def test_the_trainer_and_a_loop_of_ones_own_add_the_same_bits(
    tiny_bert, tmp_path, monkeypatch, options, chunk_sizes
):
    model, gradients = load(tiny_bert), Gradients()  # with dropout: random numbers are the same
    options = {"max_steps": 1, "learning_rate": 0.0, "max_grad_norm": 0.0, **options}
    trainer = RetrieverTrainer(
        model,
        arguments(tmp_path, temperature=0.5, learn_temperature=True, **options),
        a_set(positives=2),
        callbacks=[gradients],
    )
    drawn, draw = [], trainer.draw.batch

    def recorded(rows: Any, step: int) -> Any:
        drawn.append((draw(rows, step=step), torch.get_rng_state()))
        return drawn[-1][0]

    monkeypatch.setattr(trainer.draw, "batch", recorded)
    trainer.train()
    objective = ContrastiveObjective(model, ContrastiveLoss(0.5, learn_temperature=True)).train()
    objective.zero_grad()
    for batch, state in drawn:
        torch.set_rng_state(state)
        train_step(
            objective,
            batch,
            chunk_sizes=chunk_sizes,
            weight=1 / len(drawn),
            autocast=lambda: torch.autocast("cpu", torch.bfloat16, enabled="bf16" in options),
        )
    found = [p.grad for p in objective.parameters() if p.grad is not None]
    assert len(found) == len(gradients.found)
    assert all(torch.equal(a, b) for a, b in zip(found, gradients.found, strict=True))
    assert sum(float(g.abs().sum()) for g in found) > 0


def test_the_trainer_takes_its_steps_by_train_step(tiny_bert, tmp_path, monkeypatch):
    calls, backward = [], []

    def counted(objective: Any, batch: Any, **options: Any) -> Any:
        backward.append(options["backward"])
        calls.append((batch.step, options["chunk_sizes"], options["weight"]))
        return train_step(objective, batch, **options)

    monkeypatch.setattr(trainer_module, "train_step", counted)
    for options in ({"grad_cache": True}, {"gradient_accumulation_steps": 2}):
        args = arguments(tmp_path, max_steps=2, **options)
        trainer = RetrieverTrainer(load(tiny_bert), args, a_set())
        trainer.train()
        # Which scales the loss in half precision, with chunks as without.
        assert backward[-1] == trainer.accelerator.backward
    chunked, plain = calls[:2], calls[2:]
    assert chunked == [(0, (32, 32), 1.0), (1, (32, 32), 1.0)]
    assert plain == [(step, None, 0.5) for step in (0, 0, 1, 1)]


@pytest.mark.parametrize("chunk_sizes", [None, (2, 4)])
def test_a_weight_scales_the_loss_and_its_gradient(tiny_bert, chunk_sizes):
    objective = both(load(tiny_bert).eval())
    batch = Draw(a_scored_set(), group_size=3, seed=0).batch(range(4), step=0)
    found = []
    for weight in (1.0, 0.25):  # a power of two, so that every bit is the same
        objective.zero_grad()
        loss = train_step(objective, batch, weight=weight, chunk_sizes=chunk_sizes)
        assert not loss.value.requires_grad
        gradients = [p.grad for p in objective.parameters() if p.grad is not None]
        found.append([loss.value, *(gradient.clone() for gradient in gradients)])
        # Terms are those of the batch, whatever its weight.
        total = loss.terms["contrastive"] + loss.terms["distillation"]
        torch.testing.assert_close(total * weight, loss.value)
    assert all(torch.equal(0.25 * a, b) for a, b in zip(*found, strict=True))


def test_what_has_nothing_to_train_is_refused(tiny_bert):
    objective = ContrastiveObjective(load(tiny_bert), ContrastiveLoss(0.5))
    policy = Draw(a_set(), group_size=2, seed=0)
    with pytest.raises(ValueError, match="train_step: the batch has no queries"):
        train_step(objective, policy.batch([], step=0))
    objective.requires_grad_(False)
    for chunk_sizes in (None, (2, 2)):
        with pytest.raises(ValueError, match="train_step: no parameter of the objective"):
            train_step(objective, policy.batch([0], step=0), chunk_sizes=chunk_sizes)


def test_a_step_goes_through_the_wrapper(tiny_bert):
    objective = ContrastiveObjective(load(tiny_bert).eval(), ContrastiveLoss(0.5))
    batch = Draw(a_set(), group_size=2, seed=0).batch(range(4), step=0)
    calls = []

    def wrapper(tokens: Any) -> Any:
        calls.append(sorted(tokens))
        return objective(tokens)

    plain = train_step(objective, batch, wrapped=wrapper).value
    assert calls == [["documents", "queries"]]  # one call, which DDP counts as one step
    calls.clear()
    chunked = train_step(objective, batch, wrapped=wrapper, chunk_sizes=(2, 4)).value
    assert sorted(calls) == [["documents"]] * 4 + [["queries"]] * 4  # each chunk twice
    np.testing.assert_allclose(float(chunked), float(plain), rtol=1e-6)


# Two processes with other numbers of queries, by a loop of their own around DDP.
LOOP = """
import sys
import torch
from torch.nn.parallel import DistributedDataParallel
from tilefold.distributed.processes import leave
from tilefold.train import Draw, train_step
from training_runs import a_scored_set, load
from test_gradient_step import both
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
parts = [[range(4), range(7, 9)], [range(4, 7), range(9, 10)]][rank]
for way, chunk_sizes in {"plain": None, "chunks": (2, 4)}.items():
    policy = Draw(a_scored_set(positives=2), group_size=3, seed=0)
    objective = both(load(sys.argv[1]).eval(), torch.distributed.group.WORLD)
    wrapped = DistributedDataParallel(objective, find_unused_parameters=True)  # the pooler
    for number, rows in enumerate(parts):
        train_step(
            objective, policy.batch(rows, step=0), wrapped=wrapped, weight=0.5,
            chunk_sizes=chunk_sizes, synchronize=number == 1,
        )
    if rank == 0:
        gradients = [p.grad for p in objective.parameters() if p.grad is not None]
        torch.save(gradients, f"{sys.argv[2]}/{way}.pt")
leave()
"""


def both(model: Any, process_group: Any = None) -> WeightedObjective:
    """Contrastive training with a learned temperature, and distillation."""
    loss = ContrastiveLoss(0.5, learn_temperature=True, process_group=process_group)
    return WeightedObjective(
        {
            "contrastive": ContrastiveObjective(model, loss),
            "distillation": DistillationObjective(
                model, AlignmentLoss(0.5), process_group=process_group
            ),
        }
    )


@pytest.fixture(scope="module")
def gradients_of_two_processes(tiny_bert, tmp_path_factory) -> dict[str, list[torch.Tensor]]:
    folder = tmp_path_factory.mktemp("two")
    run_on_two_processes(LOOP, folder, str(tiny_bert), str(folder))
    ways = ("plain", "chunks")
    return {way: torch.load(folder / f"{way}.pt", weights_only=True) for way in ways}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["plain", "chunks"])
def test_loops_of_ones_own_over_two_processes_have_the_gradient_of_one(
    tiny_bert, gradients_of_two_processes, way
):
    objective = both(load(tiny_bert).eval())
    policy = Draw(a_scored_set(positives=2), group_size=3, seed=0)
    for rows in (range(7), range(7, 10)):
        train_step(objective, policy.batch(rows, step=0), weight=0.5)
    found = gradients_of_two_processes[way]
    expected = [p.grad for p in objective.parameters() if p.grad is not None]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
