"""The preference objective: losses and gradients in plain torch, unscored passages, refusals."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from training_runs import a_scored_set, a_set, load

from tilefold.train import Batch, Draw, PreferenceObjective, train_step

pytestmark = pytest.mark.usefixtures("one_thread")

FORMS = ["distillation", "marginal likelihood"]


@pytest.fixture
def model(tiny_bert):
    return load(tiny_bert).eval()


def a_batch(**changes: Any) -> Batch:
    data = replace(a_scored_set(positives=2), **changes)
    return Draw(data, group_size=3, seed=0).batch(range(7), step=0)


def loop(model: Any, batch: Batch, form: str) -> Any:
    """The loss of one query after the other, over its passages that have a score."""
    encoder = model.query_encoder
    q, d = (
        encoder(encoder.pad(encoder.tokenize(texts))) for texts in (batch.queries, batch.documents)
    )
    offsets, indices, scores = batch.teacher
    losses = []
    for row in range(len(batch.queries)):
        listed = [
            place
            for place in range(int(offsets[row]), int(offsets[row + 1]))
            if not torch.isnan(scores[place])
        ]
        if not listed:
            losses.append(q[row].sum() * 0)
            continue
        own = torch.log_softmax(d[indices[listed]] @ q[row] / 0.5, 0)
        signal = scores[listed].to(own.dtype) / 2.0
        if form == "distillation":
            target = torch.softmax(signal, 0)
            losses.append((target * (target.log() - own)).sum())
        else:
            losses.append(-torch.log((own.exp() * signal.exp()).sum()))
    return torch.stack(losses).mean()


def gradient(module: Any) -> Any:
    return torch.cat([p.grad.ravel() for p in module.parameters() if p.grad is not None])


def without_some(scores: np.ndarray) -> np.ndarray:
    """Scores of which those of the first query and every fifth are missing."""
    found = scores.copy()
    found[:2] = found[::5] = np.nan
    return found


@pytest.mark.parametrize("chunk_sizes", [None, (2, 3)])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("missing", [False, True])
def test_loss_and_gradient_are_those_of_a_loop(model, form, missing, chunk_sizes):
    data = a_scored_set(positives=2)
    changes = {}
    if missing:
        changes = {
            "positive_scores": without_some(data.positive_scores),
            "negative_scores": without_some(data.negative_scores),
        }
    batch = a_batch(**changes)
    assert bool(torch.isnan(batch.teacher.scores).any()) == missing
    objective = PreferenceObjective(
        model, form=form, temperature=0.5, signal_temperature=2.0, unscored="leave out"
    ).double()
    objective.zero_grad()
    value = train_step(objective, batch, chunk_sizes=chunk_sizes).value
    found = gradient(objective).clone()
    objective.zero_grad()
    expected = loop(objective.model, batch, form)
    expected.backward()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found, gradient(objective), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_training_moves_probability_to_the_preferred_passage(tiny_bert, form):
    model = load(tiny_bert)
    data = a_set(positives=1)
    data = replace(
        data,
        positive_scores=np.full(24, -5.0),
        negative_scores=np.tile([-0.1, -5.0], 24),
    )
    batch = Draw(data, group_size=3, seed=0).batch(range(6), step=0)
    objective = PreferenceObjective(model, form=form)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    preferred = batch.teacher.scores == -np.float32(0.1)

    def probability() -> float:
        queries = torch.from_numpy(model.encode_queries(batch.queries, progress=False))
        documents = torch.from_numpy(model.encode_corpus(batch.documents, progress=False))
        found = (queries @ documents.T)[torch.arange(6).repeat_interleave(3), torch.arange(18)]
        return float(found.reshape(6, 3).softmax(1)[preferred.reshape(6, 3)].mean())

    before = probability()
    for _ in range(30):
        optimizer.zero_grad()
        train_step(objective, batch)
        optimizer.step()
    assert probability() > before + 0.2


def test_a_passage_without_a_score_is_an_error_by_default(model):
    data = a_scored_set(positives=2)
    batch = a_batch(negative_scores=without_some(data.negative_scores))
    with pytest.raises(ValueError, match=r"has no score: .*unscored='leave out' trains on"):
        train_step(PreferenceObjective(model), batch)


def test_a_batch_without_scores_is_refused(model):
    batch = Draw(a_set(), group_size=2, seed=0).batch(range(3), step=0)
    with pytest.raises(ValueError, match="the batch has no scores of a signal"):
        train_step(PreferenceObjective(model), batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "emdr"}, "form must be 'distillation' or 'marginal likelihood', got 'emdr'"),
        ({"unscored": "zero"}, "unscored must be 'error' or 'leave out', got 'zero'"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"signal_temperature": -1}, "signal_temperature must be positive, got -1"),
    ],
)
def test_wrong_options_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        PreferenceObjective(model, **options)


def test_another_kind_of_model_is_refused(model):
    with pytest.raises(TypeError, match="model must be of type BiEncoder"):
        PreferenceObjective(model.query_encoder)
