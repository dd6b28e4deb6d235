"""marginal_likelihood_loss against the matrices, finite differences, and the losses it contains."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ragged import as_matrix, csr
from tilefold import reference
from tilefold.losses import contrastive_loss, marginal_likelihood_loss
from tilefold.testing import assert_as_close_as_torch

LISTS = [[3, 0, 5], [], [1], [8, 2, 4, 6, 7, 0, 1, 3, 5]]


def embeddings(n: int, dim: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)).to(dtype)


def likelihoods(spread: float) -> Tensor:
    listed = sum(map(len, LISTS))
    return -spread * torch.rand(listed, generator=torch.Generator().manual_seed(2)) - 1


def in_matrix(values: Tensor) -> Tensor:
    found, place = torch.full((len(LISTS), 9), -torch.inf, dtype=torch.float64), 0
    for row, own in enumerate(LISTS):
        for document in own:
            found[row, document] = values[place]
            place += 1
    return found


def by_matrix(q: Tensor, d: Tensor, values: Tensor, temperature: Any) -> Tensor:
    mask = as_matrix(LISTS, 9)
    scores = q @ d.T / temperature
    losses: Tensor = reference.marginal_likelihood_losses(
        scores, in_matrix(values).to(scores.dtype), candidates=mask
    )
    return losses


@pytest.mark.parametrize("spread", [3.0, 900.0])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_and_gradients_are_those_of_the_matrices(reduction, spread):
    """Also where likelihoods underflow, and for a query without a candidate, whose loss is 0."""
    values = likelihoods(spread)
    values[1] = -torch.inf
    runs = []
    for kind in ("ours", torch.float32, torch.float64):
        dtype = torch.float32 if kind == "ours" else kind
        q, d = (embeddings(n, 17, n, dtype).requires_grad_() for n in (4, 9))
        temperature = torch.tensor(0.7, dtype=dtype, requires_grad=True)
        if kind == "ours":
            loss = marginal_likelihood_loss(
                q, d, values, csr(LISTS), temperature=temperature, reduction=reduction
            )
        else:
            losses = by_matrix(q, d, values, temperature)
            loss = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
        weights = torch.linspace(1, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
        (loss * weights).sum().backward()
        runs.append((loss.detach(), q.grad, d.grad, temperature.grad))
    for name, ours, theirs, truth in zip(("loss", "q", "d", "t"), *runs, strict=True):
        assert_as_close_as_torch(ours, theirs, truth, in_norm=name != "loss", name=name)
    if reduction == "none":
        assert runs[0][0][1] == 0


def test_gradients_are_those_of_finite_differences():
    q, d = (embeddings(n, 5, n, torch.float64).requires_grad_() for n in (4, 9))
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def loss(*inputs: Tensor) -> Tensor:
        q, d, scale = inputs
        return marginal_likelihood_loss(q, d, likelihoods(3.0), csr(LISTS), log_scale=scale)

    assert torch.autograd.gradcheck(loss, (q, d, scale))


def test_the_gradient_of_scores_is_prior_minus_posterior():
    q, d = torch.ones(1, 1), torch.tensor([[0.3], [-0.2], [0.9]], requires_grad=True)
    values = torch.tensor([[-1.0, -0.1, -3.0]])
    marginal_likelihood_loss(q, d, values, torch.tensor([[0, 1, 2]])).backward()
    scores = d.detach()[:, 0]
    prior, posterior = scores.softmax(0), (scores + values[0]).softmax(0)
    torch.testing.assert_close(d.grad[:, 0], prior - posterior)


def test_a_constant_of_a_query_changes_no_gradient():
    grads = []
    for shift in (0.0, -50.0):
        q, d = embeddings(4, 5, 4).requires_grad_(), embeddings(9, 5, 9)
        marginal_likelihood_loss(q, d, likelihoods(3.0) + shift, csr(LISTS)).backward()
        grads.append(q.grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


def test_likelihoods_of_zero_and_one_give_the_summed_likelihood_of_several_positives():
    """Mode "sum" of the contrastive loss: the likelihood of the set of positives."""
    q, d = embeddings(2, 6, 0), embeddings(5, 6, 1)
    positives = [[0, 3], [2]]
    values = torch.full((2, 5), -torch.inf)
    for row, own in enumerate(positives):
        values[row, own] = 0
    found = marginal_likelihood_loss(
        q, d, values, torch.arange(5).expand(2, 5), temperature=0.5, reduction="none"
    )
    expected = contrastive_loss(q, d, csr(positives), temperature=0.5, mode="sum", reduction="none")
    torch.testing.assert_close(found, expected)


def test_certain_likelihoods_cost_nothing():
    """If the answer follows from every document, there is nothing to learn."""
    q, d = embeddings(2, 6, 0).requires_grad_(), embeddings(5, 6, 1)
    loss = marginal_likelihood_loss(q, d, torch.zeros(2, 5), torch.arange(5).expand(2, 5))
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert q.grad.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"log_likelihoods": torch.zeros(3)}, ValueError, r"one per candidate, 4 of 2 queries"),
        ({"log_likelihoods": torch.zeros(4, 1)}, ValueError, r"got shape \(4, 1\)"),
        ({"log_likelihoods": torch.zeros(2, 2, dtype=torch.int64)}, TypeError, "floating-point"),
        ({"log_likelihoods": np.zeros((2, 2))}, TypeError, "floating-point tensor"),
        (
            {"log_likelihoods": torch.tensor([0.0, 0.0, math.nan, 0.0])},
            ValueError,
            "got nan for query 1",
        ),
        (
            {"log_likelihoods": torch.tensor([0.0, math.inf, 0.0, 0.0])},
            ValueError,
            "got inf for query 0",
        ),
        (
            {"log_likelihoods": torch.tensor([0.0, 0.0, -math.inf, -math.inf])},
            ValueError,
            "every log-likelihood of query 1 is -inf",
        ),
        ({"candidates": torch.tensor([[0, 5], [1, 2]])}, ValueError, "0 to 3, got 5"),
        ({"candidates": torch.tensor([[0, 0], [1, 2]])}, ValueError, "document 0 twice"),
        (
            {"candidates": csr([[0, 1, 2, 3]])},
            ValueError,
            "must have 3 elements, one more than queries, got 2",
        ),
        ({"temperature": 0}, ValueError, "temperature must be positive"),
        ({"reduction": "max"}, ValueError, "reduction must be"),
        ({"queries": torch.full((2, 6), math.nan)}, ValueError, "queries have a NaN"),
        ({"documents": torch.zeros(4, 5)}, ValueError, "marginal_likelihood_loss: "),
    ],
)
def test_bad_input_is_refused_by_name(changes, error, message):
    arguments = {
        "queries": embeddings(2, 6, 0),
        "documents": embeddings(4, 6, 1),
        "log_likelihoods": torch.zeros(2, 2),
        "candidates": torch.tensor([[0, 1], [1, 2]]),
    }
    with pytest.raises(error, match=message):
        marginal_likelihood_loss(**{**arguments, **changes})
