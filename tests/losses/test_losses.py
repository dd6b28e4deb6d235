"""contrastive_loss against the matrix: values, gradients, masks, numerics, torch, bad input."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

import tilefold
from ragged import as_matrix, csr
from tilefold import reference
from tilefold.losses import ContrastiveLoss, contrastive_loss, count_negatives
from tilefold.testing import assert_as_close_as_torch, peak_memory

DIMS = [1, 3, 16, 23, 24, 25, 47, 48, 49, 257, 384]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
PRECISIONS = [torch.float32, torch.float64]


def vectors(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1).to(dtype)


def leaves(*tensors: Tensor, dtype: torch.dtype | None = None) -> list[Tensor]:
    return [x.detach().clone().to(dtype or x.dtype).requires_grad_() for x in tensors]


def by_matrix(
    q: Tensor,
    d: Tensor,
    lists: list[list[int]],
    scale: Any,
    *,
    mode: str = "each",
    left_out: Tensor | None = None,
    soft_targets: list[list[float]] | None = None,
    gates: tuple[Tensor, Tensor] | None = None,
    symmetric: bool = False,
    reduction: str = "mean",
) -> Tensor:
    gate_queries, gate_documents = (None, None) if gates is None else (x.to(q) for x in gates)
    query_losses, document_losses = reference.contrastive_losses(
        q,
        d,
        lists,
        scale=scale,
        mode=mode,
        left_out=left_out,
        soft_targets=soft_targets,
        gate_queries=gate_queries,
        gate_documents=gate_documents,
    )
    own = torch.tensor(sorted({i for part in lists for i in part}))
    if reduction == "none":
        return query_losses
    total = (query_losses.sum(), document_losses.sum())
    if reduction == "mean":
        total = (query_losses.mean(), document_losses[own].mean())
    return 0.5 * (total[0] + total[1]) if symmetric else total[0]


def assert_like_the_matrix(
    q: Tensor, d: Tensor, lists: list[list[int]], temperature: float = 0.5, **options: Any
) -> None:
    """Loss and gradients within the one tolerance of testing.py.

    Scores must not be much larger than the loss: they are rounded, and the tolerance knows the size
    of the loss only.
    """
    ours = {
        name: options[name] for name in ("exclude", "query_ids", "document_ids") if name in options
    }
    shared = ("mode", "symmetric", "reduction", "gates")
    same = {name: options[name] for name in shared if name in options}
    if soft := options.get("soft_targets"):
        same["soft_targets"] = soft
        ours["soft_targets"] = torch.tensor([t for part in soft for t in part]).double()
    found = leaves(q, d)
    loss = contrastive_loss(*found, csr(lists), temperature=temperature, **(same | ours))
    weights = torch.linspace(1, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    (loss * weights).sum().backward()
    runs = []
    for dtype in (torch.float32, torch.float64):
        x = leaves(q, d, dtype=dtype)
        other = by_matrix(*x, lists, 1 / temperature, left_out=options.get("left_out"), **same)
        (other * weights.to(dtype)).sum().backward()
        runs.append((other.detach(), x[0].grad, x[1].grad))
    theirs, truth = runs
    assert loss.dtype == torch.float32
    assert_as_close_as_torch(loss.detach(), theirs[0], truth[0], name="loss")
    for name, mine, torchs, exact in zip(
        ("queries", "documents"), found, theirs[1:], truth[1:], strict=True
    ):
        assert mine.grad is not None
        assert mine.grad.dtype == mine.dtype
        assert_as_close_as_torch(mine.grad, torchs, exact, in_norm=True, name=f"grad {name}")


def ragged(rng: np.random.Generator, n: int, m: int, most: int) -> list[list[int]]:
    """One to `most` documents for every query."""
    return [
        sorted(rng.choice(m, rng.integers(1, most + 1), replace=False).tolist()) for _ in range(n)
    ]


# ---- values and gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_loss_is_that_of_the_matrix(isa, dim, dtype):
    q, d = vectors(9, dim, dtype=dtype), vectors(14, dim, seed=1, dtype=dtype)
    assert_like_the_matrix(q, d, [[i] for i in range(9)])


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 130), (23, 127), (24, 128), (25, 129), (50, 257)])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_every_shape_is_folded_whole(isa, n, m, dtype, symmetric):
    lists = [[i % m] for i in range(n)]
    q, d = vectors(n, 33, dtype=dtype), vectors(m, 33, seed=1, dtype=dtype)
    assert_like_the_matrix(q, d, lists, symmetric=symmetric)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("mode", "dtype"), [("each", DTYPES[0]), ("sum", DTYPES[1])], ids=str)
def test_more_queries_than_a_block_holds(isa, mode, dtype, symmetric):
    rng = np.random.default_rng(0)
    q, d = vectors(530, 17, dtype=dtype), vectors(300, 17, seed=1, dtype=dtype)
    assert_like_the_matrix(q, d, ragged(rng, 530, 300, 3), mode=mode, symmetric=symmetric)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_half_precision_is_that_of_inputs_alone(isa, dtype):
    """Scores and their softmax are as exact as those of the same numbers in float32."""
    q, d = vectors(70, 257, dtype=dtype), vectors(140, 257, seed=1, dtype=dtype)
    lists = [[i] for i in range(70)]
    mine = contrastive_loss(q, d, torch.arange(70), temperature=0.02, reduction="none")
    float32, truth = (by_matrix(q.to(t), d.to(t), lists, 50, reduction="none") for t in PRECISIONS)
    assert mine.dtype == torch.float32
    assert_as_close_as_torch(mine, float32, truth)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("mode", ["each", "sum"])
def test_several_positives_in_every_reduction(isa, mode, reduction):
    rng = np.random.default_rng(1)
    q, d = vectors(20, 40), vectors(31, 40, seed=1)
    assert_like_the_matrix(q, d, ragged(rng, 20, 31, 4), mode=mode, reduction=reduction)


@given(st.data())
def test_any_lists_of_any_shape(isa, data):
    """In few dimensions gradients may cancel to nothing, which leaves nothing to compare with."""
    n, m = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 40))
    dim, seed = data.draw(st.integers(8, 40)), data.draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    lists = ragged(rng, n, m, min(m, 4))
    out = [rng.choice(m, rng.integers(0, m), replace=False).tolist() for _ in range(n)]
    assert_like_the_matrix(
        vectors(n, dim, seed=seed % 2**31),
        vectors(m, dim, seed=1),
        lists,
        mode=data.draw(st.sampled_from(["each", "sum"])),
        symmetric=data.draw(st.booleans()),
        exclude=csr(out),
        left_out=as_matrix(out, m),
    )


def shared_out(lists: list[list[int]], seed: int = 0) -> list[list[float]]:
    """Shares of one for each list, some of them 0."""
    rng = np.random.default_rng(seed)
    drawn = [rng.random(len(part)) * (rng.random(len(part)) < 0.7) for part in lists]
    return [((x + 1e-9) / (x + 1e-9).sum()).tolist() for x in drawn]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_soft_targets_are_a_divergence(isa, reduction):
    rng = np.random.default_rng(2)
    lists, q, d = ragged(rng, 20, 31, 6), vectors(20, 40), vectors(31, 40, seed=1)
    out = [rng.choice(31, rng.integers(0, 9), replace=False).tolist() for _ in range(20)]
    masks = {"exclude": csr(out), "left_out": as_matrix(out, 31)}
    soft = shared_out(lists)
    assert_like_the_matrix(q, d, lists, soft_targets=soft, reduction=reduction, **masks)


def test_soft_targets_keep_to_their_documents():
    q, d = vectors(2, 8), vectors(5, 8, seed=1)
    one = contrastive_loss(q, d, csr([[0, 3], [1]]), soft_targets=torch.tensor([0.2, 0.8, 1.0]))
    other = contrastive_loss(q, d, csr([[3, 0], [1]]), soft_targets=torch.tensor([0.8, 0.2, 1.0]))
    assert one == other
    hard = contrastive_loss(q, d, csr([[0], [1]]), soft_targets=torch.ones(2))
    torch.testing.assert_close(hard, contrastive_loss(q, d, torch.arange(2)))


def test_gradients_of_soft_targets_are_exact_in_float64(isa):
    q, d = leaves(vectors(4, 5), vectors(9, 5, seed=1), dtype=torch.float64)
    log_scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    lists = [[0], [1, 5, 8], [2], [3, 4]]
    soft = torch.tensor([t for part in shared_out(lists) for t in part])
    assert torch.autograd.gradcheck(
        lambda q, d, s: contrastive_loss(q, d, csr(lists), log_scale=s, soft_targets=soft),
        (q, d, log_scale),
    )


@pytest.mark.parametrize("symmetric", [False, True])
def test_gates_weaken_scores(isa, symmetric):
    rows = vectors(40, 12), vectors(150, 12, seed=1)
    gates = 3 * vectors(40, 5, seed=2), 3 * vectors(150, 5, seed=3)
    lists = [[i, 149 - i] for i in range(40)]
    assert_like_the_matrix(*rows, lists, 0.2, gates=gates, symmetric=symmetric)


def test_gates_and_soft_targets_go_together(isa):
    gates = 3 * vectors(20, 5, seed=2), 3 * vectors(31, 5, seed=3)
    lists = ragged(np.random.default_rng(2), 20, 31, 6)
    soft = shared_out(lists)
    assert_like_the_matrix(
        vectors(20, 40), vectors(31, 40, seed=1), lists, soft_targets=soft, gates=gates
    )


def test_the_reference_of_gates_and_soft_targets_is_their_formula():
    q, d, target = vectors(3, 4), vectors(5, 4, seed=1), torch.rand(3, 5).softmax(1)
    gates = {"gate_queries": vectors(3, 2, seed=2), "gate_documents": vectors(5, 2, seed=3)}
    opened = torch.sigmoid(gates["gate_queries"] @ gates["gate_documents"].T)
    scores = 2 * (q @ d.T) * opened
    listed = [list(range(5))] * 3
    found, _ = reference.contrastive_losses(
        q, d, listed, scale=2.0, soft_targets=target.tolist(), **gates
    )
    expected = F.kl_div(scores.log_softmax(1), target, reduction="none").sum(1)
    torch.testing.assert_close(found, expected)
    hard, _ = reference.contrastive_losses(q, d, [[0], [1], [2]], scale=2.0, **gates)
    torch.testing.assert_close(hard, F.cross_entropy(scores, torch.arange(3), reduction="none"))


@pytest.mark.parametrize("score", [-1e20, -1e4, -300, -100, -89, -87, 0, 87, 89, 1e20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gates_may_be_open_or_closed(isa, score, dtype):
    q, d = leaves(vectors(40, 12, dtype=dtype), vectors(150, 12, seed=1, dtype=dtype))
    gates = torch.ones(40, 1, dtype=dtype), torch.full((150, 1), score, dtype=dtype)
    loss = contrastive_loss(q, d, torch.arange(40), gates=gates)
    loss.backward()
    x = leaves(q, d)
    expected = by_matrix(*x, [[i] for i in range(40)], 1.0, gates=gates)
    expected.backward()
    torch.testing.assert_close(loss.detach(), expected.detach())
    torch.testing.assert_close(q.grad, x[0].grad, rtol=1e-4, atol=1e-7)


def test_gates_leave_gradients_exact_in_float64():
    q, d = leaves(vectors(4, 5), vectors(9, 5, seed=1), dtype=torch.float64)
    gates = vectors(4, 3, dtype=torch.float64), vectors(9, 3, seed=1, dtype=torch.float64)
    log_scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda q, d, s: contrastive_loss(q, d, torch.arange(4), log_scale=s, gates=gates),
        (q, d, log_scale),
    )


def test_one_positive_each_is_cross_entropy():
    q, d = leaves(vectors(40, 64), vectors(90, 64, seed=1))
    target = torch.randperm(90, generator=torch.Generator().manual_seed(2))[:40]
    found = contrastive_loss(q, d, target, temperature=0.07)
    torch.testing.assert_close(found, F.cross_entropy(q @ d.T / 0.07, target))
    both = contrastive_loss(q, d[:40], torch.arange(40), temperature=0.07, symmetric=True)
    scores, diagonal = q @ d[:40].T / 0.07, torch.arange(40)
    halves = F.cross_entropy(scores, diagonal) + F.cross_entropy(scores.T, diagonal)
    torch.testing.assert_close(both, halves / 2)


# ---- what is no negative -------------------------------------------------------------------------


def test_documents_with_the_id_of_a_positive_are_no_negatives(isa):
    ids = torch.tensor([7, 8, 7, 9, 8, 7])
    lists = [[0], [1], [3], [2, 4]]
    out = as_matrix([[2, 5], [4], [], [0, 5, 1]], 6)
    assert_like_the_matrix(
        vectors(4, 8), vectors(6, 8, seed=1), lists, document_ids=ids, left_out=out
    )


def test_positives_of_the_same_query_are_no_negatives(isa):
    lists = [[0], [1], [2], [3, 0]]
    out = as_matrix([[2], [3, 0], [0], [1]], 5)
    query_ids = torch.tensor([5, 6, 5, 6])
    q, d = vectors(4, 8), vectors(5, 8, seed=1)
    assert_like_the_matrix(q, d, lists, query_ids=query_ids, left_out=out)
    document_ids = torch.tensor([1, 2, 3, 4, 3])  # the last is a copy of a sibling's positive
    out[0, 4] = out[2, 4] = True
    assert_like_the_matrix(
        q, d, lists, query_ids=query_ids, document_ids=document_ids, left_out=out
    )


def test_a_whole_batch_of_one_document_has_no_loss():
    """What a sampler without duplicates is used for, without the sampler."""
    q, d = leaves(vectors(6, 8), vectors(6, 8, seed=1))
    loss = contrastive_loss(q, d, torch.arange(6), document_ids=torch.zeros(6).long())
    loss.backward()
    assert loss == 0
    assert not q.grad.any()
    assert not d.grad.any()


@pytest.mark.parametrize("name", ["query_ids", "document_ids"])
def test_labels_may_be_ids(isa, name):
    """A few ids for many rows, as in supervised contrastive learning: lists would be a matrix."""
    n = 4000
    q, d = vectors(n, 16), vectors(n, 16, seed=1)
    labels = torch.arange(n) % 3
    with peak_memory() as peak:
        found = contrastive_loss(q, d, torch.arange(n), reduction="none", **{name: labels})
    assert peak.bytes < 64 * 2**20  # as lists 43 MB several times over
    scores = (q @ d.T).masked_fill(labels[:, None] == labels, -torch.inf)
    others = scores.logsumexp(1)
    own = (q * d).sum(1)
    torch.testing.assert_close(found, torch.logaddexp(others, own) - own)


def test_excluding_a_positive_leaves_it_a_positive():
    q, d = vectors(3, 8), vectors(5, 8, seed=1)
    everything = csr([list(range(5))] * 3)
    assert contrastive_loss(q, d, torch.arange(3), exclude=everything) == 0
    alone = contrastive_loss(q, d, torch.arange(3), exclude=csr([[0], [1], [2]]))
    assert alone == contrastive_loss(q, d, torch.arange(3))


def test_the_order_of_lists_does_not_matter():
    q, d = vectors(2, 8), vectors(5, 8, seed=1)
    one = contrastive_loss(q, d, csr([[0, 3], [1]]), exclude=csr([[4, 2], [3]]))
    other = contrastive_loss(q, d, csr([[3, 0], [1]]), exclude=csr([[2, 4], [3]]))
    assert one == other


def test_negatives_are_counted():
    """They are what is neither positive nor left out, by the same masks as the loss."""
    rng = np.random.default_rng(3)
    lists = ragged(rng, 8, 12, 3)
    out = [rng.choice(12, rng.integers(0, 12), replace=False).tolist() for _ in range(8)]
    found = count_negatives(12, csr(lists), exclude=csr(out))
    expected = ~as_matrix(lists, 12) & ~as_matrix(out, 12)
    assert found.tolist() == expected.sum(1).tolist()
    ids = torch.tensor([7, 8, 7, 9])
    masks = {"document_ids": ids, "query_ids": torch.tensor([1, 2, 1])}
    positives = torch.tensor([0, 1, 3])
    assert count_negatives(4, positives).tolist() == [3, 3, 3]
    assert count_negatives(4, positives, **masks).tolist() == [1, 3, 1]
    with pytest.raises(ValueError, match=r"^count_negatives: positives .* got 4 for query 0"):
        count_negatives(4, positives + 4)


# ---- scales --------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients_are_exact_in_float64(isa, symmetric):
    q, d = leaves(vectors(6, 5), vectors(9, 5, seed=1), dtype=torch.float64)
    log_scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    lists, spared = csr([[0], [1, 5], [2], [3, 4], [7, 8], [5]]), csr([[1], [], [8], [], [0], []])
    for mode in ("each", "sum"):
        for reduction in ("mean", "sum") if symmetric else ("mean", "sum", "none"):

            def loss(q: Tensor, d: Tensor, log_scale: Tensor) -> Tensor:
                return contrastive_loss(
                    q,
                    d,
                    lists,
                    log_scale=log_scale,
                    mode=mode,  # noqa: B023
                    exclude=spared,
                    symmetric=symmetric,
                    reduction=reduction,  # noqa: B023
                )

            assert torch.autograd.gradcheck(loss, (q, d, log_scale))


def test_a_temperature_may_be_learned():
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    q, d = vectors(4, 6, dtype=torch.float64), vectors(4, 6, seed=1, dtype=torch.float64)
    loss = lambda t: contrastive_loss(q, d, torch.arange(4), temperature=t)  # noqa: E731
    assert torch.autograd.gradcheck(loss, (temperature,))
    loss(temperature.float()).backward()
    with pytest.raises(ValueError, match="multiplied by inf"):
        loss(torch.tensor(0.0))


@pytest.mark.parametrize("size", [1.0, 1e2])
@pytest.mark.parametrize("symmetric", [False, True])
def test_extreme_scores_stay_finite(isa, size, symmetric):
    """Temperature 0.005 and vectors of length 100: scores up to two million."""
    q, d = leaves(vectors(30, 16) * size, vectors(50, 16, seed=1) * size)
    log_scale = torch.tensor(200.0).log().requires_grad_()
    everything_but_own = [[j for j in range(50) if j != i] for i in range(30)]
    spared = csr([everything_but_own[0]] + [[0, 1]] * 29)
    loss = contrastive_loss(
        q, d, torch.arange(30), log_scale=log_scale, exclude=spared, symmetric=symmetric
    )
    loss.backward()
    for value in (loss, q.grad, d.grad, log_scale.grad):
        assert torch.isfinite(value).all()
    if not symmetric:
        assert not q.grad[0].any()  # nothing is left to compare its positive with


def test_equal_scores_share_the_gradient_evenly(isa):
    q = torch.zeros(5, 4).requires_grad_()
    d = vectors(8, 4, seed=1)
    loss = contrastive_loss(q, d, torch.arange(5), reduction="none")
    np.testing.assert_allclose(loss.detach(), np.log(8), rtol=1e-6)
    loss.sum().backward()
    torch.testing.assert_close(q.grad, d.mean(0) - d[:5])


# ---- the same bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [False, True])
def test_threads_change_no_bit(isa, symmetric):
    bits, before = set(), tilefold.get_num_threads()
    for threads in (1, 2, 3):
        tilefold.set_num_threads(threads)
        try:
            q, d = leaves(vectors(200, 100), vectors(600, 100, seed=1))
            loss = contrastive_loss(q, d, torch.arange(200), temperature=0.05, symmetric=symmetric)
            loss.backward()
        finally:
            tilefold.set_num_threads(before)
        bits.add(b"".join(x.detach().numpy().tobytes() for x in (loss, q.grad, d.grad)))
    assert len(bits) == 1


# ---- torch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_only_gradients_that_are_asked_for_are_formed(wanted):
    q, d = vectors(7, 12), vectors(9, 12, seed=1)
    whole = leaves(q, d)
    contrastive_loss(*whole, torch.arange(7), temperature=0.1).backward()
    part = [x.clone().requires_grad_(flag) for x, flag in zip((q, d), wanted, strict=True)]
    loss = contrastive_loss(*part, torch.arange(7), temperature=0.1)
    assert loss.requires_grad == any(wanted)
    if any(wanted):
        loss.backward()
    for mine, other, flag in zip(part, whole, wanted, strict=True):
        assert (mine.grad is not None) == flag
        assert not flag or torch.equal(mine.grad, other.grad)
    with torch.no_grad():
        assert not contrastive_loss(*whole, torch.arange(7)).requires_grad


def test_there_is_no_second_derivative():
    q, d = leaves(vectors(7, 12), vectors(9, 12, seed=1))
    loss = contrastive_loss(q, d, torch.arange(7))
    with pytest.raises(RuntimeError, match="contrastive_loss: there is no second derivative"):
        torch.autograd.grad(loss, q, create_graph=True)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_graph_may_be_gone_through_twice(symmetric):
    q, d = leaves(vectors(7, 12), vectors(9, 12, seed=1))
    loss = contrastive_loss(q, d, torch.arange(7), temperature=0.1, symmetric=symmetric)
    first = torch.autograd.grad(3 * loss, (q, d), retain_graph=True)
    again = torch.autograd.grad(3 * loss, (q, d), retain_graph=True)
    half = torch.autograd.grad(loss / 2, (q, d))
    for one, two, other in zip(first, again, half, strict=True):
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(one, 6 * other)


def test_no_more_is_held_than_the_gradients():
    """Nor a copy of them: at this size they are most of what there is."""
    n, dim = 6000, 1024
    q, d = leaves(vectors(n, dim), vectors(n, dim, seed=1))
    with peak_memory() as peak:
        contrastive_loss(q, d, torch.arange(n), temperature=0.05).backward()
    gradients, block = 2 * 4 * n * dim, 64 * 2**20
    assert peak.bytes < gradients + block


def test_rows_may_lie_anywhere():
    wide = vectors(30, 60)
    q, d = wide[:20:2, 5:30], wide[1:20:2].T[:25].T
    straight = contrastive_loss(q.contiguous(), d.contiguous(), torch.arange(10))
    assert contrastive_loss(q, d, torch.arange(10)) == straight
    turned = torch.as_strided(wide, (10, 25), (1, 60))
    assert contrastive_loss(turned, d, torch.arange(10)) == contrastive_loss(
        turned.contiguous(), d, torch.arange(10)
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch by torch
@pytest.mark.parametrize("symmetric", [False, True])
def test_it_compiles_whole(symmetric):
    def loss(q: Tensor, d: Tensor, log_scale: Tensor) -> Tensor:
        return contrastive_loss(
            F.normalize(q, dim=1), d, torch.arange(8), log_scale=log_scale, symmetric=symmetric
        )

    results = []
    for call in (loss, torch.compile(loss, fullgraph=True)):
        arguments = leaves(vectors(8, 12), vectors(16, 12, seed=1), torch.tensor(3.0))
        value = call(*arguments)
        value.backward()
        results.append([value.detach(), *(x.grad for x in arguments)])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain)


def test_the_op_is_what_torch_expects_of_one():
    n, m = 5, 7
    q, d = vectors(n, 6), vectors(m, 6, seed=1)
    weights = torch.full((n,), 1 / n, dtype=torch.float64)
    lists = (torch.arange(n + 1), torch.arange(n))
    shares = torch.ones(n, dtype=torch.float64)
    for symmetric, ids, soft in ((False, torch.arange(n), shares), (True, None, None)):
        scale = torch.tensor(20.0).double()
        gates = (None, None) if symmetric else (vectors(n, 3), vectors(m, 3))
        named = (None, None) if symmetric else (torch.arange(n + 1), torch.arange(n) * 2)
        rows = None if symmetric else torch.arange(m)
        arguments = (q, d, scale, *lists, soft, None, None, *named, ids, rows, *gates, weights)
        of_documents = torch.ones(m, dtype=torch.float64) if symmetric else None
        torch.library.opcheck(
            torch.ops.tilefold.contrastive.default,
            (*arguments, of_documents, True, symmetric, True, not symmetric),
        )


def test_under_autocast_it_behaves_like_cross_entropy():
    layer = torch.nn.Linear(16, 16)
    x, d = vectors(6, 16), vectors(6, 16, seed=1).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        q = layer(x)
        assert q.dtype == torch.bfloat16
        loss = contrastive_loss(q, d, torch.arange(6), temperature=0.1)
        scores = q.float() @ d.T.float() / 0.1
    loss.backward()
    assert loss.dtype == torch.float32
    assert d.grad.dtype == torch.float32
    assert layer.weight.grad is not None
    expected = F.cross_entropy(q.float() @ d.T / 0.1, torch.arange(6))
    torch.testing.assert_close(loss, expected)
    assert scores.shape == (6, 6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_what_is_excluded_may_be_named_by_row_or_by_id(symmetric):
    q, d = vectors(4, 8), vectors(9, 8, seed=1)
    document_ids = torch.tensor([3, -5, 3, 7, 2**40, 8, 9, 9, 10])
    named = csr([[3, 2**40], [], [9, 9, 6], [-5]])
    rows = csr([[0, 2, 4, 8], [], [6, 7], [1]])
    positives = torch.tensor([0, 3, 5, 8])
    results = []
    for masks in (
        {"exclude": rows},
        {"exclude_ids": named, "exclude": csr([[8], [], [], []])},
    ):
        x = leaves(q, d)
        loss = contrastive_loss(
            *x,
            positives,
            temperature=0.1,
            symmetric=symmetric,
            document_ids=document_ids,
            query_ids=torch.tensor([0, 1, 0, 2]),
            **masks,
        )
        loss.backward()
        results.append((loss.detach(), x[0].grad, x[1].grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    options = {"document_ids": document_ids, "exclude": csr([[8], [], [], []])}
    assert torch.equal(
        count_negatives(9, positives, exclude_ids=named, **options),
        count_negatives(9, positives, document_ids=document_ids, exclude=rows),
    )
    with pytest.raises(ValueError, match="exclude_ids need document_ids"):
        contrastive_loss(q, d, positives, exclude_ids=named)
    broken = (named[0].flip(0), named[1])
    with pytest.raises(ValueError, match="offsets of exclude_ids must rise"):
        contrastive_loss(q, d, positives, exclude_ids=broken, document_ids=document_ids)


def test_the_module_is_the_function():
    q, d = vectors(5, 8), vectors(9, 8, seed=1)
    plain = ContrastiveLoss(0.1, mode="sum", symmetric=True)
    expected = contrastive_loss(q, d, torch.arange(5), temperature=0.1, mode="sum", symmetric=True)
    assert plain(q, d) == expected
    assert not list(plain.parameters())
    learned = ContrastiveLoss(0.1, learn_temperature=True)
    lists, spared = csr([[1], [0], [2], [3, 5], [4]]), csr([[0], [], [], [], [8]])
    torch.testing.assert_close(
        learned(q, d, lists, exclude=spared),
        contrastive_loss(q, d, lists, temperature=0.1, exclude=spared),
    )
    shown = "temperature=0.1 at first, learned, mode='each', symmetric=False, reduction='mean'"
    assert repr(learned) == f"ContrastiveLoss({shown})"
    assert list(learned.state_dict()) == ["log_scale"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temperature": 0}, ValueError, "temperature must be positive, got 0"),
        ({"temperature": "0.1"}, TypeError, "temperature must be a number, got str"),
        ({"temperature": torch.tensor(0.1)}, TypeError, "temperature must be a number, got Tensor"),
        ({"mode": "all"}, ValueError, "mode must be 'each' or 'sum', got 'all'"),
        ({"reduction": "avg"}, ValueError, "reduction must be 'mean', .* got 'avg'"),
        ({"symmetric": "yes"}, TypeError, "symmetric must be True or False, got str"),
        ({"symmetric": True, "reduction": "none"}, ValueError, "has no symmetric form"),
    ],
)
def test_the_module_refuses_options_when_it_is_made(options, error, message):
    with pytest.raises(error, match=message):
        ContrastiveLoss(**options)


# ---- bad input -----------------------------------------------------------------------------------

Q, D = vectors(3, 4), vectors(5, 4, seed=1)
POSITIVES = torch.arange(3)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Q, D[:, :3], POSITIVES), {}, ValueError, "queries have dim 4 but documents have dim 3"),
        ((Q[0], D, POSITIVES), {}, ValueError, "queries must have 2 dimensions .* got 1"),
        ((Q, D.numpy(), POSITIVES), {}, TypeError, "documents must be a torch tensor, got ndarray"),
        ((Q, D.int(), POSITIVES), {}, TypeError, "documents must be float32, .* got torch.int32"),
        ((Q, D.double(), POSITIVES), {}, TypeError, "queries are torch.float32 but documents are"),
        ((Q[:0], D, POSITIVES[:0]), {}, ValueError, "queries must have at least 1 row, got 0"),
        ((Q, D.to("meta"), POSITIVES), {}, ValueError, "documents must be on cpu, got meta"),
        ((Q, D, POSITIVES[:2]), {}, ValueError, "positives must have 3 elements, one per query"),
        ((Q, D, POSITIVES.float()), {}, TypeError, "positives must be int64, got torch.float32"),
        ((Q, D, POSITIVES + 3), {}, ValueError, "indices of documents, 0 to 4, got 5 for query 2"),
        ((Q, D, POSITIVES - 1), {}, ValueError, "indices of documents, 0 to 4, got -1 for query 0"),
        ((Q, D, csr([[0], [], [1]])), {}, ValueError, "query 1 has no positive"),
        ((Q, D, csr([[0], [1]])), {}, ValueError, "offsets of positives must have 4 elements"),
        ((Q, D, csr([[0], [1, 1], [2]])), {}, ValueError, "query 1 name document 1 twice"),
        (
            (Q, D, POSITIVES),
            {"soft_targets": POSITIVES},
            TypeError,
            "floating-point .* torch.int64",
        ),
        ((Q, D, POSITIVES), {"soft_targets": Q}, ValueError, r"shape \(3,\), .* got \(3, 4\)"),
        (
            (Q, D, POSITIVES),
            {"soft_targets": torch.tensor([1.0, 0.5, 1.0])},
            ValueError,
            "soft_targets of a query must sum to one, got 0.5 for query 1",
        ),
        (
            (Q, D, csr([[0], [1], [2, 3]])),
            {"soft_targets": torch.tensor([1.0, 1.0, 2.0, -1.0])},
            ValueError,
            "soft_targets must be numbers of 0 or more, got -1.0 for query 2",
        ),
        (
            (Q, D, POSITIVES),
            {"soft_targets": torch.ones(3), "symmetric": True},
            ValueError,
            "soft_targets allow neither symmetric=True nor mode='sum'",
        ),
        (
            (Q, D, (torch.tensor([0, 2, 1, 3]), POSITIVES)),
            {},
            ValueError,
            "offsets of positives must rise from 0 to the number of indices, 3, got",
        ),
        ((Q, D, POSITIVES), {"temperature": 0.0}, ValueError, "temperature must be positive"),
        ((Q, D, POSITIVES), {"temperature": -0.1}, ValueError, "temperature must be positive"),
        ((Q, D, POSITIVES), {"temperature": float("nan")}, ValueError, "temperature must be posi"),
        ((Q, D, POSITIVES), {"log_scale": 800.0}, ValueError, "log_scale finite"),
        ((Q, D, POSITIVES), {"log_scale": 89.0}, ValueError, "log_scale finite"),
        ((Q, D, POSITIVES), {"log_scale": -104.0}, ValueError, "log_scale finite"),
        ((Q, D, POSITIVES), {"temperature": torch.ones(2)}, ValueError, "must be one number"),
        ((Q, D, POSITIVES), {"temperature": 1.0, "log_scale": 0.0}, ValueError, "not both"),
        ((Q, D, POSITIVES), {"mode": "mean"}, ValueError, "mode must be 'each' or 'sum'"),
        ((Q, D, POSITIVES), {"reduction": "max"}, ValueError, "reduction must be 'mean', 'sum'"),
        (
            (Q, D, POSITIVES),
            {"reduction": "none", "symmetric": True},
            ValueError,
            "reduction='none' has no symmetric form",
        ),
        ((Q, D, POSITIVES), {"gates": Q}, TypeError, "gates must be a pair"),
        (
            (Q, D, POSITIVES),
            {"gates": (Q, D[1:])},
            ValueError,
            "gates must be of 3 q.* got 3 and 4",
        ),
        ((Q, D, POSITIVES), {"gates": (1e20 * Q, 1e20 * D)}, ValueError, "gates: scores may reach"),
        ((Q, D, POSITIVES), {"gates": (Q / 0, D)}, ValueError, "queries of gates have a NaN or an"),
        ((Q, D, POSITIVES), {"query_ids": POSITIVES[:2]}, ValueError, "query_ids must have 3 elem"),
        ((Q, D, POSITIVES), {"document_ids": Q[0]}, TypeError, "document_ids must be int64"),
        ((Q, D, POSITIVES), {"exclude": csr([[5], [], []])}, ValueError, "exclude .* got 5 for qu"),
        ((Q / 0, D, POSITIVES), {}, ValueError, "queries have a NaN or an infinity in row 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match=f"^contrastive.*{message}"):
        contrastive_loss(*arguments, **options)


def test_scores_beyond_float32_are_refused():
    """They would be infinite, or NaN, which drops out of a sum."""
    q = torch.full((2, 2), 1e20)
    with pytest.raises(ValueError, match=r"contrastive_loss: scores may reach .*, beyond float32"):
        contrastive_loss(q, -q, torch.arange(2))
    assert torch.isfinite(contrastive_loss(q.double(), -q.double(), torch.arange(2)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_rows_of_any_dtype_must_be_finite(dtype, value):
    d = vectors(400, 9, dtype=dtype)
    d[300, 4] = value
    with pytest.raises(ValueError, match="documents have a NaN or an infinity in row 300"):
        contrastive_loss(Q[:, :4].repeat(1, 3)[:, :9].to(dtype), d, POSITIVES)


def test_the_first_row_that_is_not_finite_is_named():
    d = vectors(2000, 4)
    d[[1500, 700]] = float("inf")
    with pytest.raises(ValueError, match="documents have a NaN or an infinity in row 700"):
        contrastive_loss(Q, d, POSITIVES)
