"""A training step against the loop that one writes by hand, with the same batches and loss."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

WHY = "not installed: pip install tilefold[train]"
torch = pytest.importorskip("torch", reason=WHY, exc_type=ImportError)
pytest.importorskip("tilefold.train", reason=WHY, exc_type=ImportError)

from torch.nn import functional as F

from tilefold.data import TrainingSet
from tilefold.losses import ContrastiveLoss
from tilefold.models import BiEncoder, minilm
from tilefold.ragged_lists import Lists
from tilefold.train import Batch, ContrastiveObjective, Draw, train_step

WORDS = 6, 12  # of a query, of a passage


def texts(n: int, words: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    known = ["passages", "are", "found", "by", "dense", "vectors", "exactly", "on", "any", "day"]
    return [" ".join(rng.choice(known, words)) for _ in range(n)]


def data_of(n: int) -> TrainingSet:
    own = Lists(np.arange(n + 1), np.arange(n))
    none = Lists(np.zeros(n + 1, np.int64), np.zeros(0, np.int64))
    names = [str(i) for i in range(n)]
    queries, passages = (texts(n, words, seed) for seed, words in enumerate(WORDS))
    return TrainingSet(names, queries, names, passages, own, none, [()] * n)


def by_hand(model: BiEncoder, optimizer: Any, batch: Batch, temperature: float) -> Any:
    q, d = (
        tower(tower.pad(tower.tokenize(part)))
        for tower, part in (
            (model.query_encoder, batch.queries),
            (model.document_encoder, batch.documents),
        )
    )
    scores = q @ d.T / temperature
    same = batch.query_ids[:, None] == batch.query_ids
    scores = scores.masked_fill(same.fill_diagonal_(False), -torch.inf)
    loss = F.cross_entropy(scores, batch.positives)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def ours(objective: ContrastiveObjective, optimizer: Any, batch: Batch) -> Any:
    loss = train_step(objective, batch).value
    optimizer.step()
    optimizer.zero_grad()
    return loss


def alike(name: str, mine: Any, theirs: Any) -> int:
    assert abs(float(mine) - float(theirs)) < 1e-3, name
    return 0


@pytest.mark.parametrize(("size", "target"), [(64, 1 / 1.05), (512, 1.0)])
def test_training_step(compare, quick, size, target):
    size = 8 if quick else size
    batch = Draw(data_of(size), group_size=1, seed=0).batch(range(size), step=0)
    model = BiEncoder(minilm()).eval()  # no dropout: both see the same
    objective = ContrastiveObjective(model, ContrastiveLoss(0.05)).eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # and the same weights all the time
    contenders = {
        "tilefold": partial(ours, objective, optimizer, batch),
        "torch": partial(by_hand, model, optimizer, batch, 0.05),
    }
    case = f"training step, MiniLM, batch {size}"
    compare.run(case, contenders, {"torch": target}, work={"queries_per_s": size}, check=alike)
