"""The loss stage of Invar-RAG's retriever at 512 candidates of a query: time, memory, its share.

The stage is contrastive loss, alignment to a coarse encoder and invariance of three views, from
given embeddings to their gradients. "torch" is what one writes by hand: the scores of all views
with all passages of the batch, once, and the three losses of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

WHY = "not installed: pip install tilefold[train]"
torch = pytest.importorskip("torch", reason=WHY, exc_type=ImportError)
pytest.importorskip("transformers", reason=WHY, exc_type=ImportError)

from torch.nn import functional as F

from tilefold.data import TrainingSet
from tilefold.losses import AlignmentLoss, ContrastiveLoss, InvarianceLoss
from tilefold.models import BiEncoder, minilm
from tilefold.ragged_lists import Lists
from tilefold.testing import machine, measure, peak_memory
from tilefold.train import (
    Batch,
    ContrastiveObjective,
    DistillationObjective,
    Draw,
    DrawTeacher,
    DrawViews,
    InvarianceObjective,
    WeightedObjective,
    train_step,
)

REWRITES = 2  # of a query in a step
WORDS = 8, 29  # of a query, of a passage; with prefix and special tokens about 32 tokens
# Temperatures and weights of the study.
TEMPERATURE, TEACHER_TEMPERATURE = 0.01, 0.05
WEIGHTS = {"contrastive": 1.0, "alignment": 1.0, "invariance": 2.0}
# Buffers of the losses and of the C heap, whatever the batch.
CONSTANT = 64 * 2**20

Embeddings = dict[str, Any]


class Stage(NamedTuple):
    """A batch, and unit vectors for each of its sides."""

    batch: Batch
    embeddings: Embeddings

    def bytes(self) -> int:
        return sum(x.nbytes for x in self.embeddings.values())


@pytest.fixture(scope="module")
def candidates(quick: bool) -> int:
    return 8 if quick else 512


@pytest.fixture(scope="module")
def encoder() -> BiEncoder:
    """A model for objectives that are given embeddings."""
    return BiEncoder(minilm())


def texts(n: int, words: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    known = ["passages", "are", "found", "by", "dense", "vectors", "exactly", "on", "any", "day"]
    # A number keeps texts apart: equal ones would not be negatives of each other's queries.
    return [f"{i} " + " ".join(rng.choice(known, words - 1)) for i in range(n)]


def batch_of(n: int, candidates: int) -> Batch:
    """n queries with a positive, hard negatives, scores of a coarse encoder, and rewrites."""
    m = n * candidates
    queries, passages = (texts(*size, seed=0) for size in ((n, WORDS[0]), (m, WORDS[1])))
    names = [str(i) for i in range(m)]
    first = candidates * np.arange(n)[:, None]
    lists = Lists.pack(first), Lists.pack(first + np.arange(1, candidates))
    data = TrainingSet(names[:n], queries, names, passages, *lists, [()] * n)
    coarse = (unit_vectors(rows, 32, seed=rows).numpy() for rows in (n, m))
    policy = DrawTeacher(Draw(data, group_size=candidates, seed=0), *coarse)
    rewrites = [[f"{query} {i}" for i in range(REWRITES)] for query in queries]
    return DrawViews(policy, rewrites, n_views=REWRITES, seed=0).batch(range(n), step=0)


def unit_vectors(n: int, dim: int, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, dim, generator=generator), dim=1)


def stage_of(n: int, candidates: int, dim: int) -> Stage:
    """Rewrites are close to their query; of the passages a positive is, but not beyond all."""
    queries, documents = unit_vectors(n, dim, 1), unit_vectors(n * candidates, dim, 2)
    documents[::candidates] += 0.2 * queries
    views = {"queries": queries} | {
        f"queries/{view}": F.normalize(queries + unit_vectors(n, dim, 2 + view), dim=1)
        for view in range(1, REWRITES + 1)
    }
    return Stage(batch_of(n, candidates), {**views, "documents": F.normalize(documents, dim=1)})


def objective_of(model: BiEncoder, **options: Any) -> WeightedObjective:
    """The objective that the study of Invar-RAG trains a retriever with, without its ramp."""
    alignment = AlignmentLoss(TEMPERATURE, teacher_temperature=TEACHER_TEMPERATURE)
    invariance = InvarianceLoss(temperature=TEMPERATURE)
    return WeightedObjective(
        {
            "contrastive": ContrastiveObjective(model, ContrastiveLoss(TEMPERATURE)),
            "alignment": DistillationObjective(model, alignment),
            "invariance": InvarianceObjective(model, invariance, **options),
        },
        WEIGHTS,
    )


Loss = Callable[[Batch, Mapping[str, Any]], Any]


def fused(objective: WeightedObjective, batch: Batch, embeddings: Mapping[str, Any]) -> Any:
    return objective.compute_loss(batch, embeddings).value


def whole(own: bool, batch: Batch, embeddings: Mapping[str, Any]) -> Any:
    """The same with all scores in memory; `own`: invariance over the passages of the query."""
    documents = embeddings["documents"]
    views = torch.stack([x for side, x in embeddings.items() if side != "documents"])
    scores = views @ documents.T / TEMPERATURE  # [views, batch, passages]
    contrastive = F.cross_entropy(scores[0], batch.positives)
    assert batch.teacher is not None
    listed = batch.teacher.indices.reshape(len(batch.queries), -1)
    teacher = batch.teacher.scores.reshape(listed.shape) / TEACHER_TEMPERATURE
    student = F.log_softmax(scores[0].gather(1, listed), 1)
    alignment = F.kl_div(student, F.log_softmax(teacher, 1), reduction="batchmean", log_target=True)
    if own:
        scores = scores.gather(2, listed.expand(len(views), -1, -1))
    log_p = F.log_softmax(scores, 2)
    log_mean = torch.logsumexp(log_p.detach(), 0) - np.log(len(views))
    divergences = F.kl_div(log_p, log_mean.expand_as(log_p), reduction="none", log_target=True)
    parts = contrastive, alignment, divergences.sum(2).mean()
    return sum(weight * part for weight, part in zip(WEIGHTS.values(), parts, strict=True))


def gradients(loss: Loss, stage: Stage) -> tuple[Any, ...]:
    """The loss, and the gradients of all embeddings."""
    leaves = {side: x.detach().requires_grad_() for side, x in stage.embeddings.items()}
    value = loss(stage.batch, leaves)
    value.backward()
    return (value.detach(), *(x.grad for x in leaves.values()))


def agrees(name: str, ours: Any, theirs: Any) -> int:
    """The same loss and gradients up to the rounding of fp32 scores."""
    for mine, other in zip(ours, theirs, strict=True):
        error = (mine.double() - other.double()).norm() / other.double().norm()
        assert error < 1e-4, f"{name}: {error}"
    return 0


@pytest.mark.parametrize(("n", "own"), [(16, False), (32, False), (64, False), (64, True)])
@pytest.mark.parametrize("dim", [384, 768])
def test_loss_stage(compare, quick, encoder, candidates, dim, n, own):
    stage = stage_of(n // 8 if quick else n, candidates, dim // 8 if quick else dim)
    objective = objective_of(encoder, candidates="own" if own else "batch")
    contenders = {
        "tilefold": partial(gradients, partial(fused, objective), stage),
        "torch": partial(gradients, partial(whole, own), stage),
    }
    n = len(stage.batch.queries)
    case = f"loss stage, {n} x {candidates}, d = {stage.embeddings['documents'].shape[1]}"
    case += ", invariance of own candidates" if own else ""
    compare.run(case, contenders, {"torch": None}, work={"queries_per_s": n}, check=agrees)


@pytest.mark.parametrize("dim", [384, 768])
def test_memory_beyond_gradients(compare, benchmark, quick, encoder, candidates, dim):
    """Gradients of one more loss while they are summed, and a block of scores: no matrices."""
    dim = dim // 8 if quick else dim
    loss = {"tilefold": partial(fused, objective_of(encoder)), "torch": partial(whole, False)}
    lines = []
    for n in (2, 4, 8) if quick else (16, 32, 64):
        stage = stage_of(n, candidates, dim)
        beyond = {
            name: memory_beyond(partial(gradients, loss[name], stage), stage) for name in loss
        }
        lines.append(
            compare.table.add(
                f"loss stage, {n} x {candidates}, d = {dim}: memory beyond gradients",
                f"{beyond['tilefold'] / 2**20:.1f} MiB",
                beyond["tilefold"] / (stage.bytes() + CONSTANT),
                target=1.0,
                at_most=True,
                against="x (embeddings + 64 MiB)",
                peers=f"embeddings {stage.bytes() / 2**20:.1f} MiB, "
                f"torch {beyond['torch'] / 2**20:.1f} MiB",
            )
        )
    benchmark.pedantic(partial(gradients, loss["tilefold"], stage), rounds=1)
    compare.extra_info.update(machine=machine(), targets=[line._asdict() for line in lines])


def memory_beyond(call: Callable[[], Any], stage: Stage) -> int:
    """Peak bytes beyond the gradients of the embeddings: the least of three calls.

    The C heap keeps up to 64 MiB that were freed, or not, as its blocks happen to lie.
    """
    call()
    peaks = []
    for _ in range(3):
        with peak_memory() as peak:
            call()
        peaks.append(peak.bytes)
    return min(peaks) - stage.bytes()


# ---- the share of a step -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def retriever(quick: bool, tmp_path_factory: pytest.TempPathFactory) -> BiEncoder:
    """A Llama of width 256 and four layers with an adapter, random weights."""
    import transformers

    from tilefold.invar import UnifiedLM
    from tilefold.models import Lora

    pytest.importorskip("peft", reason=WHY)
    folder: Path = tmp_path_factory.mktemp("llama")
    tokenizer = minilm().tokenizer
    tokenizer.eos_token = tokenizer.sep_token
    tokenizer.save_pretrained(folder)
    width, layers = (32, 1) if quick else (256, 4)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return UnifiedLM.from_pretrained(folder, retrieval=Lora(32, 64.0), generation=None).retriever


def test_share_of_a_step(compare, benchmark, quick, retriever, candidates):
    """Encoding takes time in proportion to the batch, so a larger batch need not be encoded."""
    n, large = (2, 8) if quick else (2, 64)
    objective = objective_of(retriever)
    batch = batch_of(n, candidates)
    dim = retriever.dim
    contenders = {
        "step": partial(train_step, objective, batch),
        "stage": partial(gradients, partial(fused, objective), stage_of(n, candidates, dim)),
    }
    step, stage = measure(contenders, repeats=1, warmup=1).values()
    loss = partial(gradients, partial(fused, objective), stage_of(large, candidates, dim))
    large_stage = measure({"stage": loss}, repeats=1 if quick else 5)["stage"]
    encoding = (step.median - stage.median) / n * large
    benchmark.pedantic(contenders["stage"], rounds=1)
    lines = [
        compare.table.add(
            f"loss stage of a step, {size} x {candidates}, {layers_of(retriever)}",
            f"{1e3 * own:.1f} ms",
            own / whole_step,
            target=0.1,
            at_most=True,
            against="of the step",
            peers=f"step {whole_step:,.1f} s{how}",
        )
        for size, own, whole_step, how in (
            (n, stage.median, step.median, ""),
            (large, large_stage.median, encoding + large_stage.median, f" by encoding {n}"),
        )
    ]
    compare.extra_info.update(machine=machine(), targets=[line._asdict() for line in lines])


def layers_of(retriever: BiEncoder) -> str:
    config = retriever.query_encoder.model.config
    return f"Llama {config.hidden_size} x {config.num_hidden_layers}"
