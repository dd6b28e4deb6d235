"""contrastive_loss over ranks against one process: values, gradients, masks, DDP, bad input.

Starting ranks takes seconds, so each number of them is started once, and goes through everything.
"""

import contextlib
import datetime
import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import tilefold
from ragged import csr
from tilefold import reference
from tilefold.integrations.sentence_transformers import (
    CachedInBatchContrastiveLoss,
    InBatchContrastiveLoss,
)
from tilefold.losses import ContrastiveLoss, contrastive_loss
from tilefold.losses.gradcache import cached_backward
from tilefold.testing import assert_as_close_as_torch, peak_memory

DIM = 6
QUERIES, DOCUMENTS = [5, 3, 6, 2], [11, 4, 6, 9]  # of each rank
Lists = list[list[int]]
Results = list[dict[str, Any]]  # of each rank, by name of the case


# ---- a batch, whole and in parts -----------------------------------------------------------------


def vectors(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1).to(dtype)


def drawn(rank: int, least: int, most: int, seed: int) -> Lists:
    """So many documents of this rank for each of its queries."""
    rng, n, m = np.random.default_rng([rank, seed]), QUERIES[rank], DOCUMENTS[rank]
    most = min(most, m)
    return [rng.choice(m, rng.integers(least, most + 1), replace=False).tolist() for _ in range(n)]


def ids(rank: int, rows: list[int], seed: int) -> Tensor:
    """Few enough to occur on several ranks."""
    return torch.as_tensor(np.random.default_rng([rank, seed]).integers(0, 7, rows[rank]))


def part(rank: int, *given: str) -> dict[str, Any]:
    """What a rank passes; `given` names the masks that it passes, too."""
    lists = drawn(rank, 1, 3, 1) if "lists" in given else [[i % 4] for i in range(QUERIES[rank])]
    masks: dict[str, Any] = {
        "exclude": drawn(rank, 0, 2, 2),
        "exclude_ids": drawn(rank, 0, 2, 5),
        "query_ids": ids(rank, QUERIES, 3),
        "document_ids": ids(rank, DOCUMENTS, 4),
        "soft_targets": torch.cat([torch.full((len(part),), 1 / len(part)) for part in lists]),
    }
    return {"positives": lists, **{name: masks[name] for name in given if name != "lists"}}


def whole(world: int, *given: str) -> dict[str, Any]:
    """The same of all ranks, concatenated."""
    parts = [part(rank, *given) for rank in range(world)]
    first = np.cumsum([0, *DOCUMENTS])
    joined: dict[str, Any] = {}
    for name, value in parts[0].items():
        if isinstance(value, Tensor):
            joined[name] = torch.cat([p[name] for p in parts])
        else:
            joined[name] = [
                [int(i + (0 if name == "exclude_ids" else first[rank])) for i in row]
                for rank, p in enumerate(parts)
                for row in p[name]
            ]
    return joined


def arguments(values: dict[str, Any]) -> dict[str, Any]:
    return {n: csr(value) if isinstance(value, list) else value for n, value in values.items()}


