"""The part of `tilefold demo` that trains: MiniLM learns from some modules, and others are asked.

What it learns from is not what it is asked: a module's queries are all on one side.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import Collection, TrainingSet
from ...evaluate import bootstrap, evaluate, paired_test
from ...ragged_lists import Lists
from ...retrieval.exact_search import search
from ..terminal import fact, heading, note, table
from .comparison import Embedded, embed

if TYPE_CHECKING:
    from ...models import BiEncoder

_MEASURES = ("nDCG@10", "R@100", "RR@10")
_HELD_OUT = 3  # one module of so many
_STEPS, _BATCH = 60, 32
_RATE, _TEMPERATURE = 3e-5, 0.05
_TOKENS = 64  # that are read in training, of a docstring of any length

Values = Mapping[str, NDArray[np.float64]]


def show_training(collection: Collection, model: BiEncoder, before: Embedded) -> None:
    """Trains the model, and writes how well held-out modules are found before and after.

    Args:
        collection: of `read_pydocs`.
        model: is trained in place.
        before: the collection through the model as it is.
    """
    try:
        importlib.import_module(".train", __package__)
    except ImportError as error:
        heading("Fine-tuning")
        fact("left out", str(error))
        return
    data, asked = _split(collection)
    heading(f"Fine-tuning on {len(data):,} queries; {len(asked):,} of other modules are asked")
    first = _measured(collection, before, asked)
    begin = time.perf_counter()
    losses = _train(data, model)
    fact("trained", f"{_STEPS} steps of {_BATCH} queries in {time.perf_counter() - begin:.0f} s")
    first_ten, last_ten = np.mean(losses[:10]), np.mean(losses[-10:])
    fact("loss", f"{first_ten:.2f} in the first ten steps, {last_ten:.2f} in the last ten")
    then = _measured(collection, embed(collection, model), asked)
    _show(first, then)


def _train(data: TrainingSet, model: BiEncoder) -> list[float]:
    """A training loop as one writes it."""
    import torch

    from ...losses import ContrastiveLoss
    from ...models import BiEncoder
    from ...train import ContrastiveObjective, Draw, train_step

    torch.manual_seed(0)
    short = model.document_encoder.with_options(max_length=_TOKENS)  # over the same weights
    objective = ContrastiveObjective(BiEncoder(short), ContrastiveLoss(_TEMPERATURE))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=_RATE)
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, _STEPS)
    draw = Draw(data, group_size=1, seed=0)
    rng, losses = np.random.default_rng(0), []
    objective.train()
    for step in _bar(range(_STEPS)):
        rows = rng.choice(len(data), _BATCH, replace=False)
        losses.append(float(train_step(objective, draw.batch(rows, step=step)).value))
        optimizer.step()
        optimizer.zero_grad()
        rates.step()
    return losses


def _bar(steps: range) -> Any:
    from tqdm.auto import tqdm

    return tqdm(steps, desc="train", disable=None, leave=False, dynamic_ncols=True)


def _split(collection: Collection) -> tuple[TrainingSet, NDArray[np.int64]]:
    """Queries of most modules to train on, and rows of those of the others."""
    offsets, ids, _ = collection.qrels
    held = np.array([_is_held_out(name) for name in collection.document_ids])
    own = [ids[begin:end] for begin, end in pairwise(offsets)]
    asked = np.array([row for row, positives in enumerate(own) if held[positives].all()])
    rows = [row for row, positives in enumerate(own) if not held[positives].any()]
    kept = np.flatnonzero(~held)  # what is asked for is not even a negative
    place = {int(document): i for i, document in enumerate(kept)}
    positives = [[place[int(document)] for document in own[row]] for row in rows]
    data = TrainingSet(
        [collection.query_ids[row] for row in rows],
        [collection.queries[row] for row in rows],
        [collection.document_ids[document] for document in kept],
        [collection.documents[document] for document in kept],
        Lists.pack(positives),
        Lists.pack([[] for _ in rows]),
        [() for _ in rows],
    )
    return data, asked


def _is_held_out(name: str) -> bool:
    module = name.partition(".")[0]
    return hashlib.blake2b(module.encode(), digest_size=4).digest()[0] % _HELD_OUT == 0


def _measured(collection: Collection, embedded: Embedded, asked: NDArray[np.int64]) -> Values:
    found = search(embedded.queries, embedded.documents, 100)
    values = evaluate(found.ids, collection.qrels, _MEASURES)
    return {name: value[asked] for name, value in values.items()}


def _show(before: Values, after: Values) -> None:
    columns = {}
    for name in _MEASURES:
        columns[name] = [
            f"{mean:.3f} [{low:.3f}, {high:.3f}]"
            for mean, low, high in (bootstrap(values[name]) for values in (before, after))
        ]
    table(["MiniLM as it is", "fine-tuned"], columns)
    test = paired_test(after["nDCG@10"], before["nDCG@10"])
    note(
        f"nDCG@10 changed by {test.difference:+.3f} on modules that it never saw (paired "
        f"permutation test over {test.n:,} queries: p = {test.p_value:.4f})."
    )
