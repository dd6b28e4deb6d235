"""RepresentationMask: its parts, environments of the risk form against float64 loops, training."""

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_set, arguments, assert_same_bits, load, losses_of, weights

from tilefold.losses import ContrastiveLoss, InvarianceLoss
from tilefold.models import BiEncoder
from tilefold.train import (
    Batch,
    ContrastiveObjective,
    Draw,
    DrawViews,
    DrawWindows,
    InvarianceObjective,
    RepresentationMask,
    RetrieverTrainer,
    Schedule,
    WeightedObjective,
    train_step,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TEMPERATURE, GATE = 0.5, 0.25


def policy_of(data: Any, windows: bool = False) -> Any:
    rewrites = [[f"w{i} who"] for i in range(len(data))]
    policy = DrawViews(Draw(data, group_size=2, seed=0), rewrites, n_views=1, seed=0)
    return DrawWindows(policy, [2], seed=0) if windows else policy


def objective_of(model: Any, **options: Any) -> InvarianceObjective:
    mask = RepresentationMask(model.dim, gate_temperature=GATE, seed=3, **options)
    return InvarianceObjective(model, InvarianceLoss("risk", temperature=TEMPERATURE), mask=mask)


def random_embeddings(batch: Batch, dim: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    sizes = {"queries": len(batch.queries), "documents": len(batch.documents)}
    sizes |= {f"queries/{s}": sizes["queries"] for s in range(1, 1 + len(batch.query_views))}
    sizes |= {f"documents/{s}": sizes["documents"] for s in range(1, 1 + len(batch.document_views))}
    return {
        side: torch.randn(rows, dim, generator=generator, dtype=torch.float64).requires_grad_()
        for side, rows in sizes.items()
    }


def naive(batch: Batch, embeddings: dict[str, Any], mask: Any, pairs: Any) -> Any:
    """Mean and variance of the risk over environments ``(s, t, shift)``, number by number."""
    queries = [embeddings[side] for side in embeddings if side.startswith("queries")]
    documents = [embeddings[side] for side in embeddings if side.startswith("documents")]
    kept = [
        1 / (1 + (-(view @ mask.weight.T.double() + mask.bias.double())).exp()) for view in queries
    ]
    n, risks = len(batch.queries), []
    for s, t, shift in pairs:
        passages = documents[s % len(documents)]
        total = 0
        for row in range(n):
            other = (row - shift) % n
            scores = []
            for passage in passages:
                invariant = sum(kept[s][row] * queries[s][row] * passage) / TEMPERATURE
                part = (1 - kept[t][other]) * queries[t][other] * passage / GATE
                scores.append(invariant / (1 + math.exp(-float(sum(part).detach()))))
            positive = int(batch.positives[row])
            total = total + sum(score.exp() for score in scores).log() - scores[positive]
        risks.append(total / n)
    mean = sum(risks) / len(risks)
    return mean + sum((risk - mean) ** 2 for risk in risks) / len(risks)


@pytest.mark.parametrize("windows", [False, True], ids=["rewrites", "rewrites and windows"])
@pytest.mark.parametrize("swap", ["rewrites", "queries"])
def test_loss_and_gradients_are_those_of_loops(tiny_bert, swap, windows):
    objective = objective_of(load(tiny_bert), swap=swap)
    batch = policy_of(a_set(), windows).batch([3, 1, 8], step=5)
    found, plain = (random_embeddings(batch, objective.model.dim) for _ in range(2))
    loss = objective.compute_loss(batch, found).value
    loss.backward()
    gradient = {name: p.grad.double() for name, p in objective.mask.named_parameters()}
    objective.zero_grad()
    if swap == "rewrites":
        pairs = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)]
    else:
        shifts = [objective.mask._shift(3, 5, view) for view in (0, 1)]
        assert set(shifts) <= {1, 2}
        pairs = [(0, 0, 0), (1, 1, 0), (0, 0, shifts[0]), (1, 1, shifts[1])]
    expected = naive(batch, plain, objective.mask, pairs)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-10)
    for side, x in plain.items():
        torch.testing.assert_close(found[side].grad, x.grad, rtol=1e-6, atol=1e-9)
    for name, parameter in objective.mask.named_parameters():
        assert parameter.grad.any()
        torch.testing.assert_close(gradient[name], parameter.grad.double(), rtol=1e-4, atol=1e-6)


def test_parts_sum_to_the_embedding_and_begin_near_halves():
    mask = RepresentationMask(32, seed=1)
    queries = torch.nn.functional.normalize(torch.randn(5, 7, 32), dim=-1)
    invariant, variant = mask(queries)
    torch.testing.assert_close(invariant + variant, queries)
    assert ((invariant / queries - 0.5).abs() < 0.25).all()
    other = RepresentationMask(32, seed=2)
    assert not torch.equal(mask.weight, other.weight)
    assert torch.equal(mask.weight, RepresentationMask(32, seed=1).weight)