def embeddings(world: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    n, m = sum(QUERIES[:world]), sum(DOCUMENTS[:world])
    return vectors(n, DIM, dtype=dtype), vectors(m, DIM, seed=1, dtype=dtype)


def own(rows: Tensor, sizes: list[int], rank: int) -> Tensor:
    first = sum(sizes[:rank])
    return rows[first : first + sizes[rank]]


def leaves(rank: int, world: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    q, d = embeddings(world, dtype)
    parts = own(q, QUERIES, rank), own(d, DOCUMENTS, rank)
    return [x.clone().requires_grad_() for x in parts]


# ---- what every rank does ------------------------------------------------------------------------

MASKS: list[tuple[str, ...]] = [
    (),
    ("lists",),
    ("lists", "exclude"),
    ("lists", "query_ids"),
    ("document_ids",),
    ("exclude_ids", "document_ids"),
    ("lists", "exclude", "exclude_ids", "query_ids", "document_ids"),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"reduction": "sum"},
    {"reduction": "none"},
    {"mode": "sum"},
    {"symmetric": True},
    {"symmetric": True, "mode": "sum", "reduction": "sum"},
]
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "-".join([*given, *(f"{name}={value}" for name, value in options.items())]) or "plain": (
        given,
        options,
    )
    for given in MASKS
    for options in OPTIONS
}
for options in OPTIONS[:3]:
    given = ("lists", "exclude", "query_ids", "document_ids", "soft_targets")
    CASES["soft-" + str(options.get("reduction", "mean"))] = given, options
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def scored(q: Tensor, d: Tensor, **options: Any) -> dict[str, Tensor]:
    """The loss, and gradients of all that it depends on; losses weighed by 1, 2, ..."""
    log_scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    loss = contrastive_loss(q, d, log_scale=log_scale, **options)
    loss.sum().backward()
    return {"loss": loss.detach(), "queries": q.grad, "documents": d.grad, "scale": log_scale.grad}


def of_cases(rank: int, world: int) -> Iterator[tuple[str, Any]]:
    for name, (given, options) in CASES.items():
        masks = arguments(part(rank, *given))
        yield name, scored(*leaves(rank, world), **masks, **options, process_group=group())
    for dtype in DTYPES:
        found = scored(*leaves(rank, world, dtype), **arguments(part(rank)), process_group=group())
        yield str(dtype), found


def group() -> dist.ProcessGroup:
    assert dist.group.WORLD is not None
    return dist.group.WORLD


def towers() -> tuple[nn.Module, nn.Module, ContrastiveLoss]:
    torch.manual_seed(5)
    first, second = (nn.Sequential(nn.Linear(DIM, 8), nn.Tanh(), nn.Linear(8, 4)) for _ in "qd")
    return first.double(), second.double(), ContrastiveLoss(0.2, learn_temperature=True).double()


class TwoTowers(nn.Module):
    """With the loss inside, so that DDP knows of its temperature."""

    def __init__(self, process_group: dist.ProcessGroup | None = None) -> None:
        super().__init__()
        self.queries, self.documents, self.loss = towers()
        self.loss.process_group = process_group

    def forward(self, q: Tensor, d: Tensor) -> Tensor:
        return self.loss(self.queries(q), self.documents(d))


def of_training(rank: int, world: int) -> Iterator[tuple[str, Any]]:
    """One backward pass of two towers, with and without caching."""
    q, d = (x.detach() for x in leaves(rank, world))
    model = TwoTowers(group())
    replica = DistributedDataParallel(model)  # its hooks go with it
    replica(q, d).backward()
    yield "DDP", parameters(model)

    chunks = q.split(2), d.split(3 + rank)  # not as many on each rank
    model = TwoTowers(group())
    queries, documents, loss = (DistributedDataParallel(part) for part in model.children())
    cached_backward(loss, (queries, chunks[0]), (documents, chunks[1]))
    yield "DDP, cached", parameters(model)

    @contextlib.contextmanager
    def no_sync() -> Iterator[None]:
        with queries.no_sync(), documents.no_sync():
            yield

    model = TwoTowers(group())
    queries, documents = (DistributedDataParallel(part) for part in list(model.children())[:2])
    functions = (lambda x: queries(x), chunks[0]), (lambda x: documents(x), chunks[1])
    cached_backward(model.loss, *functions, no_sync=no_sync)
    yield "DDP of functions, not of the loss", parameters(model)


