"""WeightedObjective's gradients, computed one loss at a time, against one graph of all losses."""

import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_scored_set, load

from tilefold.losses import AlignmentLoss, ContrastiveLoss, InvarianceLoss
from tilefold.train import (
    ContrastiveObjective,
    DistillationObjective,
    Draw,
    DrawViews,
    InvarianceObjective,
    WeightedObjective,
)
from tilefold.train.objectives import ObjectiveLoss

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = {"contrastive": 1.0, "alignment": 0.7, "invariance": 2.0}


def objective_of(model: Any) -> WeightedObjective:
    alignment = AlignmentLoss(0.5, teacher_temperature=2.0)
    parts = {
        "contrastive": ContrastiveObjective(model, ContrastiveLoss(0.5, learn_temperature=True)),
        "alignment": DistillationObjective(model, alignment),
        "invariance": InvarianceObjective(model, InvarianceLoss(temperature=0.5)),
    }
    return WeightedObjective(parts, WEIGHTS)


@pytest.fixture
def objective(tiny_bert) -> WeightedObjective:
    return objective_of(load(tiny_bert))


@pytest.fixture
def batch() -> Any:
    data = a_scored_set()
    rewrites = [[f"w{i} who", f"is w{i}"] for i in range(len(data))]
    policy = DrawViews(Draw(data, group_size=3, seed=0), rewrites, n_views=2, seed=0)
    return policy.batch(range(5), step=0)


def embeddings_of(batch: Any, dtype: Any = torch.float32) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    n, m = len(batch.queries), len(batch.documents)
    sides = {"queries": n, "documents": m, "queries/1": n, "queries/2": n}
    return {
        side: torch.randn(rows, 16, generator=generator).to(dtype).requires_grad_()
        for side, rows in sides.items()
    }


def in_one_graph(objective: Any, batch: Any, embeddings: dict[str, Any]) -> Any:
    values = [
        WEIGHTS.get(name, 1.0) * part.compute_loss(batch, embeddings).value
        for name, part in objective.objectives.items()
    ]
    return torch.stack(values).sum()


def gradients(value: Any, embeddings: dict[str, Any], *parameters: Any) -> list[Any]:
    leaves = (*embeddings.values(), *parameters)
    for x in leaves:
        x.grad = None
    value.backward()
    return [x.grad for x in leaves]


def test_the_bits_are_those_of_one_graph(objective, batch):
    one, other = embeddings_of(batch), embeddings_of(batch)
    log_scale = objective.objectives["contrastive"].loss.log_scale
    found = objective.compute_loss(batch, one).value
    ours = gradients(found, one, log_scale)
    value = in_one_graph(objective, batch, other)
    assert torch.equal(found, value)
    for mine, plain in itertools.zip_longest(ours, gradients(value, other, log_scale)):
        assert torch.equal(mine, plain)
        assert mine.any()


def test_terms_are_in_the_order_of_objectives(objective, batch):
    terms = objective.compute_loss(batch, embeddings_of(batch)).terms
    assert [*terms] == [f"{name}{what}" for name in WEIGHTS for what in ("_weight", "")]
    assert not any(x.requires_grad for x in terms.values())


def test_gradients_reach_what_embeddings_come_from_and_may_be_taken_twice(objective, batch):
    weight = torch.full((16,), 1.5, requires_grad=True)
    inputs = {side: x.detach() for side, x in embeddings_of(batch).items()}
    value = objective.compute_loss(batch, {side: x * weight for side, x in inputs.items()}).value
    (3 * value).backward(retain_graph=True)
    once = weight.grad.clone()
    (3 * value).backward()
    assert torch.equal(weight.grad, 2 * once)
    weight.grad = None
    in_one_graph(objective, batch, {side: x * weight for side, x in inputs.items()}).backward()
    torch.testing.assert_close(once, 3 * weight.grad)


def test_what_needs_no_gradient_gets_none(objective, batch):
    embeddings = embeddings_of(batch)
    embeddings["documents"].requires_grad_(False)
    objective.compute_loss(batch, embeddings).value.backward()
    assert embeddings["documents"].grad is None
    assert embeddings["queries"].grad.any()
    with torch.no_grad():
        assert not objective.compute_loss(batch, embeddings_of(batch)).value.requires_grad


def test_a_scaled_loss_keeps_small_gradients_in_float16(objective, batch):
    """As a gradient scaler needs it: gradients are rounded after they are scaled."""
    weights = {name: 2.0**-30 * weight for name, weight in WEIGHTS.items()}
    small = WeightedObjective(dict(objective.objectives.items()), weights)
    embeddings = embeddings_of(batch, torch.float16)
    (2.0**28 * small.compute_loss(batch, embeddings).value).backward()
    plain = {side: x.detach().float().requires_grad_() for side, x in embeddings.items()}
    value = in_one_graph(objective, batch, plain)
    for x, expected in zip(embeddings.values(), gradients(value, plain), strict=True):
        assert x.grad.dtype == torch.float16
        torch.testing.assert_close(x.grad.float(), expected / 4, rtol=2e-3, atol=1e-7)


def test_parameters_that_an_objective_does_not_name_are_trained(tiny_bert, batch):
    class Shifted(ContrastiveObjective):
        """Has one parameter that it does not list, and a loss that shares a gradient."""

        def __init__(self, model: Any) -> None:
            super().__init__(model, ContrastiveLoss(0.5))
            self.shift = torch.nn.Parameter(torch.ones(16))

        def compute_loss(self, batch: Any, embeddings: Any) -> ObjectiveLoss:
            q, other = embeddings["queries"], embeddings["queries/1"]
            return ObjectiveLoss((q + other + self.shift).sum(), {})

    model = load(tiny_bert)
    parts = {"contrastive": ContrastiveObjective(model, ContrastiveLoss(0.5))}
    objective = WeightedObjective(parts | {"shifted": Shifted(model)})
    one, other = embeddings_of(batch), embeddings_of(batch)
    shift = objective.objectives["shifted"].shift
    del one["queries/2"], other["queries/2"]
    ours = gradients(objective.compute_loss(batch, one).value, one, shift)
    plain = gradients(in_one_graph(objective, batch, other), other, shift)
    for mine, expected in zip(ours, plain, strict=True):
        assert torch.equal(mine, expected)


def test_second_derivatives_are_refused(objective, batch):
    embeddings = embeddings_of(batch)
    value = objective.compute_loss(batch, embeddings).value
    with pytest.raises(RuntimeError, match="WeightedObjective: there is no second derivative"):
        torch.autograd.grad(value, embeddings["queries"], create_graph=True)