def test_swaps_are_a_function_of_seed_step_and_view():
    queries = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))

    def parts(step: int, seed: int = 0) -> Any:
        return RepresentationMask(4, swap="queries", seed=seed).environments(queries, step=step)

    one = parts(3)
    assert one.views == [0, 1, 0, 1]
    assert torch.equal(one.variant, parts(3).variant)
    assert any(not torch.equal(one.variant, parts(step).variant) for step in range(4, 8))
    assert not one.variant.requires_grad
    assert one.invariant.requires_grad
    own, swapped = one.variant[:2], one.variant[2:]
    for a, b in zip(own, swapped, strict=True):  # the same rows, none in its place
        assert not (a == b).all(1).any()
        assert sorted(map(tuple, a.tolist())) == sorted(map(tuple, b.tolist()))
    alone = RepresentationMask(4, swap="queries").environments(queries[:, :1], step=0)
    assert torch.equal(alone.variant[:2], alone.variant[2:])


@pytest.mark.parametrize("swap", ["rewrites", "queries"])
def test_chunks_have_the_gradients_of_the_whole_batch(tiny_bert, swap):
    objective = objective_of(load(tiny_bert).eval(), swap=swap)
    batch = policy_of(a_set()).batch(range(7), step=0)
    gradients = []
    for chunk_sizes in (None, (2, 3)):
        objective.zero_grad()
        train_step(objective, batch, chunk_sizes=chunk_sizes)
        gradients.append({k: p.grad for k, p in objective.named_parameters() if p.grad is not None})
    assert {"mask.weight", "mask.bias"} < gradients[0].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_the_mask_is_trained_and_resumed_but_no_part_of_the_retriever(tiny_bert, tmp_path):
    data = a_set()

    def run(folder: Path, resume: Path | None) -> RetrieverTrainer:
        transformers.set_seed(0)
        model = load(tiny_bert)
        objective = WeightedObjective(
            {
                "contrastive": ContrastiveObjective(model, ContrastiveLoss(1.0)),
                "invariance": objective_of(model, swap="queries"),
            },
            {"invariance": Schedule(1.0, steps=4, shape="linear")},
        )
        args = arguments(folder, max_steps=7, save_strategy="steps", save_steps=3)
        policy = policy_of(data)
        trainer = RetrieverTrainer(model, args, data, objective=objective, policy=policy)
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer

    whole = run(tmp_path / "whole", None)
    again = run(tmp_path / "again", tmp_path / "whole" / "checkpoint-3")
    trained = weights(whole.training_objective)
    assert_same_bits(trained, weights(again.training_objective))
    assert losses_of(again)[-4:] == losses_of(whole)[-4:]
    begun = objective_of(load(tiny_bert)).mask.weight
    assert not torch.equal(trained["objectives.invariance.mask.weight"], begun)
    saved = BiEncoder.from_pretrained(tmp_path / "whole" / "checkpoint-6" / "model")
    assert weights(saved).keys() == weights(whole.training_objective.model).keys()


def test_masks_that_do_not_fit_are_refused(tiny_bert):
    model = load(tiny_bert)
    with pytest.raises(ValueError, match="swap must be 'rewrites' or 'queries', got 'all'"):
        RepresentationMask(4, swap="all")
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        RepresentationMask(0)
    with pytest.raises(ValueError, match="gate_temperature must be positive, got 0"):
        RepresentationMask(4, gate_temperature=0.0)
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        RepresentationMask(4, seed=-1)
    with pytest.raises(ValueError, match="expected embeddings of dim 4, got 3"):
        RepresentationMask(4)(torch.zeros(2, 3))
    mask = RepresentationMask(model.dim)
    for form in ("consistency", "variance"):
        with pytest.raises(ValueError, match=f"mask needs a loss of form 'risk', got '{form}'"):
            InvarianceObjective(model, InvarianceLoss(form), mask=mask)
    with pytest.raises(ValueError, match=r"embeddings have dim .* but mask has dim 3"):
        InvarianceObjective(model, InvarianceLoss("risk"), mask=RepresentationMask(3))
    with pytest.raises(TypeError, match="mask must be of type RepresentationMask, got Linear"):
        InvarianceObjective(model, InvarianceLoss("risk"), mask=torch.nn.Linear(2, 2))


def test_modes_and_groups_that_a_form_has_no_use_for_are_refused(tiny_bert):
    model = load(tiny_bert)
    for form, mode in (("consistency", "sum"), ("risk", "any")):
        with pytest.raises(ValueError, match=f"mode must be .*, got '{mode}' with '{form}'"):
            InvarianceObjective(model, InvarianceLoss(form), mode=mode)
    with pytest.raises(ValueError, match="process_group needs candidates='own', got 'batch'"):
        InvarianceObjective(model, InvarianceLoss(), process_group=object())
