"""RepresentationObjective: loss and gradients against float64 loops, training, checkpoints."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_set, arguments, assert_same_bits, load, losses_of, weights

from tilefold.losses import ContrastiveLoss
from tilefold.models import BiEncoder
from tilefold.train import (
    ContrastiveObjective,
    Draw,
    DrawTeacher,
    RepresentationObjective,
    RetrieverTrainer,
    WeightedObjective,
    train_step,
)

pytestmark = pytest.mark.usefixtures("one_thread")

DIM, TEMPERATURE = 5, 0.5
FORMS = ["forward_kl", "reverse_kl", "js", "mse"]


def policy_of(data: Any) -> DrawTeacher:
    rng = np.random.default_rng(3)
    queries, documents = (
        rng.standard_normal((size, DIM)).astype(np.float32)
        for size in (len(data), len(data.documents))
    )
    return DrawTeacher(Draw(data, group_size=3, seed=0), queries, documents)


def objective_of(model: Any, form: str, **options: Any) -> RepresentationObjective:
    temperature = None if form == "mse" else TEMPERATURE
    return RepresentationObjective(model, DIM, form=form, temperature=temperature, **options)


def softmax(values: list[Any]) -> list[Any]:
    powers = [(value / TEMPERATURE).exp() for value in values]
    return [power / sum(powers) for power in powers]


def kl(p: list[Any], q: list[Any]) -> Any:
    return sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))


def naive(form: str, embeddings: Any, coarse: Any, projection: Any) -> Any:
    """The mean loss of one side, number by number."""
    total = torch.zeros((), dtype=torch.float64)
    for v, c in zip(embeddings, coarse, strict=True):
        target = [
            sum(row[j] * float(c[j]) for j in range(len(c)))  # one number of W c
            for row in projection
        ]
        if form == "mse":
            total = total + sum((a - b) ** 2 for a, b in zip(v, target, strict=True)) / len(v)
            continue
        s, t = softmax(list(v)), softmax(target)
        if form == "forward_kl":
            total = total + kl(t, s)
        elif form == "reverse_kl":
            total = total + kl(s, t)
        else:
            middle = [(a + b) / 2 for a, b in zip(s, t, strict=True)]
            total = total + (kl(s, middle) + kl(t, middle)) / 2
    return total / len(embeddings)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_loss_and_gradients_are_those_of_loops(tiny_bert, form, dtype):
    objective = objective_of(load(tiny_bert), form)
    batch = policy_of(a_set()).batch([3, 1], step=0)
    generator = torch.Generator().manual_seed(1)
    embeddings = {
        side: torch.randn(rows, objective.model.dim, generator=generator).to(dtype)
        for side, rows in (("queries", 2), ("documents", 6))
    }
    given = {side: x.clone().requires_grad_() for side, x in embeddings.items()}
    loss = objective.compute_loss(batch, given)
    loss.value.backward()
    plain = {side: x.double().clone().requires_grad_() for side, x in embeddings.items()}
    projection = objective.projection.detach().double().requires_grad_()
    sides = {
        side: naive(form, plain[side], getattr(batch.coarse, side), projection) for side in plain
    }
    expected = 0.5 * (sides["queries"] + sides["documents"])
    expected.backward()
    close = (
        {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-4, "atol": 2e-6}
    )
    torch.testing.assert_close(loss.value.double(), expected, **close)
    for side in plain:
        torch.testing.assert_close(loss.terms[side].double(), sides[side].detach(), **close)
        torch.testing.assert_close(given[side].grad.double(), plain[side].grad, **close)
    # The parameter is float32, and so is its gradient.
    found = objective.projection.grad.double()
    torch.testing.assert_close(found, projection.grad, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("form", FORMS)
def test_chunks_have_the_gradients_of_the_whole_batch(tiny_bert, form):
    objective = objective_of(load(tiny_bert).eval(), form)
    batch = policy_of(a_set()).batch(range(7), step=0)
    gradients = []
    for chunk_sizes in (None, (2, 3)):
        objective.zero_grad()
        train_step(objective, batch, chunk_sizes=chunk_sizes)
        gradients.append({k: p.grad for k, p in objective.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert {"projection"} < gradients[0].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_the_projection_alone_is_trained_where_the_model_is_constant(tiny_bert):
    model = load(tiny_bert).eval()
    batch = policy_of(a_set()).batch(range(4), step=0)
    train_step(objective_of(model, "forward_kl", train_model=False), batch)
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    objective = objective_of(model, "forward_kl")
    train_step(objective, batch)
    assert objective.projection.grad.any()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


def weighted(model: Any) -> WeightedObjective:
    parts = {
        "contrastive": ContrastiveObjective(model, ContrastiveLoss(1.0)),
        "representation": objective_of(model, "forward_kl"),
    }
    return WeightedObjective(parts, {"representation": 2.0})


def test_training_brings_embeddings_to_the_projection_and_resumes(tiny_bert, tmp_path):
    data = a_set()

    def run(folder: Path, resume: Path | None) -> RetrieverTrainer:
        transformers.set_seed(0)
        model = load(tiny_bert)
        args = arguments(folder, max_steps=24, save_strategy="steps", save_steps=10)
        trainer = RetrieverTrainer(
            model, args, data, objective=weighted(model), policy=policy_of(data)
        )
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer

    whole = run(tmp_path / "whole", None)
    values = [x["representation"] for x in whole.state.log_history if "representation" in x]
    assert len(values) == 24
    assert np.mean(values[-4:]) < 0.8 * np.mean(values[:4])
    names = weights(whole.training_objective)
    assert "objectives.representation.projection" in names
    again = run(tmp_path / "again", tmp_path / "whole" / "checkpoint-10")
    assert_same_bits(names, weights(again.training_objective))
    assert losses_of(again)[-14:] == losses_of(whole)[-14:]
    # The retriever of a checkpoint is a bi-encoder without the projection.
    saved = BiEncoder.from_pretrained(tmp_path / "whole" / "checkpoint-20" / "model")
    assert weights(saved).keys() == weights(whole.training_objective.model).keys()


def test_the_projection_begins_with_the_variance_of_its_seed(tiny_bert):
    model = load(tiny_bert)
    one, same, other = (RepresentationObjective(model, 400, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.projection, same.projection)
    assert not torch.equal(one.projection, other.projection)
    assert float(one.projection.detach().std()) == pytest.approx(1 / math.sqrt(400), rel=0.1)


def test_arguments_that_do_not_fit_are_refused(tiny_bert):
    model = load(tiny_bert)
    with pytest.raises(ValueError, match=r"form must be one of 'forward_kl', .* got 'kl'"):
        RepresentationObjective(model, DIM, form="kl")
    with pytest.raises(ValueError, match="form 'mse' has no use for temperature, got 1"):
        RepresentationObjective(model, DIM, form="mse", temperature=1.0)
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        RepresentationObjective(model, DIM, temperature=0.0)
    with pytest.raises(ValueError, match="coarse_dim must be at least 1, got 0"):
        RepresentationObjective(model, 0)
    with pytest.raises(TypeError, match="model must be of type BiEncoder, got Linear"):
        RepresentationObjective(torch.nn.Linear(2, 2), DIM)
    data = a_set()
    plain = Draw(data, group_size=3, seed=0).batch(range(3), step=0)
    with pytest.raises(ValueError, match="the batch has no coarse embeddings; DrawTeacher adds"):
        train_step(objective_of(model, "mse"), plain)
    batch = policy_of(data).batch(range(3), step=0)
    with pytest.raises(ValueError, match=r"of dim 6 \(coarse_dim\), got 5"):
        train_step(RepresentationObjective(model, 6), batch)
