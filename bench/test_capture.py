"""Captured forward passes against bare ones, and the kernels of statistics against the machine."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

WHY = "not installed: pip install tilefold[train]"
torch = pytest.importorskip("torch", reason=WHY, exc_type=ImportError)
pytest.importorskip("transformers", reason=WHY, exc_type=ImportError)

from tilefold import _native
from tilefold.activations.activation_statistics import ActivationStatistics
from tilefold.activations.capture import capture
from tilefold.activations.row_store import RowStore
from tilefold.models import minilm

THRESHOLDS = (0.0, 0.5, 1.0)
FFN = "encoder.layer.*.intermediate"


@pytest.fixture(scope="module")
def model() -> Any:
    return minilm().model.eval()


@pytest.fixture(scope="module")
def batch(quick: bool) -> dict[str, Any]:
    n, tokens = (4, 16) if quick else (64, 122)
    rng = np.random.default_rng(0)
    mask = torch.ones(n, tokens, dtype=torch.int64)
    for row, length in enumerate(rng.integers(tokens // 2, tokens + 1, n)):
        mask[row, int(length) :] = 0
    return {
        "input_ids": torch.from_numpy(rng.integers(1000, 2000, (n, tokens))),
        "attention_mask": mask,
    }


def forward(model: Any, batch: dict[str, Any]) -> Any:
    with torch.inference_mode():
        return model(**batch).last_hidden_state


def captured(model: Any, batch: dict[str, Any], sites: str, **options: Any) -> Any:
    with capture(model, sites, **options):
        return forward(model, batch)


def by_torch(model: Any, batch: dict[str, Any]) -> Any:
    """The same statistics in ops of torch, in hooks."""
    found = []

    def fold(_: Any, __: Any, x: Any) -> None:
        rows = x[batch["attention_mask"].bool()]
        variance, mean = torch.var_mean(rows, dim=0)
        above = [(rows > t).sum(0) for t in THRESHOLDS]
        found.append((mean, variance, rows.abs().amax(0), above))

    hooks = [layer.intermediate.register_forward_hook(fold) for layer in model.encoder.layer]
    try:
        return forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()


def same(name: str, ours: Any, theirs: Any) -> int:
    assert torch.equal(ours, theirs), name
    return 0


def test_statistics_of_all_layers(compare, model, batch):
    compare.run(
        f"forward with statistics, MiniLM, {' x '.join(map(str, batch['input_ids'].shape))}",
        {
            "tilefold": partial(captured, model, batch, FFN, thresholds=THRESHOLDS),
            "bare": partial(forward, model, batch),
            "torch": partial(by_torch, model, batch),
        },
        {"bare": 1 / 1.03, "torch": None},
        work={"texts_per_s": len(batch["input_ids"])},
        check=same,
    )


def test_rows_of_all_layers(compare, model, batch):
    def stored() -> Any:
        store = RowStore("bfloat16", block_rows=len(batch["input_ids"]))
        return captured(model, batch, "encoder.layer.*", statistics=False, rows="mean", store=store)

    compare.run(
        "forward with rows of all layers",
        {"tilefold": stored, "bare": partial(forward, model, batch)},
        {"bare": 1 / 1.02},
        work={"texts_per_s": len(batch["input_ids"])},
        check=same,
    )


@pytest.fixture(scope="module")
def activations(quick: bool) -> Any:
    """One site of MiniLM's, 48 MB."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*((64, 40) if quick else (64 * 122, 1536)), generator=generator)


def test_statistics_alone(compare, activations):
    statistics = ActivationStatistics(activations.shape[1], thresholds=THRESHOLDS)
    case = "statistics alone"
    outcome = compare.run(
        case,
        {"tilefold": partial(statistics.update, activations), "sum": activations.sum},
        {},
        work={"gb_per_s": activations.nbytes / 1e9},
    )
    ours, read = (activations.nbytes / 1e9 / outcome.timings[n].median for n in ("tilefold", "sum"))
    compare.table.add(
        case,
        f"{ours:.1f} GB/s",
        ours / read,
        target=0.7,
        against="of the read bandwidth",
        peers=f"torch's sum {read:.1f} GB/s",
    )


def test_the_second_moment(compare, activations):
    n, width = activations.shape
    sums = np.zeros((width, width))
    rows = np.arange(n)
    case = "second moment of one site"
    outcome = compare.run(
        case,
        {
            "tilefold": partial(_native.second_moment, activations.numpy(), rows, sums),
            "torch": lambda: (activations.T @ activations).double(),
        },
        {"torch": None},
        work={"gflop_per_s": n * width * width / 1e9},
    )
    rate = n * width * (width + 1) / outcome.timings["tilefold"].median / 1e9
    peak = 2 * _native.peak("fp32") / 1e9
    compare.table.add(
        case,
        f"{rate:,.0f} GFLOP/s",
        rate / peak,
        target=0.6,
        against="of the FMA peak",
        peers=f"fp32 peak {peak:,.0f} GFLOP/s, half of the products saved",
    )
