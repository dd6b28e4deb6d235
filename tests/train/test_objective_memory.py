"""Memory of the losses of stage 1: embeddings and gradients, not queries times passages."""

import sys
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install tilefold[train]")
pytest.importorskip("transformers", reason="pip install tilefold[train]")

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_runs import load

from tilefold.data import TrainingSet
from tilefold.losses import AlignmentLoss, ContrastiveLoss, InvarianceLoss
from tilefold.ragged_lists import Lists
from tilefold.train import (
    ContrastiveObjective,
    DistillationObjective,
    Draw,
    DrawTeacher,
    DrawViews,
    InvarianceObjective,
    WeightedObjective,
)
from tilefold.train.objectives import BiEncoderObjective

VIEWS = 3


class Shape(NamedTuple):
    """Queries, passages of each, and the dimension of embeddings."""

    queries: int
    group: int
    dim: int


class LiveTensors(TorchDispatchMode):
    """Follows the bytes of all tensors made within, and the size of the largest.

    Buffers of kernels are not tensors; tests of each loss measure them with `peak_memory`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.largest = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            x.untyped_storage().data_ptr()
            for x in tree_leaves((args, kwargs))
            if isinstance(x, torch.Tensor)
        }
        made = func(*args, **(kwargs or {}))
        for x in tree_leaves(made):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in given:
                self._count(x.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self._known or not size:
            return
        self._known.add(place)
        self.live += size
        self.peak = max(self.peak, self.live)
        self.largest = max(self.largest, size)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.live -= size


def batch_of(shape: Shape) -> Any:
    """A batch with a teacher's scores and two rewrites."""
    n, m = shape.queries, shape.queries * shape.group
    names = [str(row) for row in range(m)]
    first = shape.group * np.arange(n)
    data = TrainingSet(
        names[:n],
        [f"query {name}" for name in names[:n]],
        names,
        [f"passage {name}" for name in names],
        Lists.pack(first[:, None]),
        Lists.pack(first[:, None] + np.arange(1, shape.group)),
        [()] * n,
    )
    rng = np.random.default_rng(0)
    coarse = (rng.standard_normal((rows, 8), dtype=np.float32) for rows in (n, m))
    policy = DrawTeacher(Draw(data, group_size=shape.group, seed=0), *coarse)
    rewrites = [[f"{query}?", f"a {query}"] for query in data.queries]
    return DrawViews(policy, rewrites, n_views=VIEWS - 1, seed=0).batch(range(n), step=0)


def objective_of(model: Any, names: str, **options: Any) -> BiEncoderObjective:
    parts: dict[str, Any] = {
        "contrastive": ContrastiveObjective(model, ContrastiveLoss(0.5)),
        "alignment": DistillationObjective(model, AlignmentLoss(0.5, teacher_temperature=1.0)),
        "invariance": InvarianceObjective(model, InvarianceLoss(temperature=0.5), **options),
    }
    chosen = {name: parts[name] for name in names.split()}
    return WeightedObjective(chosen) if len(chosen) > 1 else chosen[names]


def followed(objective: BiEncoderObjective, shape: Shape) -> LiveTensors:
    """The tensors of the loss stage, forward and backward."""
    batch = batch_of(shape)
    generator = torch.Generator().manual_seed(0)
    n, m = len(batch.queries), len(batch.documents)
    sides = {"queries": n, "documents": m, "queries/1": n, "queries/2": n}
    embeddings = {
        side: torch.randn(rows, shape.dim, generator=generator).requires_grad_()
        for side, rows in sides.items()
    }
    with LiveTensors() as tensors:
        objective.compute_loss(batch, embeddings).value.backward()
    return tensors


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Chunks that are to small batches as those of the losses are to large ones."""
    for name, sizes in {
        "listed": {"_ROWS": 32},
        "loss_inputs": {"_CHECKED_ROWS": 32},
        "invariant_candidates": {"_ROWS": 32, "_NUMBERS": VIEWS * 1024 * 4},
    }.items():
        # By its name: the package has a function of that of invariant_candidates.
        module = sys.modules[f"tilefold.losses.{name}"]
        for constant, size in sizes.items():
            monkeypatch.setattr(module, constant, size)


ALL = "contrastive alignment invariance"


@pytest.mark.parametrize(
    ("names", "options"),
    [
        (ALL, {}),
        (ALL, {"candidates": "own"}),
        (ALL, {"top_patterns": 4}),
    ],
)
def test_no_scores_of_all_queries_with_all_passages_are_held(tiny_bert, names, options):
    objective = objective_of(load(tiny_bert), names, **options)
    half, whole = (followed(objective, Shape(n, group=8, dim=16)) for n in (64, 128))
    one_matrix = 4 * 128 * 128 * 8  # in float32 and one view: 0.5 MB, the passages' rows 0.07 MB
    assert whole.largest < one_matrix / 2
    assert whole.peak < 2.2 * half.peak  # linear in the batch; matrices would make it 4


@pytest.mark.parametrize(
    ("names", "options", "copies"),
    [
        # In a sum there are two at a time: those of the sum, and of the loss that is added.
        ("contrastive", {}, 0),
        ("alignment", {}, 0),
        ("invariance", {}, 0),
        ("invariance", {"candidates": "own"}, 0),
        ("invariance", {"top_patterns": 4}, 0),
        (ALL, {}, 1),
    ],
)
def test_rows_of_passages_are_not_copied(tiny_bert, names, options, copies):
    shape = Shape(8, group=64, dim=1024)
    rows = 4 * shape.queries * shape.group * shape.dim
    tensors = followed(objective_of(load(tiny_bert), names, **options), shape)
    assert tensors.largest <= rows
    assert tensors.peak < (1 + copies + 0.5) * rows  # their gradient, and copies of it
