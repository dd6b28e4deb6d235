"""invariance_loss against the matrices: three forms, in batch and over lists, and diagnostics."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ragged import as_matrix, csr
from tilefold import reference
from tilefold.losses import InvarianceLoss, contrastive_loss, invariance_loss
from tilefold.testing import assert_as_close_as_torch, peak_memory


def views(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit vectors, those of later views not far from the first."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*shape, generator=generator)
    return F.normalize(noise[:1] + 0.7 * noise, dim=-1).to(dtype)


def vectors(*shape: int, seed: int = 9, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1).to(dtype)


def some(rng: np.random.Generator, n: int, m: int, least: int = 0) -> list[list[int]]:
    return [rng.choice(m, rng.integers(least, m), replace=False).tolist() for _ in range(n)]


def leaves(*tensors: Tensor, dtype: torch.dtype | None = None) -> list[Tensor]:
    return [x.detach().clone().to(dtype or x.dtype).requires_grad_() for x in tensors]


def assert_like_the_matrices(q: Tensor, d: Tensor, masks: dict[str, Tensor], **lists: Any) -> None:
    found = leaves(q, d)
    result = invariance_loss(*found, temperature=0.1, **lists)
    result.loss.backward()
    runs = []
    for dtype in (torch.float32, torch.float64):
        x = leaves(q, d, dtype=dtype)
        scores = x[0] @ x[1].transpose(-1, -2) / 0.1
        losses, *details = reference.consistency_losses(scores, **masks)
        losses.mean().backward()
        runs.append([losses.mean().detach(), x[0].grad, x[1].grad])
    for name, mine, theirs, truth in zip(
        ("loss", "queries", "documents"),
        (result.loss.detach(), found[0].grad, found[1].grad),
        *runs,
        strict=True,
    ):
        assert_as_close_as_torch(mine, theirs, truth, in_norm=name != "loss", name=name)
    divergences, means, variances = (x.float() for x in details)
    torch.testing.assert_close(result.views, divergences, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(result.variance, variances.sum(1), rtol=1e-4, atol=1e-6)
    kept = masks.get("invariant", torch.ones_like(means, dtype=torch.bool))
    torch.testing.assert_close(result.mass, (means * kept).sum(1), rtol=1e-4, atol=1e-6)
    assert not any(x.requires_grad for x in result[1:] if x is not None)


# ---- consistency ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1, 7, 9, 8), (2, 1, 131, 7), (2, 25, 129, 33), (3, 530, 70, 16)]
)
@pytest.mark.parametrize("shared", [True, False])
def test_consistency_is_that_of_the_matrices(isa, shape, shared):
    s, n, m, dim = shape
    d = vectors(m, dim) if shared else views(s, m, dim, seed=1)
    assert_like_the_matrices(views(s, n, dim), d, {})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_widened(isa, dtype):
    assert_like_the_matrices(views(3, 20, 24, dtype=dtype), vectors(60, 24, dtype=dtype), {})


def test_invariant_and_excluded_documents_are_kept_apart(isa):
    """Of query 0 no candidate is left, of query 1 no invariant one, of query 2 all are."""
    rng = np.random.default_rng(0)
    own, out = some(rng, 20, 60), some(rng, 20, 60)
    own[1], own[2], out[0] = [], list(range(60)), list(range(60))
    candidates = ~as_matrix(out, 60)
    masks = {"candidates": candidates, "invariant": as_matrix(own, 60) & candidates}
    assert_like_the_matrices(
        views(3, 20, 24), vectors(60, 24), masks, invariant=csr(own), exclude=csr(out)
    )


def test_listed_candidates_are_the_only_ones():
    rng = np.random.default_rng(1)
    own = some(rng, 20, 31, least=1)
    candidates = as_matrix(own, 31)
    offsets, indices = csr([sorted(part) for part in own])
    kept = torch.tensor(rng.random(len(indices)) < 0.5)
    invariant = torch.zeros_like(candidates)
    invariant[candidates] = kept
    q, d = views(3, 20, 24), vectors(31, 24)
    masks = {"candidates": candidates, "invariant": invariant}
    assert_like_the_matrices(q, d, masks, candidates=(offsets, indices), invariant=kept)
    found = invariance_loss(q, d, candidates=(offsets, indices), temperature=0.1)
    p = reference.consistency_losses(q @ d.T / 0.1, candidates=candidates)
    torch.testing.assert_close(found.means, p[2][candidates])
    torch.testing.assert_close(found.variances, p[3][candidates])


def test_lists_that_are_all_empty_have_no_loss():
    q, d = leaves(views(3, 4, 8), vectors(6, 8))
    none = torch.zeros(0, dtype=torch.int64)
    found = invariance_loss(q, d, candidates=(torch.zeros(5, dtype=torch.int64), none))
    found.loss.backward()
    assert found.loss == 0
    assert not q.grad.any()
    assert found.means.shape == (0,)


def test_a_late_row_that_is_not_finite_is_named():
    d = vectors(3000, 8)
    d[2500, 3] = torch.nan
    with pytest.raises(ValueError, match="documents of view 0 have a NaN or an infinity in row 25"):
        invariance_loss(views(2, 4, 8), d, candidates=torch.zeros(4, 1, dtype=torch.int64))


def test_lists_of_one_length_may_be_a_matrix():
    q, d = views(2, 4, 8), vectors(12, 8)
    groups = torch.arange(12).reshape(4, 3)
    kept = torch.tensor([[True, True, False]]).expand(4, 3)
    one = invariance_loss(q, d, candidates=groups, invariant=kept)
    lists = (torch.arange(5) * 3, torch.arange(12))
    other = invariance_loss(q, d, candidates=lists, invariant=kept.flatten())
    assert one.loss == other.loss


@pytest.mark.parametrize("listed", [False, True])
def test_gradients_are_exact_in_float64(isa, listed):
    """Of the divergence from the target as it is: that is held constant."""
    q, d = leaves(views(3, 4, 5), vectors(9, 5), dtype=torch.float64)
    log_scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    own = csr([[0, 1], [5], [2, 7], [3, 4]])
    lists = {"invariant": own} if listed else {}
    before = (q.detach() @ d.detach().T * log_scale.detach().exp()).softmax(2).mean(0)
    if listed:
        before = before * as_matrix([[0, 1], [5], [2, 7], [3, 4]], 9)
        before = before / before.sum(1, keepdim=True)
    expected = leaves(q, d, log_scale)
    log_p = (expected[0] @ expected[1].T * expected[2].exp()).log_softmax(2)
    loss = (torch.special.xlogy(before, before) - before * log_p).sum(2).mean()
    loss.backward()
    result = invariance_loss(q, d, log_scale=log_scale, **lists)
    result.loss.backward()
    torch.testing.assert_close(result.loss, loss)
    for mine, other in zip((q, d, log_scale), expected, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_views_that_agree_have_no_loss(isa):
    q, d = leaves(views(1, 20, 24).expand(4, 20, 24), vectors(150, 24))
    found = invariance_loss(q, d, temperature=0.05)
    found.loss.backward()
    assert abs(found.loss) < 1e-6
    assert found.variance.max() < 1e-10
    assert q.grad.abs().max() < 1e-6


def test_no_matrix_is_held():
    q, d = leaves(views(3, 5000, 64), vectors(5000, 64))
    with peak_memory() as peak:
        invariance_loss(q, d, temperature=0.05).loss.backward()
    assert peak.bytes < 72 * 2**20  # three matrices would take 300 MB


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch by torch
def test_it_compiles_whole():
    def loss(q: Tensor, d: Tensor) -> Tensor:
        return invariance_loss(F.normalize(q, dim=2), d, temperature=0.1).loss

    results = []
    for call in (loss, torch.compile(loss, fullgraph=True)):
        arguments = leaves(views(2, 8, 12), vectors(16, 12))
        value = call(*arguments)
        value.backward()
        results.append([value.detach(), *(x.grad for x in arguments)])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain)


# ---- risks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["risk", "variance"])
def test_risks_are_contrastive_losses(form):
    q, d = leaves(views(3, 6, 12), views(3, 9, 12, seed=1))
    ids = torch.arange(9)
    found = invariance_loss(
        q, d, torch.arange(6), form=form, temperature=0.1, document_ids=ids, mode="sum"
    )
    found.loss.backward()
    x = leaves(q, d)
    risks = torch.stack(
        [F.cross_entropy(a @ b.T / 0.1, torch.arange(6)) for a, b in zip(*x, strict=True)]
    )
    variance = ((risks - risks.mean()) ** 2).mean()
    loss = variance if form == "variance" else risks.mean() + variance
    loss.backward()
    torch.testing.assert_close(found.loss, loss)
    torch.testing.assert_close(found.views, risks)
    torch.testing.assert_close(found.variance, variance)
    torch.testing.assert_close(q.grad, x[0].grad)
    torch.testing.assert_close(d.grad, x[1].grad, rtol=1e-4, atol=1e-6)


def test_gates_are_those_of_each_view():
    q, d = views(2, 6, 12), vectors(9, 12)
    gates = views(2, 6, 4, seed=3), vectors(9, 4, seed=4)
    found = invariance_loss(q, d, torch.arange(6), form="risk", gates=gates)
    each = [
        contrastive_loss(x, d, torch.arange(6), gates=(g, gates[1]))
        for x, g in zip(q, gates[0], strict=True)
    ]
    torch.testing.assert_close(found.views, torch.stack(each))
    assert found.loss == torch.stack(each).mean() + torch.stack(each).var(correction=0)


def test_the_module_is_the_function():
    q, d = views(2, 6, 12), vectors(9, 12)
    loss = InvarianceLoss("variance", temperature=0.1)
    options = {"form": "variance", "temperature": 0.1, "mode": "sum"}
    expected = invariance_loss(q, d, torch.arange(6), **options).loss
    assert loss(q, d, torch.arange(6), mode="sum") == expected
    assert "form='variance'" in repr(loss)
    with pytest.raises(ValueError, match="form must be one of"):
        InvarianceLoss("I1")


# ---- bad input -----------------------------------------------------------------------------------

Q, D, POSITIVES = views(2, 3, 4), vectors(5, 4), torch.arange(3)
GROUPS = torch.tensor([[0, 1], [2, 3], [4, 0]])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Q[0], D), {}, ValueError, r"queries must have shape \[views, rows, dim\], got \(3, 4\)"),
        ((Q[:0], D), {}, ValueError, "queries must have shape"),
        ((Q, D[0]), {}, ValueError, r"documents must have shape \[rows, dim\] or"),
        ((Q, D.expand(3, 5, 4)), {}, ValueError, "documents are of 3 views, but queries of 2"),
        ((Q, D[:, :3]), {}, ValueError, "queries of view 0 have dim 4 but documents of"),
        ((Q.numpy(), D), {}, TypeError, "queries must be a torch tensor, got ndarray"),
        ((Q, D), {"form": "I1"}, ValueError, "form must be one of"),
        ((Q, D), {"temperature": 0.0}, ValueError, "temperature must be positive"),
        ((Q, D, POSITIVES), {}, ValueError, "form 'consistency' has no use for positives"),
        ((Q, D), {"gates": (Q, D)}, ValueError, "form 'consistency' has no use for gates"),
        ((Q, D), {"mode": "sum"}, ValueError, "form 'consistency' has no use for mode"),
        ((Q, D), {"form": "risk"}, ValueError, "form 'risk' needs positives"),
        (
            (Q, D, POSITIVES),
            {"form": "risk", "candidates": GROUPS},
            ValueError,
            "form 'risk' has no use for candidates",
        ),
        (
            (Q, D, POSITIVES),
            {"form": "variance", "gates": (Q, D)},
            ValueError,
            "form 'variance' has no use for gates",
        ),
        ((Q, D, POSITIVES), {"form": "risk", "gates": Q}, TypeError, "gates must be a pair"),
        (
            (Q, D, POSITIVES),
            {"form": "risk", "gates": (Q[:1], D)},
            ValueError,
            "gates are of 1 views, but queries of 2",
        ),
        ((Q, D), {"invariant": csr([[5], [], []])}, ValueError, "invariant .* got 5 for query 0"),
        ((Q, D), {"candidates": GROUPS + 1}, ValueError, "candidates .* got 5 for query 2"),
        (
            (Q, D),
            {"candidates": GROUPS, "invariant": GROUPS},
            TypeError,
            "with candidates, invariant must be a bool tensor",
        ),
        (
            (Q, D),
            {"candidates": GROUPS, "invariant": torch.ones(5, dtype=torch.bool)},
            ValueError,
            r"invariant must have shape \(6,\) or \(3, 2\), one per candidate, got \(5,\)",
        ),
        (
            (Q, D),
            {"candidates": GROUPS, "invariant": torch.ones(2, 3, dtype=torch.bool)},
            ValueError,
            r"one per candidate, got \(2, 3\)",
        ),
        (
            (Q, D),
            {"form": "risk", "reduction": "none"},
            TypeError,
            r"got an unexpected keyword argument 'reduction'",
        ),
        (
            (Q, D),
            {"candidates": GROUPS, "exclude": csr([[0]] * 3)},
            ValueError,
            "pass candidates or exclude, not both",
        ),
        ((Q / 0, D), {}, ValueError, "queries of view 0 have a NaN or an infinity in row 0"),
        ((Q, D.expand(1, 5, 4)), {}, ValueError, "documents are of 1 views, but queries of 2"),
    ],
)
def test_wrong_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match=f"^invariance_loss.*{message}"):
        invariance_loss(*arguments, **options)
