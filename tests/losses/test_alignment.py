"""alignment_loss against the matrices: every divergence, in batch and over lists, both sides."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tilefold
from ragged import as_matrix, csr
from tilefold import _native, reference
from tilefold.losses import AlignmentLoss, alignment_loss
from tilefold.testing import assert_as_close_as_torch, peak_memory

DIVERGENCES = ["forward_kl", "reverse_kl", "js"]


def vectors(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1).to(dtype)


def batch(n: int, m: int, dims: tuple[int, int] = (33, 48), **options: Any) -> list[Tensor]:
    """Queries and documents of a student, then of a teacher."""
    a, b = dims
    shapes = [(n, a), (m, a), (n, b), (m, b)]
    return [vectors(*shape, seed=seed, **options) for seed, shape in enumerate(shapes)]


def some(rng: np.random.Generator, n: int, m: int) -> list[list[int]]:
    return [rng.choice(m, rng.integers(0, m), replace=False).tolist() for _ in range(n)]


def leaves(tensors: list[Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    return [x.detach().clone().to(dtype or x.dtype).requires_grad_() for x in tensors]


def by_matrix(
    rows: list[Tensor], divergence: str, candidates: Tensor | None, train_teacher: bool
) -> Tensor:
    q, d, tq, td = rows
    teacher = tq @ td.T / 0.2
    if not train_teacher:
        teacher = teacher.detach()
    return reference.alignment_losses(
        q @ d.T / 0.1, teacher, divergence=divergence, candidates=candidates
    )


def assert_like_the_matrices(
    rows: list[Tensor],
    divergence: str,
    *,
    candidates: Tensor | None = None,
    train_teacher: bool = False,
    reduction: str = "mean",
    **lists: Any,
) -> None:
    found = leaves(rows)
    loss = alignment_loss(
        (found[0], found[1]),
        (found[2], found[3]),
        temperature=0.1,
        teacher_temperature=0.2,
        divergence=divergence,
        train_teacher=train_teacher,
        reduction=reduction,
        **lists,
    )
    weights = torch.linspace(1, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    (loss * weights).sum().backward()
    runs = []
    for dtype in (torch.float32, torch.float64):
        x = leaves(rows, dtype)
        losses = by_matrix(x, divergence, candidates, train_teacher)
        total = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
        (total * weights.to(dtype)).sum().backward()
        runs.append([total.detach(), *(leaf.grad for leaf in x)])
    theirs, truth = runs
    assert_as_close_as_torch(loss.detach(), theirs[0], truth[0], name="loss")
    for i, leaf in enumerate(found):
        if i >= 2 and not train_teacher:
            assert leaf.grad is None
            continue
        assert leaf.grad is not None
        assert leaf.grad.dtype == leaf.dtype
        assert_as_close_as_torch(
            leaf.grad, theirs[i + 1], truth[i + 1], in_norm=True, name=f"grad {i}"
        )


# ---- in batch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize(("n", "m"), [(1, 131), (7, 5), (25, 129), (530, 140)])
def test_the_loss_is_that_of_the_matrices(isa, divergence, n, m):
    assert_like_the_matrices(batch(n, m), divergence)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_both_sides_may_be_trained(isa, divergence, reduction):
    assert_like_the_matrices(batch(20, 150), divergence, train_teacher=True, reduction=reduction)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_widened(isa, divergence, dtype):
    assert_like_the_matrices(batch(20, 150, dtype=dtype), divergence)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_excluded_documents_are_no_candidates(isa, divergence):
    """Of query 0 none is left."""
    out = some(np.random.default_rng(0), 20, 60)
    out[0] = list(range(60))
    assert_like_the_matrices(
        batch(20, 60), divergence, exclude=csr(out), candidates=~as_matrix(out, 60)
    )


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("train_teacher", [False, True])
def test_gradients_are_exact_in_float64(isa, divergence, train_teacher):
    rows = leaves(batch(5, 9, dims=(4, 6), dtype=torch.float64))
    log_scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=train_teacher)
    if not train_teacher:
        rows = [*rows[:2], *(x.detach() for x in rows[2:])]
    spared = csr([[1], [], [8], [], [0]])
    for reduction in ("mean", "none"):

        def loss(*given: Tensor) -> Tensor:
            q, d, tq, td, scale, t = given
            return alignment_loss(
                (q, d),
                (tq, td),
                log_scale=scale,
                teacher_temperature=t,
                divergence=divergence,
                train_teacher=train_teacher,
                exclude=spared,
                reduction=reduction,  # noqa: B023
            )

        assert torch.autograd.gradcheck(loss, (*rows, log_scale, temperature))


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_extreme_scores_stay_finite(isa, divergence):
    """Distributions of one document each, nearly always different ones."""
    rows = leaves([100 * x for x in batch(30, 140)])
    loss = alignment_loss(
        (rows[0], rows[1]), (rows[2], rows[3]), divergence=divergence, train_teacher=True
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert divergence != "js" or loss <= np.log(2) * 1.00001
    for leaf in rows:
        assert torch.isfinite(leaf.grad).all()


def test_equal_distributions_have_no_divergence(isa):
    q, d, *_ = batch(20, 150)
    for divergence in DIVERGENCES:
        x = leaves([q, d])
        loss = alignment_loss((x[0], x[1]), (q, d), divergence=divergence)
        loss.backward()
        assert abs(loss) < 1e-6
        assert x[0].grad.abs().max() < 1e-7


@pytest.mark.parametrize("divergence", ["forward_kl", "js"])
def test_threads_change_no_bit(isa, divergence):
    bits, before = set(), tilefold.get_num_threads()
    for threads in (1, 2, 3):
        tilefold.set_num_threads(threads)
        try:
            rows = leaves(batch(200, 600))
            loss = alignment_loss((rows[0], rows[1]), (rows[2], rows[3]), divergence=divergence)
            loss.backward()
        finally:
            tilefold.set_num_threads(before)
        parts = (loss, rows[0].grad, rows[1].grad)
        bits.add(b"".join(x.detach().numpy().tobytes() for x in parts))
    assert len(bits) == 1


def test_no_matrix_is_held():
    n, dim = 6000, 64
    rows = leaves([vectors(n, dim, seed=seed) for seed in range(4)])
    with peak_memory() as peak:
        alignment_loss((rows[0], rows[1]), (rows[2], rows[3]), temperature=0.05).backward()
    assert peak.bytes < 72 * 2**20  # a matrix would take 144 MB


# ---- torch ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch by torch
@pytest.mark.parametrize("divergence", ["reverse_kl", "js"])
def test_it_compiles_whole(divergence):
    def loss(q: Tensor, d: Tensor, tq: Tensor, td: Tensor, log_scale: Tensor) -> Tensor:
        student = (F.normalize(q, dim=1), d)
        return alignment_loss(student, (tq, td), log_scale=log_scale, divergence=divergence)

    results = []
    for call in (loss, torch.compile(loss, fullgraph=True)):
        arguments = leaves([*batch(8, 16), torch.tensor(1.0)])
        value = call(*arguments)
        value.backward()
        results.append([value.detach(), *(arguments[i].grad for i in (0, 1, 4))])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain)


@pytest.mark.parametrize("weighed", [False, True])
def test_the_op_is_what_torch_expects_of_one(weighed):
    q, d, tq, td = batch(5, 7)
    weights = torch.full((2, 5), 0.2, dtype=torch.float64) if weighed else None
    torch.library.opcheck(
        torch.ops.tilefold.divergence.default,
        (
            "alignment_loss",
            [" of the student", " of the teacher"],
            [q, tq],
            [d, td],
            torch.tensor([3.0, 1.0]).double(),
            -1,
            False,
            *(None,) * 4,
            weights,
            [weighed, False],
            [weighed, weighed],
        ),
    )


def test_a_graph_may_be_gone_through_twice():
    rows = leaves(batch(7, 9))
    loss = alignment_loss((rows[0], rows[1]), (rows[2], rows[3]))
    first = torch.autograd.grad(3 * loss, rows[:2], retain_graph=True)
    again = torch.autograd.grad(3 * loss, rows[:2], retain_graph=True)
    for one, two in zip(first, again, strict=True):
        torch.testing.assert_close(one, two)


def test_a_side_may_be_of_another_precision():
    q, d, tq, td = batch(7, 9)
    expected = alignment_loss((q, d), (tq, td))
    assert alignment_loss((q, d), (tq.double(), td.double())).dtype == torch.float64
    half = alignment_loss((q, d), (tq.bfloat16(), td.bfloat16()))
    torch.testing.assert_close(half, expected, rtol=0.05, atol=1e-3)


# ---- over lists ----------------------------------------------------------------------------------


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("train_teacher", [False, True])
def test_listed_candidates_are_the_only_ones(divergence, train_teacher):
    own = some(np.random.default_rng(1), 20, 31)
    found = leaves(batch(20, 31))
    options = {"divergence": divergence, "train_teacher": train_teacher, "reduction": "none"}
    losses = alignment_loss(
        (found[0], found[1]),
        (found[2], found[3]),
        candidates=csr(own),
        temperature=0.1,
        teacher_temperature=0.2,
        **options,
    )
    losses.sum().backward()
    x = leaves(batch(20, 31))
    expected = by_matrix(x, divergence, as_matrix(own, 31), train_teacher)
    expected.sum().backward()
    torch.testing.assert_close(losses, expected)
    for mine, other in zip(found, x, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_scores_are_taken_as_they_come():
    q, d, *_ = batch(4, 12)
    groups = torch.arange(12).reshape(4, 3)
    likelihoods = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    own = (q[:, None] * d[groups]).sum(2)
    expected = F.kl_div((own / 0.1).log_softmax(1), likelihoods.softmax(1), reduction="batchmean")
    by_groups = alignment_loss((q, d), likelihoods, candidates=groups, temperature=0.1)
    torch.testing.assert_close(by_groups, expected)
    ragged = (torch.arange(5) * 3, torch.arange(12))
    flat = alignment_loss((q, d), likelihoods.flatten(), candidates=ragged, temperature=0.1)
    torch.testing.assert_close(flat, expected)
    torch.testing.assert_close(alignment_loss(own, likelihoods, temperature=0.1), expected)


@pytest.mark.parametrize("listed", [False, True])
def test_a_teacher_that_is_not_trained_keeps_its_temperature(listed):
    q, d, tq, td = batch(4, 6)
    t, t_teacher = (torch.tensor(x, requires_grad=True) for x in (0.5, 0.7))
    lists = {"candidates": torch.arange(6).expand(4, 6)} if listed else {}
    temperatures = {"temperature": t, "teacher_temperature": t_teacher}
    alignment_loss((q, d), (tq, td), **temperatures, **lists).backward()
    assert t.grad != 0
    assert t_teacher.grad is None
    alignment_loss((q, d), (tq, td), train_teacher=True, **temperatures, **lists).backward()
    assert t_teacher.grad != 0


@pytest.mark.parametrize("listed", [False, True])
def test_threads_of_torch_change_no_bit(listed):
    n = 40_000
    q, d = vectors(n, 4), vectors(3, 4, seed=1)
    candidates = torch.arange(3).expand(n, 3) if listed else None
    bits, before = set(), torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            for dtype in (torch.float32, torch.float64):
                x, y, t = leaves([q.to(dtype), d.to(dtype), torch.tensor(0.3)])
                teacher = (q.flip(1).to(dtype), d.to(dtype))
                loss = alignment_loss((x, y), teacher, temperature=t, candidates=candidates)
                loss.backward()
                bits.add((dtype, *(float(x.detach()) for x in (loss, t.grad, y.grad[0, 0]))))
        finally:
            torch.set_num_threads(before)
    assert len(bits) == 2  # one for each dtype


def test_there_is_no_second_derivative():
    rows = leaves(batch(4, 6))
    loss = alignment_loss((rows[0], rows[1]), (rows[2], rows[3]))
    with pytest.raises(RuntimeError, match="alignment_loss: there is no second derivative"):
        torch.autograd.grad(loss, rows[0], create_graph=True)


def test_the_extension_refuses_what_it_cannot_use():
    rows, out = np.ones((3, 4), np.float32), (np.zeros((1, 3)), np.zeros(3), np.zeros(3))
    view = (rows, rows, None, None, 1.0, "")
    offsets = np.arange(4)
    for views, options, message in [
        ([], {}, "loss: expected 1 to 256 views, got 0"),
        ([view[:5]], {}, "loss: a view must have 6 parts, got 5"),
        ([(rows, rows[:0], *view[2:])], {}, "must have at least 1 row, got 3 and 0"),
        ([view, (rows[:2], rows[:2], *view[2:])], {}, "views must have 3 queries and 3 documents"),
        ([view], {"reference": 1}, "loss: reference must be -1 to 0, got 1"),
        ([view], {"listed": offsets}, "loss: listed need both offsets and indices"),
        (
            [view],
            {"mixture_first": False, "listed_offsets": offsets, "listed": offsets[:3]},
            "loss: lists are for mixture_first",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            _native.divergence("loss", views, *out, **options)


def test_the_module_is_the_function():
    q, d, tq, td = batch(5, 9)
    loss = AlignmentLoss(0.1, teacher_temperature=0.2, divergence="js")
    expected = alignment_loss(
        (q, d), (tq, td), temperature=0.1, teacher_temperature=0.2, divergence="js"
    )
    assert loss((q, d), (tq, td)) == expected
    assert "divergence='js'" in repr(loss)
    with pytest.raises(ValueError, match="divergence must be one of"):
        AlignmentLoss(divergence="kl")
    with pytest.raises(ValueError, match="reduction must be"):
        AlignmentLoss(reduction="max")
    with pytest.raises(ValueError, match="temperature must be positive"):
        AlignmentLoss(-1.0)


# ---- bad input -----------------------------------------------------------------------------------

Q, D, TQ, TD = batch(3, 5)
PAIR, TEACHER, SCORES = (Q, D), (TQ, TD), torch.zeros(3, 2)
GROUPS = torch.tensor([[0, 1], [2, 3], [4, 0]])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Q, TEACHER), {}, ValueError, "scores need candidates, unless both"),
        ((PAIR, SCORES), {}, ValueError, "scores need candidates, unless both"),
        (
            (PAIR, (TQ[:2], TD)),
            {},
            ValueError,
            "same numbers of queries .* 3 and 5 against 2 and 5",
        ),
        ((PAIR, (TQ, D)), {}, ValueError, "queries of the teacher have dim 48 but documents of th"),
        ((PAIR, [TQ]), {}, TypeError, r"teacher must be scores or a pair .*, got list"),
        ((PAIR, TEACHER), {"divergence": "kl"}, ValueError, "divergence must be one of .*'kl'"),
        ((PAIR, TEACHER), {"reduction": "max"}, ValueError, "reduction must be 'mean', 'sum'"),
        (
            (PAIR, TEACHER),
            {"temperature": 0.0},
            ValueError,
            "temperature must be positive and finite, got 0",
        ),
        (
            (PAIR, TEACHER),
            {"teacher_temperature": -1.0},
            ValueError,
            "teacher_temperature must be positive and finite, got -1",
        ),
        ((SCORES, SCORES), {"temperature": 0.0}, ValueError, "temperature must be positive"),
        (
            (PAIR, TEACHER),
            {"teacher_temperature": "x"},
            TypeError,
            "teacher_temperature must be a n",
        ),
        ((PAIR, SCORES), {"candidates": GROUPS[:0]}, ValueError, "candidates must have at least 1"),
        ((SCORES[:0], SCORES[:0]), {}, ValueError, "scores must have at least 1 row, got 0"),
        (
            (SCORES.flatten(), SCORES.flatten()),
            {"candidates": csr([[0, 1], [2, -1], [3, 4]])},
            ValueError,
            "candidates must be indices of documents, 0 to 4, got -1 for query 1",
        ),
        (
            (SCORES.flatten(), SCORES.flatten()),
            {"candidates": (torch.tensor([0, 4, 3, 6]), torch.arange(6))},
            ValueError,
            "offsets of candidates must rise",
        ),
        (
            (PAIR, SCORES),
            {"candidates": csr([[0, 1], [], []])},
            ValueError,
            "teacher scores must be",
        ),
        (
            ((1e30 * Q, 1e30 * D), SCORES),
            {"candidates": GROUPS},
            ValueError,
            "scores are beyond torch.float32",
        ),
        ((PAIR, TEACHER), {"temperature": 1.0, "log_scale": 0.0}, ValueError, "not both"),
        (
            (PAIR, TEACHER),
            {"candidates": GROUPS, "exclude": csr([[0]] * 3)},
            ValueError,
            "pass candidates or exclude, not both",
        ),
        ((SCORES, SCORES), {"exclude": csr([[0]] * 3)}, ValueError, "exclude needs embeddings"),
        ((PAIR, TEACHER), {"exclude": csr([[5], [], []])}, ValueError, "exclude .* got 5 for qu"),
        ((PAIR, TEACHER), {"candidates": GROUPS[:2]}, ValueError, "candidates must have 3 rows"),
        (
            (PAIR, TEACHER),
            {"candidates": GROUPS + 1},
            ValueError,
            "candidates .* got 5 for query 2",
        ),
        ((PAIR, TEACHER), {"candidates": 3}, TypeError, r"candidates must be \[n, k\] indices or"),
        ((PAIR, SCORES[:2]), {"candidates": GROUPS}, ValueError, "teacher scores must be one per"),
        ((SCORES, SCORES.int()), {}, TypeError, "teacher scores must be float32, .*torch.int32"),
        (
            (SCORES, SCORES / 0),
            {},
            ValueError,
            "teacher scores must be finite, got nan for query 0",
        ),
        ((PAIR, (TQ, TD / 0)), {}, ValueError, "documents of the teacher have a NaN or an infin"),
        (
            ((Q / 0, D), TEACHER),
            {"candidates": GROUPS},
            ValueError,
            "queries of the student have a NaN or an infinity in row 0",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match=f"^alignment_loss: .*{message}"):
        alignment_loss(*arguments, **options)