def parameters(model: nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


class Words(nn.Embedding):
    """What the losses for sentence-transformers take for a model."""

    def __init__(self) -> None:
        torch.manual_seed(9)
        super().__init__(9, DIM, dtype=torch.float64)
        self.register_buffer("positions", torch.arange(3))  # which DDP sends around

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": super().forward(features["input_ids"]).mean(1)}


def columns(rank: int) -> list[dict[str, Tensor]]:
    """Anchors of three words, and documents of two: some of each repeat those of other ranks."""
    rng, n = np.random.default_rng([rank, 8]), QUERIES[rank]
    anchors = np.concatenate([[[1, 2, 3]], rng.integers(0, 9, (n - 1, 3))])
    positives = np.concatenate([rng.integers(0, 9, (n - 1, 2)), [[4, 5]]])
    parts = anchors, positives, rng.integers(0, 9, (n, 2))
    return [{"input_ids": torch.as_tensor(ids)} for ids in parts]


def of_columns(rank: int, world: int) -> Iterator[tuple[str, Any]]:
    """Losses for sentence-transformers of models that DDP knows, with a temperature it does not."""
    for make, options in LOSSES:
        model = Words()
        loss = make(DistributedDataParallel(model), **options, process_group=group()).double()
        value = loss(columns(rank))
        value.backward()
        log_scale = loss.objective.log_scale
        found = {"loss": value.detach(), "words": model.weight.grad, "scale": log_scale.grad}
        yield f"{make.__name__}, {options}", found
    alone = InBatchContrastiveLoss(DistributedDataParallel(Words()), learn_temperature=True)
    with pytest.raises(ValueError, match="would become another in each process"):
        alone(columns(rank))


LOSSES: list[tuple[type[InBatchContrastiveLoss], dict[str, Any]]] = [
    (make, {"learn_temperature": True, "temperature": 0.3, "symmetric": symmetric, **more})
    for make, more in (
        (InBatchContrastiveLoss, {}),
        (CachedInBatchContrastiveLoss, {"mini_batch_size": 2}),
    )
    for symmetric in (False, True)
]


def of_patterns(rank: int, world: int) -> Iterator[tuple[str, Any]]:
    """Who wants which gradient, and when."""
    masks = arguments(part(rank, "lists")) | {"process_group": group()}
    for symmetric in (False, True):
        for frozen in ("queries", "documents"):
            q, d = leaves(rank, world)
            if rank == 1:
                (q if frozen == "queries" else d).requires_grad_(False)
            found = scored(q, d, symmetric=symmetric, **masks)
            yield f"{frozen} frozen on rank 1, {symmetric}", found
        q, d = (x.detach() for x in leaves(rank, world))
        yield f"only the scale, {symmetric}", scored(q, d, symmetric=symmetric, **masks)
        q, d = leaves(rank, world)
        loss = contrastive_loss(q, d, symmetric=symmetric, **masks)
        twice = [torch.autograd.grad(3 * loss, (q, d), retain_graph=True) for _ in range(2)]
        yield f"twice, {symmetric}", twice
        with torch.no_grad():
            loss = contrastive_loss(q, d, symmetric=symmetric, **masks)
        yield f"no graph, {symmetric}", loss


def of_rounding(rank: int, world: int) -> Iterator[tuple[str, Any]]:
    """Replicas of a learned scale that differ in their last bits."""
    log_scale = torch.tensor(1.5 + rank * 1e-9, dtype=torch.float64)
    q, d = leaves(rank, world)
    yield (
        "rounded",
        contrastive_loss(
            q, d, **arguments(part(rank)), log_scale=log_scale, process_group=group()
        ).detach(),
    )


def of_errors(rank: int, world: int) -> Iterator[tuple[str, Any]]:
    """What rank 1 alone does wrong."""
    for name, (wrong, _) in WRONG.items():
        q, d = leaves(rank, world, torch.float32)
        q, d, options = q.detach(), d.detach(), arguments(part(rank)) | {"mode": "each"}
        if rank == 1:
            q, d, changes = wrong(q, d)
            options |= changes
        try:
            contrastive_loss(q, d, **options, process_group=group())
        except Exception as error:
            yield f"wrong {name}", f"{type(error).__name__}: {error}"
    q, d = leaves(rank, world)
    with torch.set_grad_enabled(rank != 1), pytest.raises(ValueError, match="grad mode") as caught:
        contrastive_loss(q, d, **arguments(part(rank)), process_group=group())
    yield "wrong grad mode", f"{type(caught.value).__name__}: {caught.value}"


Changed = tuple[Tensor, Tensor, dict[str, Any]]
WRONG: dict[str, tuple[Callable[[Tensor, Tensor], Changed], str]] = {
    "index": (
        lambda q, d: (q, d, {"positives": torch.arange(3) + 2}),
        "rank 1: positives must be indices of documents, 0 to 3, got 4 for query 2",
    ),
    "ids": (
        lambda q, d: (q, d, {"query_ids": torch.arange(2)}),
        "rank 1: query_ids must have 3 elements, got 2",
    ),
    "queries": (
        lambda q, d: (q / 0, d, {}),
        "rank 1: queries have a NaN or an infinity in row 0",
    ),
    "documents": (
        lambda q, d: (q, d.index_fill(0, torch.tensor([2]), float("nan")), {}),
        "rank 1: documents have a NaN or an infinity in row 2",
    ),
    "lists": (
        lambda q, d: (q, d, {"positives": csr([[0], [1], []])}),
        "rank 1: query 2 has no positive",
    ),
    "exclude": (
        lambda q, d: (q, d, {"exclude": csr([[0], [4], []])}),
        "rank 1: exclude must be indices of documents, 0 to 3, got 4 for query 1",
    ),
    "shares": (
        lambda q, d: (q, d, {"soft_targets": torch.full((3,), 0.5)}),
        "rank 1: soft_targets of a query must sum to one, got 0.5 for query 0",
    ),
    "temperature": (
        lambda q, d: (q, d, {"temperature": 0.0}),
        "rank 1: temperature must be positive",
    ),
    "type": (
        lambda q, d: (q, d.int(), {}),
        "rank 1: documents must be float32, bfloat16, float16 or float64, got torch.int32",
    ),
    "nothing": (
        lambda q, d: (q[:0], d, {}),
        "rank 1: offsets of positives must have 1 elements, one more than queries, got 4",
    ),
    "mode": (
        lambda q, d: (q, d, {"mode": "sum"}),
        "mode must be the same on all ranks, but is each on rank 0 and sum on rank 1",
    ),
    "dim": (
        lambda q, d: (q[:, :4], d[:, :4], {}),
        "dim must be the same on all ranks, but is 6 on rank 0 and 4 on rank 1",
    ),
    "dtype": (
        lambda q, d: (q.bfloat16(), d.bfloat16(), {}),
        "dtype must be the same on all ranks, but is torch.float32 on rank 0 and torch.bfloat16 on",
    ),
    "scale": (
        lambda q, d: (q, d, {"temperature": 0.9}),
        "scale must be the same on all ranks, but is 1.0 on rank 0 and 1.11",
    ),
    "masks": (
        lambda q, d: (q, d, {"document_ids": torch.arange(4)}),
        "document_ids must be the same on all ranks, but is absent on rank 0 and given on rank 1",
    ),
}


# Rank 1 has no queries, or neither queries nor documents.
EMPTY = {
    f"{missing}-{'-'.join(given)}-{options}": (missing, given, options)
    for missing in ("queries", "all")
    for given in ((), ("lists", "exclude", "exclude_ids", "query_ids", "document_ids"))
    for options in ({}, {"symmetric": True}, {"mode": "sum", "reduction": "none"})
}
EMPTY["soft"] = "all", ("lists", "soft_targets"), {}


def emptied(rank: int, world: int, missing: str, *given: str) -> tuple[list[Tensor], Any]:
    """Embeddings and masks of a rank where rank 1 has none."""
    q, d = leaves(rank, world)
    masks = part(rank, *given)
    if rank == 1:
        of_documents = ("document_ids",) if missing == "queries" else ()
        masks = {n: value if n in of_documents else value[:0] for n, value in masks.items()}
        d = d if missing == "queries" else d[:0]
        q, d = (x.detach().clone().requires_grad_() for x in (q[:0], d))
    return [q, d], masks


def of_empty(rank: int, world: int) -> Iterator[tuple[str, Any]]:
    """What a rank without rows adds: nothing, and it waits for nobody."""
    for name, (missing, given, options) in EMPTY.items():
        (q, d), masks = emptied(rank, world, missing, *given)
        yield f"empty {name}", scored(q, d, **arguments(masks), **options, process_group=group())
    q, d = (x[:0] for x in leaves(rank, world))
    with pytest.raises(ValueError, match="at least 1 row on some rank, got 0 on all"):
        contrastive_loss(q, d, torch.arange(0), process_group=group())


def of_groups(rank: int, world: int) -> Iterator[tuple[str, Any]]:
    """Every other rank forms a group of its own; the rest is outside."""
    odd = dist.new_group(list(range(1, world, 2)))
    masks = arguments(part(rank))
    try:
        yield "group", scored(*leaves(rank, world), **masks, process_group=odd)
    except TypeError as error:
        yield "group", str(error)


def of_memory(rank: int, world: int) -> Iterator[tuple[str, Any]]:
    """A rank's scores would take 320 MiB."""
    n, m = 2048, 40_960
    q, d = (x.requires_grad_() for x in (vectors(n, 8).float(), vectors(m // world, 8).float()))
    with peak_memory() as peak:
        contrastive_loss(q, d, torch.arange(n), process_group=group()).backward()
    yield "memory", peak.bytes


# ---- starting ranks ------------------------------------------------------------------------------


def child(rank: int, world: int, folder: str) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    tilefold.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=60),
    )
    found = {}
    try:
        for task in (
            of_cases,
            of_training,
            of_columns,
            of_patterns,
            of_rounding,
            of_errors,
            of_empty,
            of_groups,
            of_memory,
        ):
            found |= dict(task(rank, world))
    finally:
        dist.destroy_process_group()
    torch.save(found, f"{folder}/{rank}")


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What each rank found."""
    world, folder = request.param, tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(child, (world, str(folder)), nprocs=world)
    return [torch.load(folder / str(rank)) for rank in range(world)]


@pytest.fixture
def lone_group(tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/0", rank=0, world_size=1)
    yield group()
    dist.destroy_process_group()


# ---- the same as one process ---------------------------------------------------------------------


def together(found: Results, name: str, reduction: str) -> dict[str, Tensor]:
    """What ranks found, as DDP puts it together: means over ranks."""
    parts, world = [of_rank[name] for of_rank in found], len(found)
    if reduction == "none":  # not made for a mean: the sum of losses is the loss
        joined = {n: torch.cat([p[n] for p in parts]) for n in ("loss", "queries", "documents")}
        return joined | {"scale": sum(p["scale"] for p in parts)}
    joined = {n: torch.cat([p[n] for p in parts]) / world for n in ("queries", "documents")}
    return joined | {n: torch.stack([p[n] for p in parts]).mean(0) for n in ("loss", "scale")}


@pytest.mark.parametrize("name", CASES)
def test_ranks_find_what_one_process_does(ranks, name):
    given, options = CASES[name]
    q, d = (x.requires_grad_() for x in embeddings(len(ranks)))
    expected = scored(q, d, **arguments(whole(len(ranks), *given)), **options)
    found = together(ranks, name, options.get("reduction", "mean"))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_as_close_as_torch(ranks, dtype):
    world, runs = len(ranks), []
    for wider in (torch.float32, torch.float64):
        q, d = (x.to(wider).requires_grad_() for x in embeddings(world, dtype))
        losses, _ = reference.contrastive_losses(q, d, whole(world)["positives"], scale=np.exp(1.5))
        losses.mean().backward()
        runs.append((losses.mean().detach(), q.grad, d.grad))
    found = together(ranks, str(dtype), "mean")
    for name, torchs, truth in zip(("loss", "queries", "documents"), *runs, strict=True):
        assert ranks[0][str(dtype)][name].dtype == (torch.float32 if name == "loss" else dtype)
        assert_as_close_as_torch(found[name], torchs, truth, in_norm=True, name=name)


@pytest.mark.parametrize("name", ["DDP", "DDP, cached", "DDP of functions, not of the loss"])
def test_gradients_under_ddp_are_those_of_one_process(ranks, name):
    model, (q, d) = TwoTowers(), embeddings(len(ranks))
    first = np.cumsum([0, *DOCUMENTS])
    own = [first[rank] + i for rank in range(len(ranks)) for i in range(QUERIES[rank])]
    model.loss(model.queries(q), model.documents(d), torch.tensor(own)).backward()
    for of_rank in ranks:
        torch.testing.assert_close(of_rank[name], parameters(model), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("make", "options"), LOSSES)
def test_columns_of_texts_over_ranks_are_those_of_one_process(ranks, make, options):
    """With repeated texts masked wherever they are."""
    loss, world = make(Words(), **options).double(), len(ranks)
    parts = [columns(rank) for rank in range(world)]
    whole_columns = [
        {"input_ids": torch.cat([part[i]["input_ids"] for part in parts])} for i in range(3)
    ]
    value = loss(whole_columns)
    value.backward()
    unmasked = make(Words(), **options, mask_duplicates=False).double()(whole_columns)
    assert unmasked > value + 0.01
    name = f"{make.__name__}, {options}"
    values = torch.stack([of_rank[name]["loss"] for of_rank in ranks])
    torch.testing.assert_close(values.mean(), value.detach(), rtol=1e-12, atol=0)
    expected = {"words": loss.model.weight.grad, "scale": loss.objective.log_scale.grad}
    for of_rank in ranks:
        found = {key: of_rank[name][key] for key in expected}
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("symmetric", [False, True])
def test_ranks_may_want_different_gradients(ranks, symmetric):
    q, d = (x.requires_grad_() for x in embeddings(len(ranks)))
    masks = arguments(whole(len(ranks), "lists"))
    expected = scored(q, d, symmetric=symmetric, **masks)
    for frozen in ("queries", "documents"):
        found = [of_rank[f"{frozen} frozen on rank 1, {symmetric}"] for of_rank in ranks]
        assert found[1].pop(frozen) is None
        found[1][frozen] = torch.zeros(0, DIM, dtype=torch.float64)
        ours = together([{"": part} for part in found], "", "mean")
        sizes = QUERIES if frozen == "queries" else DOCUMENTS
        kept = torch.ones(sum(sizes[: len(ranks)]), dtype=torch.bool)
        own(kept, sizes, 1)[:] = False
        theirs = expected | {frozen: expected[frozen][kept]}
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("symmetric", [False, True])
def test_frozen_towers_leave_the_scale_to_learn(ranks, symmetric):
    masks = arguments(whole(len(ranks), "lists"))
    expected = scored(*embeddings(len(ranks)), symmetric=symmetric, **masks)
    found = [of_rank[f"only the scale, {symmetric}"] for of_rank in ranks]
    for name in ("loss", "scale"):
        mean = torch.stack([part[name] for part in found]).mean(0)
        torch.testing.assert_close(mean, expected[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_graph_may_be_gone_through_twice(ranks, symmetric):
    q, d = (x.requires_grad_() for x in embeddings(len(ranks)))
    loss = contrastive_loss(q, d, **arguments(whole(len(ranks), "lists")), symmetric=symmetric)
    expected = torch.autograd.grad(3 * loss, (q, d))
    for time in range(2):
        found = [of_rank[f"twice, {symmetric}"][time] for of_rank in ranks]
        for of_ranks, one in zip(zip(*found, strict=True), expected, strict=True):
            torch.testing.assert_close(torch.cat(of_ranks) / len(ranks), one)
    values = torch.stack([of_rank[f"no graph, {symmetric}"] for of_rank in ranks])
    assert not values.requires_grad
    torch.testing.assert_close(values.mean(), loss.detach())


def test_scales_may_differ_in_their_last_bits(ranks):
    masks = arguments(whole(len(ranks)))
    expected = contrastive_loss(*embeddings(len(ranks)), **masks, log_scale=1.5)
    found = torch.stack([of_rank["rounded"] for of_rank in ranks]).mean()
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)


def test_no_rank_holds_its_scores(ranks):
    for of_rank in ranks:
        assert of_rank["memory"] < 80 << 20


@pytest.mark.parametrize("name", EMPTY)
def test_a_rank_without_rows_leaves_the_loss_of_one_process(ranks, name):
    missing, given, options = EMPTY[name]
    world, joined, first = len(ranks), {}, 0
    rows: list[list[Tensor]] = []
    for rank in range(world):
        embedded, masks = emptied(rank, world, missing, *given)
        rows.append(embedded)
        for key, value in masks.items():
            if not isinstance(value, Tensor):
                shift = 0 if key == "exclude_ids" else first
                value = [[int(i) + shift for i in row] for row in value]
            joined.setdefault(key, []).append(value)
        first += len(embedded[1])
    whole_masks = {
        key: torch.cat(values) if isinstance(values[0], Tensor) else [*itertools.chain(*values)]
        for key, values in joined.items()
    }
    q, d = (torch.cat(side).detach().requires_grad_() for side in zip(*rows, strict=True))
    expected = scored(q, d, **arguments(whole_masks), **options)
    found = together(
        [{"": of_rank[f"empty {name}"]} for of_rank in ranks], "", options.get("reduction", "mean")
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


# ---- groups --------------------------------------------------------------------------------------


def test_a_group_may_be_part_of_the_world(ranks):
    for even in ranks[::2]:
        assert "with this process in it" in even["group"]
    world, members = len(ranks), range(1, len(ranks), 2)
    parts = [leaves(rank, world) for rank in members]
    q, d = (torch.cat(column).detach().requires_grad_() for column in zip(*parts, strict=True))
    first = np.cumsum([0, *(DOCUMENTS[rank] for rank in members)])
    positives = torch.cat(
        [csr(part(rank)["positives"])[1] + f for rank, f in zip(members, first, strict=False)]
    )
    expected = scored(q, d, positives=positives)
    torch.testing.assert_close(together(ranks[1::2], "group", "mean"), expected)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_rank_alone_does_what_no_group_does(lone_group, symmetric):
    given = arguments(part(0, "lists", "exclude", "query_ids", "document_ids"))
    results = []
    for process_group in (None, lone_group):
        q, d = leaves(0, 1)
        module = ContrastiveLoss(0.3, symmetric=symmetric, process_group=process_group)
        loss = module(q, d, **given)
        loss.backward()
        results.append((loss.detach(), q.grad, d.grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_what_is_no_group_is_refused(lone_group):
    q, d = leaves(0, 1)
    with pytest.raises(TypeError, match=r"process_group must be .* got str"):
        contrastive_loss(q, d, torch.arange(5), process_group="gloo")
    with pytest.raises(TypeError, match=r"process_group must be .* got str"):
        ContrastiveLoss(process_group="gloo")
    assert "process_group=..." in repr(ContrastiveLoss(process_group=lone_group))


def test_a_group_needs_torch_distributed():
    q, d = leaves(0, 1)
    message = r"needs torch\.distributed, which is not initialised"
    with pytest.raises(ValueError, match=message):
        contrastive_loss(q, d, torch.arange(5), process_group="gloo")
    with pytest.raises(ValueError, match=message):
        ContrastiveLoss(process_group="gloo")


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRONG)
def test_what_one_rank_does_wrong_all_hear(ranks, name):
    for of_rank in ranks:
        found = of_rank[f"wrong {name}"]
        assert found.startswith(f"ValueError: contrastive_loss: {WRONG[name][1]}"), found


def test_a_graph_on_some_ranks_only_is_refused(ranks):
    for of_rank in ranks:
        expected = "grad mode must be the same on all ranks, but is enabled on rank 0 and disabled"
        assert of_rank["wrong grad mode"].startswith(f"ValueError: contrastive_loss: {expected}")
