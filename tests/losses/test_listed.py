"""Losses over listed candidates against the matrix, and the references against other formulas."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ragged import csr
from tilefold import reference
from tilefold.losses import listed
from tilefold.testing import assert_as_close_as_torch, peak_memory

DIVERGENCES = ["forward_kl", "reverse_kl", "js"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def ragged(n: int, m: int, most: int, seed: int = 0) -> list[list[int]]:
    """None to `most` documents for every query, in any order."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(m)[: rng.integers(most + 1)].tolist() for _ in range(n)]


M = 90  # documents
LISTS = {
    "ragged": ragged(9, M, 12),
    "one each": [[3], [0], [3]],
    "empty ones": [[], [1, 4], [], [], [2], []],
    "nothing": [[], []],
    "one query": [list(range(M))],
    "one of one": [[M - 1]],
    "many queries": ragged(100, M, 5),
}
EVERY_LIST = pytest.mark.parametrize("lists", LISTS.values(), ids=LISTS)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def vectors(rows: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return F.normalize(normal(rows, dim, seed=seed), dim=1).to(dtype)


def pairs(lists: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The places in the matrix: the query and the document of every listed one."""
    _, indices = csr(lists)
    return torch.tensor([q for q, part in enumerate(lists) for _ in part]).long(), indices


def spread(values: Tensor, lists: list[list[int]]) -> Tensor:
    """``[..., listed]`` as ``[..., n, M]``, zero or False elsewhere."""
    queries, documents = pairs(lists)
    matrix = values.new_zeros(*values.shape[:-1], len(lists), M)
    matrix[..., queries, documents] = values
    return matrix


def candidates(lists: list[list[int]]) -> Tensor:
    return spread(torch.ones(sum(map(len, lists)), dtype=torch.bool), lists)


def leaves(*tensors: Tensor, dtype: torch.dtype | None = None) -> list[Tensor]:
    return [x.detach().clone().to(dtype or x.dtype).requires_grad_() for x in tensors]


def weighted(result: Tensor) -> Tensor:
    """A number to which every element of the result contributes differently."""
    weights = torch.linspace(1, 2, result.numel(), dtype=result.dtype)
    return (result.reshape(-1) * weights).sum()


def results_and_gradients(function: Any, *arguments: Tensor) -> list[Tensor]:
    result = function(*arguments)
    outputs = list(result) if isinstance(result, tuple) else [result]
    gradients = torch.autograd.grad(weighted(outputs[0]), arguments)
    return [x.detach() for x in (*outputs, *gradients)]


def assert_like_torch(ours: Any, theirs: Any, *inputs: Tensor, results: int = 1) -> None:
    """Results and the gradients of the first of them, within the one tolerance of testing.py."""
    found = results_and_gradients(ours, *leaves(*inputs))
    plain = results_and_gradients(theirs, *leaves(*inputs, dtype=torch.float32))
    truth = results_and_gradients(theirs, *leaves(*inputs, dtype=torch.float64))
    wide = torch.float64 if inputs[0].dtype == torch.float64 else torch.float32
    for i, (mine, torchs, exact) in enumerate(zip(found, plain, truth, strict=True)):
        gradient = i >= results
        assert mine.dtype == (inputs[0].dtype if gradient else wide)
        name = f"gradient {i - results}" if gradient else f"result {i}"
        assert_as_close_as_torch(mine, torchs, exact, in_norm=gradient, name=name)


# ---- scores --------------------------------------------------------------------------------------


def picked(lists: list[list[int]]) -> Any:
    return lambda q, d: (q @ d.T)[pairs(lists)]


@EVERY_LIST
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_are_those_of_the_matrix(lists, dtype):
    # Without signs, so that no score is much smaller than its terms.
    q, d = vectors(len(lists), 33, dtype=dtype).abs(), vectors(M, 33, seed=1, dtype=dtype).abs()
    assert_like_torch(lambda q, d: listed.scores(q, d, *csr(lists)), picked(lists), q, d)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_lists_longer_than_a_chunk_are_scored_whole(dtype):
    dim, rng = listed._NUMBERS // 32, np.random.default_rng(0)  # 32 documents at a time
    lists = [[], rng.permutation(M)[:75].tolist(), [], [5], rng.permutation(M)[:50].tolist(), []]
    q, d = vectors(len(lists), dim, dtype=dtype), vectors(M, dim, seed=1, dtype=dtype)
    assert_like_torch(lambda q, d: listed.scores(q, d, *csr(lists)), picked(lists), q, d)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_float32_rounded_once(dtype, monkeypatch):
    monkeypatch.setattr(listed, "_ROWS", 8)
    lists = csr([list(range(M)), [], *[[7, 3]] * 20])
    q, d = vectors(22, 40, dtype=dtype), vectors(M, 40, seed=1, dtype=dtype)
    half, single = (
        results_and_gradients(lambda q, d: listed.scores(q, d, *lists), *leaves(q, d, dtype=kind))
        for kind in (dtype, torch.float32)
    )
    assert torch.equal(half[0], single[0])
    for mine, other in zip(half[1:], single[1:], strict=True):
        assert mine.dtype == dtype
        assert torch.equal(mine, other.to(dtype))


def test_sums_over_long_lists_keep_their_digits():
    """A document in every list, and a list of every document."""
    n, dim = 6000, 256
    lists = [list(range(M))] + [[7]] * n
    q, d = normal(n + 1, dim).abs(), normal(M, dim, seed=1).abs()
    assert_like_torch(lambda q, d: listed.scores(q, d, *csr(lists)), picked(lists), q, d)


def test_gradients_of_scores_are_exact_in_float64():
    lists = csr([[2, 0], [], [3], [1, 2, 3]])
    q, d = leaves(vectors(4, 5), vectors(4, 5, seed=1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda q, d: listed.scores(q, d, *lists), (q, d))


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_one_gradient_may_be_asked_for_without_the_other(wanted):
    lists = csr(LISTS["ragged"])
    whole = leaves(vectors(9, 12), vectors(M, 12, seed=1))
    weighted(listed.scores(*whole, *lists)).backward()
    part = [x.detach().requires_grad_(flag) for x, flag in zip(whole, wanted, strict=True)]
    result = listed.scores(*part, *lists)
    assert result.requires_grad == any(wanted)
    if any(wanted):
        weighted(result).backward()
    for mine, other, flag in zip(part, whole, wanted, strict=True):
        assert (mine.grad is not None) == flag
        assert not flag or torch.equal(mine.grad, other.grad)
    with torch.no_grad():
        assert not listed.scores(*whole, *lists).requires_grad


def test_rows_may_lie_anywhere():
    lists = csr(LISTS["ragged"])
    q, d = normal(18, 30)[::2, 4:16], normal(12, M, seed=1).T
    found, straight = (
        results_and_gradients(lambda q, d: listed.scores(q, d, *lists), *leaves_like)
        for leaves_like in (
            [x.detach().requires_grad_() for x in (q, d)],
            [x.detach().contiguous().requires_grad_() for x in (q, d)],
        )
    )
    for mine, other in zip(found, straight, strict=True):
        assert torch.equal(mine, other)


def test_listed_documents_are_never_held():
    n, length, dim = 1000, 200, 256
    offsets, indices = length * torch.arange(n + 1), torch.arange(n * length) % 2000
    q, d = leaves(vectors(n, dim), vectors(2000, dim, seed=1))
    with peak_memory() as peak:
        listed.scores(q, d, offsets, indices).sum().backward()
    copies = 4 * dim * len(indices)
    gradients = 4 * dim * (n + 2000)
    assert peak.bytes < gradients + 32 * 2**20 < copies / 5


# ---- sums and softmax ----------------------------------------------------------------------------


@EVERY_LIST
@pytest.mark.parametrize("leading", [(), (3,), (2, 2)], ids=str)
def test_sums_and_softmax_go_list_by_list(lists, leading):
    offsets, _ = csr(lists)
    x = normal(*leading, int(offsets[-1])) * 5
    parts = list(x.split([len(part) for part in lists], -1))
    torch.testing.assert_close(
        listed.sums(x, offsets), torch.stack([part.sum(-1) for part in parts], -1)
    )
    torch.testing.assert_close(
        listed.log_softmax(x, offsets), torch.cat([part.log_softmax(-1) for part in parts], -1)
    )


def test_sums_and_softmax_of_empty_lists_have_gradients():
    offsets, _ = csr(LISTS["empty ones"])
    (x,) = leaves(normal(2, 3), dtype=torch.float64)
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        assert torch.autograd.gradcheck(lambda x: listed.sums(x, offsets), x)
        assert torch.autograd.gradcheck(lambda x: listed.log_softmax(x, offsets), x)
    assert not listed.sums(x, offsets)[:, [0, 2, 3, 5]].any()


def test_half_precision_is_added_up_in_more():
    x = torch.full((5000,), 0.1, dtype=torch.bfloat16)
    offsets = torch.tensor([0, 5000])
    assert listed.sums(x, offsets) == torch.tensor([x.double().sum()], dtype=torch.float32)
    torch.testing.assert_close(
        listed.log_softmax(x, offsets), torch.full((5000,), -float(np.log(5000)))
    )


# ---- alignment -----------------------------------------------------------------------------------


@EVERY_LIST
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_alignment_is_that_of_the_matrix(lists, divergence, dtype):
    offsets, indices = csr(lists)
    student, teacher = (2 * normal(len(indices), seed=seed, dtype=dtype) for seed in (1, 2))

    def by_matrix(student: Tensor, teacher: Tensor) -> Tensor:
        matrices = spread(student, lists), spread(teacher, lists)
        return reference.alignment_losses(
            *matrices, divergence=divergence, candidates=candidates(lists)
        )

    assert_like_torch(
        lambda s, t: listed.alignment(s, t, offsets, divergence), by_matrix, student, teacher
    )


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_gradients_of_alignment_are_exact_in_float64(divergence):
    offsets, _ = csr([[0, 1, 2], [], [3], [4, 5]])
    arguments = leaves(normal(6), 3 * normal(6, seed=1), dtype=torch.float64)
    loss = lambda s, t: listed.alignment(s, t, offsets, divergence)  # noqa: E731
    assert torch.autograd.gradcheck(loss, arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_scores_that_underflow_stay_finite(dtype):
    """KL(p || q) of p = (1, 0) and q = (0, 1), scores 20,000 apart; and JS, which is bounded."""
    offsets = torch.tensor([0, 2, 4, 7])
    student = torch.tensor([1e4, -1e4, 0, 0, -1e4, 1e4, 1e4], dtype=dtype)
    teacher = torch.tensor([-1e4, 1e4, 1e4, -1e4, -1e4, 1e4, 1e4], dtype=dtype)
    log2 = float(np.log(2))
    js = 0.75 * float(np.log(4 / 3))  # of (1/2, 1/2) and (1, 0), whose middle is (3/4, 1/4)
    expected = {
        "forward_kl": [2e4, log2, 0],
        "reverse_kl": [2e4, 1e4 - log2, 0],
        "js": [log2, js, 0],
    }
    for divergence in DIVERGENCES:
        s, t = leaves(student, teacher)
        with torch.autograd.set_detect_anomaly(True, check_nan=True):
            losses = listed.alignment(s, t, offsets, divergence)
            losses.sum().backward()
        torch.testing.assert_close(losses, torch.tensor(expected[divergence], dtype=dtype))
        assert torch.isfinite(s.grad).all()
        assert torch.isfinite(t.grad).all()


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_only_equal_distributions_have_no_loss(divergence):
    offsets, indices = csr(LISTS["many queries"])
    student, teacher = 3 * normal(len(indices)), 3 * normal(len(indices), seed=1)
    several = offsets.diff() > 1
    assert (listed.alignment(student, teacher, offsets, divergence)[several] > 0).all()
    assert not listed.alignment(student, student, offsets, divergence).any()
    shift = torch.repeat_interleave(normal(len(offsets) - 1).double(), offsets.diff())
    shifted = listed.alignment(student.double(), student + shift, offsets, divergence)
    torch.testing.assert_close(shifted, torch.zeros(100).double())


def test_jensen_shannon_is_symmetric_and_at_most_log_2():
    offsets, indices = csr(LISTS["many queries"])
    student, teacher = 30 * normal(len(indices)), 30 * normal(len(indices), seed=1)
    losses = listed.alignment(student, teacher, offsets, "js")
    assert torch.equal(losses, listed.alignment(teacher, student, offsets, "js"))
    assert 0.69 < losses.max() <= np.log(2)


# ---- consistency ---------------------------------------------------------------------------------


def marked(lists: list[list[int]]) -> Tensor:
    """About half of the listed documents, and none of every fifth query's."""
    queries, documents = pairs(lists)
    return (documents % 2 == 0) & (queries % 5 != 4)


@EVERY_LIST
@pytest.mark.parametrize("n_views", [2, 5])
@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_consistency_is_that_of_the_matrix(lists, n_views, some, dtype):
    offsets, indices = csr(lists)
    views = 2 * normal(n_views, len(indices), dtype=dtype)
    invariant = marked(lists) if some else None

    def by_matrix(views: Tensor) -> tuple[Tensor, ...]:
        losses, divergences, means, variances = reference.consistency_losses(
            spread(views, lists),
            invariant=None if invariant is None else spread(invariant, lists),
            candidates=candidates(lists),
        )
        where = pairs(lists)
        return losses, divergences, means[where], variances[where]

    ours = lambda views: listed.consistency(views, offsets, invariant)  # noqa: E731
    assert_like_torch(ours, by_matrix, views, results=4)


def test_means_and_variances_have_exact_gradients_in_float64():
    offsets, _ = csr([[0, 1, 2], [], [3], [4, 5]])
    (views,) = leaves(normal(3, 6), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: listed.consistency(v, offsets)[2:], views)


def test_every_view_moves_towards_the_constant_target():
    """The gradient of KL(T || softmax(s)) in s is softmax(s) - T, as long as T has none."""
    offsets, indices = csr(LISTS["ragged"])
    (views,) = leaves(normal(4, len(indices)), dtype=torch.float64)
    found = listed.consistency(views, offsets)
    found.losses.sum().backward()
    probabilities = listed.log_softmax(views, offsets).exp()
    torch.testing.assert_close(4 * views.grad, probabilities - found.means)


def test_views_that_agree_have_no_loss():
    offsets, indices = csr(LISTS["many queries"])
    found = listed.consistency(normal(1, len(indices)).double().expand(3, -1), offsets)
    torch.testing.assert_close(found.losses, torch.zeros(100).double())
    torch.testing.assert_close(found.variances, torch.zeros(len(indices)).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_invariant_documents_that_underflow_still_have_a_target(dtype):
    offsets = torch.tensor([0, 3, 5])
    views = torch.tensor([[1e4, -1e4, -1e4, 0, 1], [1e4, -1e4, -9e3, 1e4, -1e4]], dtype=dtype)
    invariant = torch.tensor([False, True, True, False, False])
    (leaf,) = leaves(views)
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        losses, divergences, means, variances = listed.consistency(leaf, offsets, invariant)
        losses.sum().backward()
    # The second view's third document is all of the target.
    expected = torch.tensor([[2e4, 0], [1.9e4, 0]], dtype=dtype)
    torch.testing.assert_close(divergences, expected)
    assert torch.equal(losses, divergences.mean(0))
    for values in (means, variances, leaf.grad):
        assert torch.isfinite(values).all()
    assert not leaf.grad[:, 3:].any()


# ---- the same bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_threads_change_no_bit(dtype):
    """Pieces of work for three threads, of sizes that no vector register divides."""
    n, m, dim, rng = 3001, 900, 27, np.random.default_rng(0)
    offsets = torch.tensor([0, *rng.integers(0, 70, n).cumsum()])
    indices = torch.tensor(rng.integers(0, m, int(offsets[-1])))
    assert len(indices) > 3 * 32768  # torch gives no fewer elements to a thread
    q, d = vectors(n, dim, dtype=dtype), vectors(m, dim, seed=1, dtype=dtype)
    views = 9 * normal(4, len(indices), dtype=dtype)
    invariant = indices % 3 > 0
    calls: dict[str, tuple[Any, ...]] = {
        "scores": (lambda q, d: listed.scores(q, d, offsets, indices), q, d),
        "consistency": (lambda v: listed.consistency(v, offsets, invariant), views),
        "softmax": (lambda v: listed.log_softmax(v, offsets), views),
    }
    for divergence in DIVERGENCES:
        loss = lambda s, t, kind=divergence: listed.alignment(s, t, offsets, kind)  # noqa: E731
        calls[divergence] = (loss, views[0], views[1])
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append({k: results_and_gradients(f, *leaves(*x)) for k, (f, *x) in calls.items()})
    finally:
        torch.set_num_threads(before)
    for name in calls:
        for other in found[1:]:
            assert all(map(torch.equal, found[0][name], other[name])), name


def test_no_length_makes_elementwise_functions_depend_on_threads():
    """Where a thread's piece ends, torch may compute a few elements by another routine."""
    (student, teacher), before = 5 * normal(2, 70_000, dtype=torch.float64), torch.get_num_threads()
    try:
        for length in range(69_000, 70_000, 83):
            offsets, found = length // 7 * torch.arange(8), []
            s, t = student[: offsets[-1]], teacher[: offsets[-1]]
            for threads in (1, 2):
                torch.set_num_threads(threads)
                loss = lambda s, t, lists=offsets: listed.alignment(s, t, lists, "js")  # noqa: E731
                found.append(results_and_gradients(loss, *leaves(s, t)))
            assert all(map(torch.equal, *found))
    finally:
        torch.set_num_threads(before)


# ---- the references ------------------------------------------------------------------------------


def test_the_reference_of_alignment_is_what_torch_calls_kl():
    student, teacher = normal(6, 11).double(), normal(6, 11, seed=1).double()
    own = torch.ones(6, 11, dtype=torch.bool)
    own[:, [2, 5]] = own[4] = False
    log_s, log_t = (x[:4, own[0]].log_softmax(1) for x in (student, teacher))
    middle = (log_s.exp() + log_t.exp()) / 2
    entropy = lambda p: torch.distributions.Categorical(p).entropy()  # noqa: E731
    expected = {
        "forward_kl": F.kl_div(log_s, log_t.exp(), reduction="none").sum(1),
        "reverse_kl": F.kl_div(log_t, log_s, reduction="none", log_target=True).sum(1),
        "js": entropy(middle) - (entropy(log_s.exp()) + entropy(log_t.exp())) / 2,
    }
    for divergence in DIVERGENCES:
        losses = reference.alignment_losses(student, teacher, divergence=divergence, candidates=own)
        torch.testing.assert_close(losses[:4], expected[divergence])
        assert losses[4] == 0
        arguments = leaves(student, teacher)
        loss = lambda s, t, kind=divergence: reference.alignment_losses(  # noqa: E731
            s, t, divergence=kind, candidates=own
        )
        assert torch.autograd.gradcheck(loss, arguments)


def test_the_reference_of_consistency_is_what_torch_calls_kl():
    views, own, invariant = normal(3, 4, 11).double(), *torch.ones(2, 4, 11, dtype=torch.bool)
    own[:, [2, 5]] = own[3] = False  # the last query has no candidate
    invariant[:, [2, 3, 4]] = False
    invariant[2] = False
    invariant[2, 5] = True  # and the third only an invariant document that is none
    (leaf,) = leaves(views)
    losses, divergences, means, variances = reference.consistency_losses(
        leaf, invariant=invariant, candidates=own
    )
    p = torch.zeros_like(views)
    p[:, :3] = views[:, :3].masked_fill(~own[:3], -torch.inf).softmax(2)
    target = (p.mean(0) * invariant)[:2]
    target /= target.sum(1, keepdim=True)
    expected = F.kl_div(
        p[:, :2].clamp(min=1e-300).log(), target.expand(3, -1, -1), reduction="none"
    )
    torch.testing.assert_close(divergences[:, :2], expected.sum(2))
    assert not divergences[:, 2:].any()
    torch.testing.assert_close(losses, divergences.mean(0))
    torch.testing.assert_close(means, p.mean(0))
    torch.testing.assert_close(variances, (p**2).mean(0) - p.mean(0) ** 2)
    losses.sum().backward()
    torch.testing.assert_close(3 * leaf.grad[:, :2], p[:, :2] - target)
    assert not leaf.grad[:, 2:].any()
