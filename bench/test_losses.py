"""Speed and memory of the losses, forward and backward, against torch.

"torch" forms the whole matrix of scores, "chunks" a block of 512 queries at a time, "checkpointed"
the same and each block again in backward, and "sentence-transformers" is what its cached loss does
with embeddings, in blocks of 512: the last two need little memory.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import pytest

from tilefold import _native
from tilefold.testing import machine, measure, peak_memory

torch = pytest.importorskip(
    "torch", reason="not installed: pip install tilefold[torch]", exc_type=ImportError
)

from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tilefold.losses import alignment_loss, contrastive_loss, invariance_loss

TEMPERATURE = 0.05
CHUNK = 512


class Batch(NamedTuple):
    """Queries and documents ``[n, dim]`` of unit length; document i is the positive of query i."""

    queries: Any
    documents: Any

    def leaves(self) -> tuple[Any, Any]:
        return tuple(x.detach().requires_grad_() for x in self)  # type: ignore[return-value]


def make_batch(n: int, dim: int, dtype: Any = None) -> Batch:
    generator = torch.Generator().manual_seed(0)
    parts = (torch.randn(n, dim, generator=generator) for _ in range(2))
    return Batch(*(F.normalize(x, dim=1).to(dtype or torch.float32) for x in parts))


def step(loss: Any, batch: Batch) -> tuple[Any, Any, Any]:
    """Loss and both gradients."""
    queries, documents = batch.leaves()
    value = loss(queries, documents)
    value.backward()
    return value.detach(), queries.grad, documents.grad


def fused(q: Any, d: Any, *, symmetric: bool = False) -> Any:
    target = torch.arange(len(q))
    return contrastive_loss(q, d, target, temperature=TEMPERATURE, symmetric=symmetric)


def whole(q: Any, d: Any, *, symmetric: bool = False) -> Any:
    scores, target = q @ d.T / TEMPERATURE, torch.arange(len(q))
    if not symmetric:
        return F.cross_entropy(scores, target)
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


def one_chunk(q: Any, d: Any, first: int) -> Any:
    target = torch.arange(first, first + len(q))
    return F.cross_entropy(q @ d.T / TEMPERATURE, target, reduction="sum")


def in_chunks(q: Any, d: Any, *, again: bool = False) -> Any:
    run = partial(checkpoint, one_chunk, use_reentrant=False) if again else one_chunk
    parts = [run(part, d, i * CHUNK) for i, part in enumerate(q.split(CHUNK))]
    return torch.stack(parts).sum() / len(q)


def cached_stage(batch: Batch) -> tuple[Any, Any, Any]:
    """Gradients of embeddings as sentence-transformers forms them between its two passes."""
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
    )
    from sentence_transformers.util import dot_score

    loss = CachedMultipleNegativesRankingLoss(
        torch.nn.Sequential(torch.nn.Identity()), 1 / TEMPERATURE, dot_score, mini_batch_size=CHUNK
    )
    queries, documents = batch.leaves()
    value = loss.calculate_loss([[queries], [documents]], with_backward=True)
    return value, queries.grad, documents.grad


def whole_in_bfloat16(q: Any, d: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return whole(q, d)


def agrees(name: str, ours: Any, theirs: Any) -> int:
    """The same loss and gradients up to the rounding of fp32 scores, or of bfloat16 ones."""
    tolerance = 0.05 if ours[1].dtype == torch.bfloat16 else 1e-4
    for mine, other in zip(ours, theirs, strict=True):
        error = (mine.double() - other.double()).norm() / other.double().norm()
        assert error < tolerance, f"{name}: {error}"
    return 0


def gflop(batch: Batch, products: int = 3) -> float:
    n, dim = batch.queries.shape
    return 2e-9 * products * n * n * dim


@pytest.fixture
def large(quick: bool) -> Batch:
    return make_batch(*((600, 32) if quick else (8192, 768)))


# ---- the table -----------------------------------------------------------------------------------


def test_large_batch(compare, large, quick):
    n, dim = large.queries.shape
    contenders = {
        "tilefold": partial(step, fused, large),
        "torch": partial(step, whole, large),
        "chunks": partial(step, in_chunks, large),
        "checkpointed": partial(step, partial(in_chunks, again=True), large),
        "sentence-transformers": partial(cached_stage, large),
    }
    case = f"contrastive, N = {n:,}"
    targets = {"torch": None, "chunks": None, "checkpointed": 1.6, "sentence-transformers": 1.6}
    work = {"gflop_per_s": gflop(large)}
    outcome = compare.run(case, contenders, targets, work=work, check=agrees)
    peak = 2 * _native.peak("fp32") / 1e9
    rate = gflop(large) / outcome.timings["tilefold"].median
    line = compare.table.add(
        f"{case}, two cores",
        f"{rate:,.0f} GFLOP/s",
        rate / peak,
        target=0.8,
        against="of the FMA peak",
        peers=f"fp32 peak {peak:,.0f} GFLOP/s",
    )
    gradients = 2 * 4 * n * dim
    ours, theirs = (outcome.memory[name].bytes - gradients for name in ("tilefold", "torch"))
    memory = compare.table.add(
        f"{case}: memory beyond gradients",
        f"{ours / 1e6:,.1f} MB",
        ours / theirs if theirs > 0 else None,
        target=0.1,
        at_most=True,
        against="x torch",
        peers=f"torch {theirs / 1e6:,.0f} MB",
    )
    compare.extra_info["lines"] = [line._asdict(), memory._asdict()]


def test_huge_batch(compare, benchmark, quick):
    """What nobody else can do here: the matrix and its gradient would take 13 GB."""
    batch = make_batch(*((900, 32) if quick else (32_768, 768)))
    n, dim = batch.queries.shape
    run = partial(step, fused, batch)
    with peak_memory() as peak:
        run()
    timing = measure({"tilefold": run}, repeats=1, warmup=0)["tilefold"]
    benchmark.pedantic(run, rounds=1)
    beyond = peak.bytes - 2 * 4 * n * dim
    lines = [
        compare.table.add(
            f"contrastive, N = {n:,}: memory beyond gradients",
            f"{beyond / 1e6:,.1f} MB",
            beyond / (64 * 2**20 + 64 * n),
            target=1.0,
            at_most=True,
            against="x (64 MiB + 64 bytes a row)",
            peers=f"the matrix {4e-6 * n * n:,.0f} MB",
        ),
        compare.table.add(
            f"contrastive, N = {n:,}, two cores",
            f"{gflop(batch) / timing.median:,.0f} GFLOP/s",
            gflop(batch) / timing.median / (2 * _native.peak("fp32") / 1e9),
            target=0.8,
            against="of the FMA peak",
            peers=f"{timing.median:,.1f} s",
        ),
    ]
    compare.extra_info.update(machine=machine(), targets=[line._asdict() for line in lines])


def test_bfloat16(compare, quick):
    # Without AVX-512 torch takes bfloat16 apart, and minutes for a batch of 8,192.
    n = 8192 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else 1024
    batch = make_batch(*((600, 32) if quick else (n, 768)), torch.bfloat16)
    contenders = {
        "tilefold": partial(step, fused, batch),
        "torch": partial(step, whole_in_bfloat16, batch),
    }
    case = f"contrastive, N = {len(batch.queries):,}, bfloat16"
    work = {"gflop_per_s": gflop(batch)}
    outcome = compare.run(case, contenders, {"torch": 1.4}, work=work, check=agrees)
    kind = "bf16" if machine()["row"].endswith("bf16") else "fp32"
    peak = 2 * _native.peak(kind) / 1e9
    rate = gflop(batch) / outcome.timings["tilefold"].median
    line = compare.table.add(
        f"{case}, two cores",
        f"{rate:,.0f} GFLOP/s",
        rate / peak,
        against=f"of the {kind} peak",
        peers=f"{kind} peak {peak:,.0f} GFLOP/s",
    )
    compare.extra_info["lines"] = [line._asdict()]


def test_symmetric(compare, large):
    contenders = {
        "tilefold": partial(step, partial(fused, symmetric=True), large),
        "torch": partial(step, partial(whole, symmetric=True), large),
    }
    case = f"contrastive, N = {len(large.queries):,}, symmetric"
    work = {"gflop_per_s": gflop(large, products=4)}
    compare.run(case, contenders, {"torch": 1.1}, work=work, check=agrees)


@pytest.mark.parametrize(("n", "dim"), [(64, 384), (1024, 768)])
def test_small_batch(compare, n, dim):
    batch = make_batch(n, dim)
    contenders = {"tilefold": partial(step, fused, batch), "torch": partial(step, whole, batch)}
    case = f"contrastive, N = {n:,}, d = {dim}"
    compare.run(case, contenders, {"torch": 1.0}, work={"gflop_per_s": gflop(batch)}, check=agrees)


# ---- other losses --------------------------------------------------------------------------------


def gradients(loss: Any, *rows: Any) -> tuple[Any, ...]:
    """Loss and the gradients of all rows."""
    leaves = [x.detach().requires_grad_() for x in rows]
    value = loss(*leaves)
    value.backward()
    return (value.detach(), *(x.grad for x in leaves))


@pytest.mark.parametrize("divergence", ["forward_kl", "js"])
def test_alignment(compare, quick, divergence):
    n, dim, teacher_dim = (600, 32, 16) if quick else (8192, 768, 384)
    student, teacher = make_batch(n, dim), make_batch(n, teacher_dim)

    def fused_alignment(q: Any, d: Any) -> Any:
        return alignment_loss((q, d), tuple(teacher), temperature=0.05, divergence=divergence)

    def whole_alignment(q: Any, d: Any) -> Any:
        log_s = F.log_softmax(q @ d.T / 0.05, 1)
        log_t = F.log_softmax(teacher.queries @ teacher.documents.T, 1)
        if divergence == "forward_kl":
            return F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
        log_m = torch.logaddexp(log_s, log_t) - torch.log(torch.tensor(2.0))
        halves = (
            F.kl_div(log_m, x, reduction="batchmean", log_target=True) for x in (log_s, log_t)
        )
        return sum(halves) / 2

    contenders = {
        "tilefold": partial(gradients, fused_alignment, *student),
        "torch": partial(gradients, whole_alignment, *student),
    }
    compare.run(
        f"alignment, {divergence}, N = {n:,}",
        contenders,
        {"torch": None},
        work={"gflop_per_s": gflop(student) + gflop(teacher, products=1)},
        check=agrees,
    )


def test_invariance(compare, quick):
    n, dim = (600, 32) if quick else (4096, 768)
    views = torch.stack([make_batch(n, dim).queries.roll(s, 1) for s in range(3)])
    documents = make_batch(n, dim).documents

    def fused_invariance(q: Any, d: Any) -> Any:
        return invariance_loss(q, d, temperature=0.05).loss

    def whole_invariance(q: Any, d: Any) -> Any:
        log_p = F.log_softmax(q @ d.T / 0.05, 2)
        log_mean = torch.logsumexp(log_p.detach(), 0) - torch.log(torch.tensor(3.0))
        each = [F.kl_div(x, log_mean, reduction="batchmean", log_target=True) for x in log_p]
        return torch.stack(each).mean()

    contenders = {
        "tilefold": partial(gradients, fused_invariance, views, documents),
        "torch": partial(gradients, whole_invariance, views, documents),
    }
    compare.run(
        f"invariance, 3 views, N = {n:,}",
        contenders,
        {"torch": None},
        work={"gflop_per_s": 3 * gflop(Batch(views[0], documents))},
        check=agrees,
    )
