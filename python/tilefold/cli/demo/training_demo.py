"""Fine-tuning for `tilefold demo --train`: MiniLM before and after, on held-out modules.

The queries of a module are either all used for training or all used for evaluation.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...data import Collection, TrainingSet
from ...evaluate import bootstrap, evaluate, paired_test
from ...progress import track
from ...ragged_lists import Lists
from ...retrieval.exact_search import search
from ..terminal import fact, heading, note, table
from .comparison import MEASURES, Embedded, embed

if TYPE_CHECKING:
    from ...models import BiEncoder

_HELD_OUT = 3  # one module in three is held out
_STEPS, _BATCH = 60, 32
_LEARNING_RATE, _TEMPERATURE = 3e-5, 0.05
_MAX_LENGTH = 64  # tokens of a docstring in training

Values = Mapping[str, NDArray[np.float64]]


def show_training(collection: Collection, model: BiEncoder, before: Embedded) -> None:
    """Trains the model and prints the quality on held-out modules before and after.

    Args:
        collection: from `read_pydocs`.
        model: trained in place.
        before: embeddings of the collection by the untrained model.

    Raises:
        ImportError: a package for training is missing; names the extra.
    """
    from ... import train as train  # fails before anything is printed where a package is missing

    data, held_out = _split(collection)
    heading(f"Fine-tuning on {len(data):,} queries, {len(held_out):,} queries held out")
    before_values = _evaluate(collection, before, held_out)
    begin = time.perf_counter()
    losses = _train(data, model)
    fact("trained", f"{_STEPS} steps of {_BATCH} queries in {time.perf_counter() - begin:.0f} s")
    first_ten, last_ten = np.mean(losses[:10]), np.mean(losses[-10:])
    fact("loss", f"{first_ten:.2f} in the first ten steps, {last_ten:.2f} in the last ten")
    _show(before_values, _evaluate(collection, embed(collection, model), held_out))


def _train(data: TrainingSet, model: BiEncoder) -> list[float]:
    """Trains with a plain training loop and returns the loss of each step."""
    import torch

    from ...losses import ContrastiveLoss
    from ...models import BiEncoder
    from ...train import ContrastiveObjective, Draw, train_step

    torch.manual_seed(0)
    # Shares its weights with the model.
    short = model.document_encoder.with_options(max_length=_MAX_LENGTH)
    objective = ContrastiveObjective(BiEncoder(short), ContrastiveLoss(_TEMPERATURE))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, _STEPS)
    draw = Draw(data, group_size=1, seed=0)
    rng, losses = np.random.default_rng(0), []
    objective.train()
    for step in track(range(_STEPS), "train"):
        rows = rng.choice(len(data), _BATCH, replace=False)
        losses.append(float(train_step(objective, draw.batch(rows, step=step)).value))
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return losses


def _split(collection: Collection) -> tuple[TrainingSet, NDArray[np.int64]]:
    """Splits by module into a training set and the numbers of the held-out queries.

    Documents of held-out modules are left out of the training set, so that they are not even
    negatives. A query with relevant documents on both sides is used on neither.
    """
    offsets, ids, _ = collection.qrels
    held_out = np.array([_is_held_out(name) for name in collection.document_ids])
    relevant = [ids[begin:end] for begin, end in pairwise(offsets)]
    queries = np.array([row for row, own in enumerate(relevant) if held_out[own].all()])
    rows = [row for row, own in enumerate(relevant) if not held_out[own].any()]
    kept = np.flatnonzero(~held_out)
    place = {int(document): i for i, document in enumerate(kept)}
    positives = [[place[int(document)] for document in relevant[row]] for row in rows]
    data = TrainingSet(
        [collection.query_ids[row] for row in rows],
        [collection.queries[row] for row in rows],
        [collection.document_ids[document] for document in kept],
        [collection.documents[document] for document in kept],
        Lists.pack(positives),
        Lists.pack([[] for _ in rows]),
        [() for _ in rows],
    )
    return data, queries


def _is_held_out(name: str) -> bool:
    module = name.partition(".")[0]
    return hashlib.blake2b(module.encode(), digest_size=4).digest()[0] % _HELD_OUT == 0


def _evaluate(collection: Collection, embedded: Embedded, rows: NDArray[np.int64]) -> Values:
    found = search(embedded.queries, embedded.documents, 100)
    values = evaluate(found.ids, collection.qrels, MEASURES)
    return {name: value[rows] for name, value in values.items()}


def _show(before: Values, after: Values) -> None:
    columns = {}
    for name in MEASURES:
        columns[name] = [
            f"{mean:.3f} [{low:.3f}, {high:.3f}]"
            for mean, low, high in (bootstrap(values[name]) for values in (before, after))
        ]
    table(["MiniLM as it is", "fine-tuned"], columns)
    test = paired_test(after["nDCG@10"], before["nDCG@10"])
    note(
        f"nDCG@10 changed by {test.difference:+.3f} on held-out modules (paired permutation test "
        f"over {test.n:,} queries: p = {test.p_value:.4f})."
    )
