"""InvarianceObjective: candidates, invariant patterns and masks, against float64 loops."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
transformers = pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_set, arguments, assert_same_bits, load, losses_of, weights

from tilefold.losses import ContrastiveLoss, InvarianceLoss
from tilefold.ragged_lists import Lists
from tilefold.train import (
    ContrastiveObjective,
    Draw,
    DrawSeveral,
    DrawViews,
    InvarianceObjective,
    RetrieverTrainer,
    WeightedObjective,
    train_step,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TEMPERATURE = 0.5


def viewed(data: Any, policy: Any = None) -> DrawViews:
    rewrites = [[f"w{i} who", f"is w{i + 1}"] for i in range(len(data))]
    policy = policy or Draw(data, group_size=3, seed=0)
    return DrawViews(policy, rewrites, n_views=2, seed=0)


def objective_of(model: Any, form: str = "consistency", **options: Any) -> InvarianceObjective:
    return InvarianceObjective(model, InvarianceLoss(form, temperature=TEMPERATURE), **options)


def random_embeddings(batch: Any, dim: int = 6) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    n, m = len(batch.queries), len(batch.documents)
    sides = {"queries": n, "documents": m, "queries/1": n, "queries/2": n}
    return {
        side: torch.randn(rows, dim, generator=generator, dtype=torch.float64).requires_grad_()
        for side, rows in sides.items()
    }


def views_of(embeddings: dict[str, Any]) -> list[Any]:
    return [embeddings[side] for side in ("queries", "queries/1", "queries/2")]


def scores_of(query: Any, documents: Any, candidates: list[int]) -> list[Any]:
    return [
        sum(a * b for a, b in zip(query, documents[i], strict=True)) / TEMPERATURE
        for i in candidates
    ]


def naive_consistency(
    embeddings: dict[str, Any], candidates: list[list[int]], top: int, beta: float
) -> Any:
    """KL(target || P_s), averaged over views and queries, number by number."""
    queries, documents = views_of(embeddings), embeddings["documents"]
    total = 0
    for row, listed in enumerate(candidates):
        p = []
        for view in queries:
            powers = [score.exp() for score in scores_of(view[row], documents, listed)]
            p.append([power / sum(powers) for power in powers])
        means = [sum(float(x.detach()) for x in column) / len(p) for column in zip(*p, strict=True)]
        values = [
            mean - beta * math.sqrt(sum((float(x.detach()) - mean) ** 2 for x in column) / len(p))
            for mean, column in zip(means, zip(*p, strict=True), strict=True)
        ]
        order = sorted(range(len(listed)), key=lambda i: (-values[i], i))
        kept = order[:top] if top else order
        mass = sum(means[i] for i in kept)
        for view in p:
            for i in kept:
                target = means[i] / mass
                total = total + target * (math.log(target) - view[i].log()) / len(p)
    return total / len(candidates)


@pytest.mark.parametrize("candidates", ["batch", "own"])
@pytest.mark.parametrize(("top", "beta"), [(0, 1.0), (1, 1.0), (2, 0.0), (2, 3.0)])
def test_loss_and_gradients_are_those_of_loops(tiny_bert, candidates, top, beta):
    batch = viewed(a_set()).batch([7, 2, 11], step=0)
    options = {"beta": beta} if top else {}
    objective = objective_of(load(tiny_bert), candidates=candidates, top_patterns=top, **options)
    found, plain = random_embeddings(batch), random_embeddings(batch)
    loss = objective.compute_loss(batch, found).value
    loss.backward()
    own = [list(range(3 * row, 3 * row + 3)) for row in range(3)]
    listed = own if candidates == "own" else [list(range(9))] * 3
    expected = naive_consistency(plain, listed, top, beta)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    for side, x in plain.items():
        torch.testing.assert_close(found[side].grad, x.grad, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("options", [{"candidates": "own"}, {"top_patterns": 2}])
def test_chunks_have_the_gradients_of_the_whole_batch(tiny_bert, options):
    objective = objective_of(load(tiny_bert).eval(), **options)
    batch = viewed(a_set()).batch(range(7), step=0)
    gradients = []
    for chunk_sizes in (None, (2, 3)):
        objective.zero_grad()
        train_step(objective, batch, chunk_sizes=chunk_sizes)
        flat = [p.grad.ravel() for p in objective.parameters() if p.grad is not None]
        gradients.append(torch.cat(flat))
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)


# ---- risks ---------------------------------------------------------------------------------------


def naive_risks(embeddings: dict[str, Any], batch: Any, known: list[set[str]]) -> list[Any]:
    """Contrastive losses of each view; texts in `known` of a query are no negatives of it."""
    offsets, indices = (part.tolist() for part in batch.positives)
    risks = []
    for view in views_of(embeddings):
        total = 0
        for row in range(len(batch.queries)):
            scores = scores_of(view[row], embeddings["documents"], range(len(batch.documents)))
            own = indices[offsets[row] : offsets[row + 1]]
            negatives = [
                score
                for score, text in zip(scores, batch.documents, strict=True)
                if text not in known[row]
            ]
            for positive in own:
                powers = [score.exp() for score in (scores[positive], *negatives)]
                total = total + (sum(powers).log() - scores[positive]) / len(own)
        risks.append(total / len(batch.queries))
    return risks


@pytest.mark.parametrize("form", ["risk", "variance"])
def test_neither_other_positives_nor_the_query_are_negatives(tiny_bert, form):
    data = a_set(positives=3)
    texts = list(data.documents)
    texts[24] = data.queries[1]  # a negative of query 0 is query 1 itself
    # Query 0 draws one of its positives 0, 1, 2, and queries 1 and 2 draw others of them.
    data = replace(data, documents=texts)
    policy = viewed(data, DrawSeveral(data, max_positives=1, n_negatives=2, seed=0))
    batch = policy.batch([0, 1, 2], step=0)
    known = [{texts[i] for i in data.positives.of(row)} | {data.queries[row]} for row in range(3)]
    positives = batch.positives[1].tolist()
    foreign = [(row, i) for row in range(3) for i in positives if i != positives[row]]
    assert any(batch.documents[i] in known[row] for row, i in foreign)
    assert data.queries[1] in batch.documents
    found, plain = random_embeddings(batch), random_embeddings(batch)
    loss = objective_of(load(tiny_bert), form).compute_loss(batch, found).value
    loss.backward()
    risks = torch.stack(naive_risks(plain, batch, known))
    variance = ((risks - risks.mean()) ** 2).mean()
    expected = variance if form == "variance" else risks.mean() + variance
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    for side, x in plain.items():
        torch.testing.assert_close(found[side].grad, x.grad, rtol=1e-7, atol=1e-10)


# ---- training ------------------------------------------------------------------------------------


def test_training_with_invariant_patterns_resumes_to_the_same_bits(tiny_bert, tmp_path):
    data = a_set()

    def run(folder: Path, resume: Path | None) -> RetrieverTrainer:
        transformers.set_seed(0)
        model = load(tiny_bert)
        parts = {
            "contrastive": ContrastiveObjective(model, ContrastiveLoss(1.0)),
            "invariance": objective_of(model, top_patterns=3, beta=0.5),
        }
        args = arguments(
            folder,
            max_steps=7,
            save_strategy="steps",
            save_steps=3,
            refresh_steps=2,
            refresh_depth=8,
            refresh_negatives=4,
        )
        trainer = RetrieverTrainer(
            model, args, data, objective=WeightedObjective(parts), policy=viewed(data)
        )
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return trainer

    whole = run(tmp_path / "whole", None)
    again = run(tmp_path / "again", tmp_path / "whole" / "checkpoint-3")
    assert_same_bits(weights(whole.training_objective), weights(again.training_objective))
    assert losses_of(again)[-4:] == losses_of(whole)[-4:]


def test_a_negative_that_is_the_query_is_no_candidate_of_its_own(tiny_bert):
    data = a_set()
    texts = list(data.documents)
    texts[25] = data.queries[1]
    data = replace(data, documents=texts, negatives=Lists.pack([[24 + i] for i in range(24)]))
    batch = viewed(data, Draw(data, group_size=2, seed=0)).batch([0, 1, 2], step=0)
    assert batch.own_candidates[0].tolist() == [0, 2, 3, 5]
    assert batch.own_candidates[1].tolist() == [0, 1, 2, 4, 5]
    found, plain = random_embeddings(batch), random_embeddings(batch)
    loss = objective_of(load(tiny_bert), candidates="own").compute_loss(batch, found).value
    expected = naive_consistency(plain, [[0, 1], [2], [4, 5]], 0, 1.0)
    torch.testing.assert_close(loss, expected)


def test_arguments_that_do_not_fit_are_refused(tiny_bert):
    model = load(tiny_bert)
    with pytest.raises(ValueError, match="candidates must be 'batch' or 'own', got 'all'"):
        objective_of(model, candidates="all")
    with pytest.raises(ValueError, match="top_patterns must be at least 0, got -1"):
        objective_of(model, top_patterns=-1)
    with pytest.raises(ValueError, match="beta must be 0 or more and finite, got -1"):
        objective_of(model, top_patterns=1, beta=-1.0)
    with pytest.raises(ValueError, match=r"beta=0\.5 has no effect without top_patterns"):
        objective_of(model, beta=0.5)
    for options in ({"candidates": "own"}, {"top_patterns": 1}):
        with pytest.raises(ValueError, match="need a loss of form 'consistency', got 'risk'"):
            objective_of(model, "risk", **options)
    batch = viewed(a_set()).batch([0, 1], step=0)._replace(own_candidates=None)
    with pytest.raises(ValueError, match="candidates='own' needs batches with own_candidates"):
        train_step(objective_of(model, candidates="own"), batch)
