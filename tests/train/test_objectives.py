"""Objectives: their gradients against the reference, what they encode, what they refuse."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_scored_set, a_set, load

from tilefold import reference
from tilefold.losses import AlignmentLoss, ContrastiveLoss, InvarianceLoss
from tilefold.testing import assert_as_close_as_torch
from tilefold.train import (
    Batch,
    ContrastiveObjective,
    DistillationObjective,
    Draw,
    DrawSeveral,
    DrawViews,
    InvarianceObjective,
    Schedule,
    WeightedObjective,
    train_step,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TEMPERATURE, TEACHER_TEMPERATURE = 0.5, 2.0


@pytest.fixture
def model(tiny_bert):
    return load(tiny_bert).eval()


def gradient(objective: Any, batch: Batch, **options: Any) -> tuple[Any, Any]:
    objective.zero_grad()
    value = train_step(objective, batch, **options).value
    return value, flat_gradient(objective)


def flat_gradient(module: Any) -> Any:
    grads = [p.grad.ravel() for p in module.parameters() if p.grad is not None]
    return torch.cat(grads).clone()


def plain(model: Any, batch: Batch, loss: Callable[..., Any]) -> tuple[Any, Any]:
    """A loss of the embeddings of queries, documents and views by autograd alone."""
    model.zero_grad()
    q, d = model.query_encoder, model.document_encoder
    sides = [(q, batch.queries), (d, batch.documents), *((q, texts) for texts in batch.query_views)]
    value = loss(*(encoder(encoder.pad(encoder.tokenize(texts))) for encoder, texts in sides))
    value.backward()
    return value.detach(), flat_gradient(model)


def assert_gradient_of(
    objective: Any, batch: Batch, loss: Callable[..., Any], *, double: bool = False, **options: Any
) -> None:
    """In fp32 as close to plain torch in fp64 as plain torch in fp32 is.

    With `double` ours is in fp64, which shows a wrong formula as well and not the rounding of two
    orders of summation, which the encoder amplifies by more than the policy's factor of 2.
    """
    same = plain(objective.model, batch, loss)
    ours = gradient(objective.double() if double else objective, batch, **options)
    truth = plain(objective.double().model, batch, loss)
    objective.float()
    assert truth[1].dtype == torch.float64
    assert_as_close_as_torch(ours[0], same[0], truth[0], name="loss")
    assert_as_close_as_torch(ours[1], same[1], truth[1], in_norm=True, name="gradient")


def kl_of(batch: Batch) -> Callable[..., Any]:
    """KL(teacher || student) over the passages of each query, spelled out."""
    offsets, indices, scores = batch.teacher

    def loss(queries: Any, documents: Any, *_: Any) -> Any:
        total = 0
        for row, query in enumerate(queries):
            listed = slice(int(offsets[row]), int(offsets[row + 1]))
            student = documents[indices[listed]] @ query / TEMPERATURE
            teacher = scores[listed].to(query.dtype) / TEACHER_TEMPERATURE
            t, log_s = torch.softmax(teacher, 0), torch.log_softmax(student, 0)
            total = total + (t * (t.log() - log_s)).sum()
        return total / len(queries)

    return loss


def contrastive_of(batch: Batch, mode: str = "each") -> Callable[..., Any]:
    """The reference over the whole matrix of scores, with the masks of the batch."""
    lists = as_lists(batch)
    known_offsets, known = (part.tolist() for part in batch.exclude_ids)
    ids, query_ids = batch.document_ids.tolist(), batch.query_ids.tolist()
    left_out = torch.zeros(len(batch.queries), len(batch.documents), dtype=torch.bool)
    for row in range(len(batch.queries)):
        of_same = [r for r in range(len(lists)) if query_ids[r] == query_ids[row]]
        spared = {ids[i] for r in of_same for i in lists[r]}
        spared |= set(known[known_offsets[row] : known_offsets[row + 1]])
        left_out[row] = torch.tensor([i in spared for i in ids])

    def loss(queries: Any, documents: Any, *_: Any) -> Any:
        losses, _ = reference.contrastive_losses(
            queries, documents, lists, scale=1 / TEMPERATURE, mode=mode, left_out=left_out
        )
        return losses.mean()

    return loss


def as_lists(batch: Batch) -> list[list[int]]:
    if not isinstance(batch.positives, tuple):
        return [[int(i)] for i in batch.positives]
    offsets, indices = (part.tolist() for part in batch.positives)
    return [indices[a:b] for a, b in itertools.pairwise(offsets)]


def distillation(model: Any) -> DistillationObjective:
    loss = AlignmentLoss(TEMPERATURE, teacher_temperature=TEACHER_TEMPERATURE)
    return DistillationObjective(model, loss)


def contrastive(model: Any, mode: str = "each") -> ContrastiveObjective:
    return ContrastiveObjective(model, ContrastiveLoss(TEMPERATURE, mode=mode))


# ---- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_sizes", [None, (2, 3)])
def test_distillation_has_the_gradient_of_kl_in_plain_torch(model, chunk_sizes):
    batch = Draw(a_scored_set(positives=2), group_size=3, seed=0).batch(range(7), step=0)
    assert_gradient_of(distillation(model), batch, kl_of(batch), chunk_sizes=chunk_sizes)


def test_a_weighted_sum_has_the_gradient_of_the_sum_in_plain_torch(model):
    batch = Draw(a_scored_set(positives=2), group_size=3, seed=0).batch(range(7), step=30)
    objective = WeightedObjective(
        {"contrastive": contrastive(model), "distillation": distillation(model)},
        {"contrastive": 0.5, "distillation": Schedule(4.0, steps=40, shape="linear")},
    )
    one, other = contrastive_of(batch), kl_of(batch)
    assert_gradient_of(objective, batch, lambda q, d: 0.5 * one(q, d) + 3.0 * other(q, d))


@pytest.mark.parametrize("mode", ["each", "sum"])
@pytest.mark.parametrize("max_positives", [None, 2])
def test_several_positives_have_the_gradient_of_the_reference(model, mode, max_positives):
    policy = DrawSeveral(a_set(positives=3), max_positives=max_positives, n_negatives=2, seed=0)
    batch = policy.batch([0, 1, 5, 9, 10, 17], step=2)
    assert {len(positives) for positives in as_lists(batch)} == {max_positives or 3}
    assert_gradient_of(contrastive(model, mode), batch, contrastive_of(batch, mode))


def test_the_invariance_term_has_the_gradient_of_the_reference(model):
    rewrites = [[f"w{i} who", f"is w{i + 1}"] for i in range(24)]
    policy = DrawViews(Draw(a_set(), group_size=3, seed=0), rewrites, n_views=2, seed=0)
    batch = policy.batch(range(5), step=0)

    def consistency(queries: Any, documents: Any, *views: Any) -> Any:
        scores = torch.stack([q @ documents.T / TEMPERATURE for q in (queries, *views)])
        return reference.consistency_losses(scores)[0].mean()

    objective = InvarianceObjective(model, InvarianceLoss(temperature=TEMPERATURE))
    assert_gradient_of(objective, batch, consistency, double=True)
    chunked = gradient(objective, batch, chunk_sizes=(2, 4))[1]
    torch.testing.assert_close(chunked, gradient(objective, batch)[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("form", ["risk", "variance"])
def test_forms_that_compare_risks_use_the_labels_of_the_batch(model, form):
    policy = DrawViews(Draw(a_set(), group_size=2, seed=0), [["w1"]] * 24, n_views=1, seed=0)
    batch = policy.batch(range(5), step=0)

    def risks(queries: Any, documents: Any, view: Any) -> Any:
        one = contrastive_of(batch)
        both = torch.stack([one(queries, documents), one(view, documents)])
        spread = both.var(correction=0)
        return spread if form == "variance" else both.mean() + spread

    objective = InvarianceObjective(model, InvarianceLoss(form, temperature=TEMPERATURE))
    assert_gradient_of(objective, batch, risks)


def test_views_of_documents_are_encoded_by_their_tower(tiny_bert):
    model = load(tiny_bert, tied=False).eval()
    with torch.no_grad():
        for parameter in model.document_encoder.parameters():
            parameter.mul_(1.1)
    batch = Draw(a_set(), group_size=2, seed=0).batch(range(3), step=0)
    batch = batch._replace(document_views=([f"of {text}" for text in batch.documents],))
    objective = InvarianceObjective(model, InvarianceLoss(temperature=TEMPERATURE))
    value = train_step(objective, batch).value
    q, d, e = (
        torch.from_numpy(x)
        for x in (
            model.encode_queries(batch.queries),
            model.encode_corpus(batch.documents),
            model.encode_corpus(batch.document_views[0]),
        )
    )
    expected = reference.consistency_losses(torch.stack([q @ d.T, q @ e.T]) / TEMPERATURE)[0]
    torch.testing.assert_close(value, expected.mean())


# ---- weights and texts ---------------------------------------------------------------------------


def test_a_weight_follows_its_schedule_and_is_logged(model):
    ramp = Schedule(0.5, start=0.0, steps=10, shape="linear")
    objective = WeightedObjective(
        {"contrastive": contrastive(model), "distillation": distillation(model)},
        {"distillation": ramp},
    )
    policy = Draw(a_scored_set(), group_size=3, seed=0)
    for step in (0, 4, 10, 99):
        batch = policy.batch(range(6), step=step)
        value, terms = train_step(objective, batch)
        alone = [gradient(part, batch)[0] for part in (contrastive(model), distillation(model))]
        assert float(terms["distillation_weight"]) == pytest.approx(ramp(step))
        assert float(terms["contrastive"]) == float(alone[0])
        if step == 0:
            assert "distillation" not in terms
        else:
            assert float(terms["distillation"]) == float(alone[1])
        torch.testing.assert_close(value, alone[0] + ramp(step) * alone[1])


def test_every_text_is_encoded_once_whoever_uses_it(model, monkeypatch):
    rewrites = [[f"w{i} who"] for i in range(24)]
    objective = WeightedObjective(
        {
            "contrastive": contrastive(model),
            "invariance": InvarianceObjective(model, InvarianceLoss(temperature=TEMPERATURE)),
        },
        {"invariance": Schedule(1.0, steps=5, shape="linear")},
    )
    policy = DrawViews(Draw(a_set(), group_size=2, seed=0), rewrites, n_views=1, seed=0)
    rows: list[int] = []
    model.query_encoder.register_forward_pre_hook(
        lambda _, inputs: rows.append(len(inputs[0]["input_ids"]))
    )
    train_step(objective, policy.batch(range(4), step=1))
    assert rows == [4, 8, 4]  # queries, documents, the view
    rows.clear()
    train_step(objective, policy.batch(range(4), step=0))
    assert rows == [4, 8]  # with weight 0 views are not encoded


def test_a_title_is_joined_with_its_document_when_it_is_tokenized(model):
    objective = contrastive(model)
    batch = Draw(a_set(), group_size=2, seed=0).batch(range(2), step=0)
    titled = batch._replace(titles=["w7", "", "w8", "w9"])
    joined = ["w7 " + batch.documents[0], batch.documents[1]]
    assert objective.sides(titled)["documents"][:2] == joined
    found = gradient(objective, titled)
    texts = batch._replace(documents=objective.sides(titled)["documents"])
    assert torch.equal(found[1], gradient(objective, texts)[1])
    assert not torch.equal(found[1], gradient(objective, batch)[1])


# ---- bad input -----------------------------------------------------------------------------------


def test_distillation_refuses_batches_that_a_teacher_has_not_scored(model):
    objective = distillation(model)
    with pytest.raises(ValueError, match="DistillationObjective: the batch has no teacher scores"):
        train_step(objective, Draw(a_set(), group_size=3, seed=0).batch(range(3), step=0))
    data = a_scored_set()
    data.negative_scores[5] = np.nan  # of query 2
    batch = Draw(data, group_size=3, seed=0).batch(range(4), step=0)
    with pytest.raises(ValueError, match="teacher scores must be finite, got nan for query 2"):
        train_step(objective, batch)
    with pytest.raises(ValueError, match="the reduction of the loss must be 'mean', got 'sum'"):
        DistillationObjective(model, AlignmentLoss(reduction="sum"))


def test_invariance_needs_views(model):
    objective = InvarianceObjective(model, InvarianceLoss(temperature=TEMPERATURE))
    batch = Draw(a_set(), group_size=2, seed=0).batch(range(3), step=0)
    with pytest.raises(ValueError, match="got 0 of queries and 0 of documents"):
        train_step(objective, batch)
    batch = batch._replace(query_views=(["w1"] * 3,) * 2, document_views=(["w1"] * 6,))
    with pytest.raises(ValueError, match="got 2 of queries and 1 of documents"):
        train_step(objective, batch)


def test_sums_that_cannot_train_are_refused(model, tiny_bert):
    one, other = contrastive(model), distillation(model)
    both = {"contrastive": one, "distillation": other}
    with pytest.raises(ValueError, match="expected objectives of one model, got 0 models"):
        WeightedObjective({})
    with pytest.raises(ValueError, match="expected objectives of one model, got 2 models"):
        WeightedObjective({"a": one, "b": contrastive(load(tiny_bert))})
    with pytest.raises(ValueError, match="weights must be of contrastive, distillation, got 'kl'"):
        WeightedObjective(both, {"kl": 1.0})
    with pytest.raises(ValueError, match="end must be finite and 0 or more, got -1"):
        WeightedObjective(both, {"contrastive": -1.0})
    with pytest.raises(ValueError, match="the weight of distillation must be positive at some"):
        WeightedObjective(both, {"distillation": 0.0})
    with pytest.raises(ValueError, match="every weight is 0 at step 0"):
        WeightedObjective({"kl": other}, {"kl": Schedule(1.0, steps=9, shape="linear")})
    with pytest.raises(ValueError, match="every weight is 0 at step 9"):
        WeightedObjective({"kl": other}, {"kl": Schedule(0.0, 1.0, steps=9, shape="cosine")})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda m: ContrastiveObjective(m, torch.nn.Linear(2, 2)),
            "ContrastiveObjective: loss must be of type ContrastiveLoss, got Linear",
        ),
        (
            lambda m: ContrastiveObjective(m, AlignmentLoss(TEMPERATURE)),
            "ContrastiveObjective: loss must be of type ContrastiveLoss, got AlignmentLoss",
        ),
        (
            lambda m: ContrastiveObjective(m.query_encoder, ContrastiveLoss()),
            "ContrastiveObjective: model must be of type BiEncoder, got Encoder",
        ),
        (
            lambda m: DistillationObjective(m, ContrastiveLoss()),
            "DistillationObjective: loss must be of type AlignmentLoss, got ContrastiveLoss",
        ),
        (
            lambda m: InvarianceObjective(m, None),
            "InvarianceObjective: loss must be of type InvarianceLoss, got NoneType",
        ),
        (
            lambda m: WeightedObjective({"a": ContrastiveLoss()}),
            "WeightedObjective: a must be an objective of a BiEncoder, got ContrastiveLoss",
        ),
        (
            lambda m: WeightedObjective({"a": contrastive(m)}, {"a": "1"}),
            "Schedule: end must be a number, got '1'",
        ),
    ],
)
def test_models_and_losses_of_another_kind_are_named(model, make, message):
    with pytest.raises(TypeError, match=message):
        make(model)
