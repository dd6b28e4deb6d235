"""Trains MiniLM twice, with `contrastive_loss` and with the score matrix, and compares losses.

    pip install "tilefold[demo]"
    python examples/contrastive.py --data scifact

Both runs start from the same weights, and have the same batches and the same dropout.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from tilefold.cli.terminal import note, say, title
from tilefold.data import Collection, document_texts, read_beir
from tilefold.losses import contrastive_loss
from tilefold.models import Encoder, minilm
from tilefold.threads import set_num_threads

Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]

MAX_TOKENS = 64  # a claim of scifact fits; an abstract is cut, to save time


def with_tilefold(q: Tensor, d: Tensor, document_ids: Tensor, temperature: float) -> Tensor:
    """Computes the loss; document i is the positive of query i, and its repetitions are masked."""
    positives = torch.arange(len(q))
    return contrastive_loss(q, d, positives, temperature=temperature, document_ids=document_ids)


def with_matrix(q: Tensor, d: Tensor, document_ids: Tensor, temperature: float) -> Tensor:
    """Computes the same loss in plain torch."""
    positives = torch.arange(len(q))
    scores = (q @ d.T / temperature).masked_fill(false_negatives(document_ids), -torch.inf)
    return F.cross_entropy(scores, positives)


def false_negatives(document_ids: Tensor) -> Tensor:
    """Marks documents j that equal the positive of query i but belong to another: ``[n, n]`` bool.

    Other documents that are relevant to query i would have to be listed in `exclude`.
    """
    return (document_ids[:, None] == document_ids).fill_diagonal_(False)


class Batch(NamedTuple):
    """A batch of n queries, each with one relevant document."""

    queries: list[str]
    documents: list[str]
    document_ids: Tensor  # [n] int64


def draw_batches(collection: Collection, size: int, steps: int, seed: int) -> list[Batch]:
    """Draws random batches of distinct queries, each with one of its relevant documents."""
    offsets, ids, gains = collection.qrels
    usable = (gains > 0) & (ids < len(collection.documents))
    relevant = [ids[begin:end][usable[begin:end]] for begin, end in pairwise(offsets)]
    answered = [query for query, documents in enumerate(relevant) if len(documents)]
    if not 2 <= size <= len(answered):
        raise ValueError(f"--batch must be 2 to {len(answered)}, the queries there, got {size}")
    texts = document_texts(collection.documents, collection.titles)
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(steps):
        rows = rng.choice(answered, size, replace=False)
        chosen = np.array([rng.choice(relevant[query]) for query in rows])
        queries = [collection.queries[query] for query in rows]
        documents = [texts[document] for document in chosen]
        batches.append(Batch(queries, documents, torch.from_numpy(chosen)))
    return batches


def train(
    encoder: Encoder, loss_function: Loss, batches: Sequence[Batch], args: argparse.Namespace
) -> Iterator[float]:
    """Takes a step of AdamW for each batch, and yields its loss."""
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=args.learning_rate)
    encoder.train()
    for step, (queries, documents, document_ids) in enumerate(batches):
        torch.manual_seed(args.seed + step)  # seeds dropout: the two runs alternate
        q, d = (encoder(encoder.pad(encoder.tokenize(texts))) for texts in (queries, documents))
        loss = loss_function(q, d, document_ids, args.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield loss.item()


# In 30 steps the losses differed by at most 1e-6, as two formulations in torch did in 12 steps;
# without the mask, by 0.15 in batches with duplicates. The weights differed by 5e-4, nearly all of
# it in the biases of keys: softmax cancels them, so their gradients are rounding errors, which
# AdamW normalises to full steps all the same.
LOSS_TOLERANCE = 1e-4  # relative
WEIGHTS_TOLERANCE = 1e-2  # relative to the norm of the change by training


def compare(args: argparse.Namespace) -> bool:
    """Trains with both losses in turn, prints a line per step, and returns whether they agree."""
    if args.threads is not None:
        set_num_threads(args.threads)
        torch.set_num_threads(args.threads)
    batches = draw_batches(read_beir(args.data, "train"), args.batch, args.steps, args.seed)
    ours, matrix = (minilm(max_length=MAX_TOKENS) for _ in range(2))
    before = _weights(matrix)
    runs = (train(ours, with_tilefold, batches, args), train(matrix, with_matrix, batches, args))
    title(f"MiniLM on {args.data}: {args.steps} steps of {args.batch} queries")
    say("  step    tilefold      matrix  relative difference")
    differences = []
    for step, (a, b) in enumerate(zip(*runs, strict=True), 1):
        differences.append(abs(a - b) / max(b, torch.finfo(torch.float32).tiny))
        say(f"  {step:>4}  {a:>10.7f}  {b:>10.7f}  {differences[-1]:>19.1e}")
    loss_error = float(np.max(differences))  # NaN, where there is one
    moved = (_weights(matrix) - before).norm()
    weight_error = float((_weights(ours) - _weights(matrix)).norm() / moved)
    agree = loss_error <= LOSS_TOLERANCE and weight_error <= WEIGHTS_TOLERANCE
    masked = sum(int(false_negatives(batch.document_ids).sum()) for batch in batches)
    note(
        f"{'The same' if agree else 'NOT THE SAME'}: losses differ by {loss_error:.1e} at most "
        f"(tolerance {LOSS_TOLERANCE:.0e}), final weights by {weight_error:.1e} of the change "
        f"by training (tolerance {WEIGHTS_TOLERANCE:.0e}). The mask left out {masked} "
        "false negatives."
    )
    return agree


def _weights(encoder: Encoder) -> Tensor:
    return parameters_to_vector(encoder.parameters()).detach()


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 where both agree, 1 where they do not, 2 on wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python examples/contrastive.py",
        description="Trains MiniLM with contrastive_loss and with the score matrix.",
    )
    layout = "a folder with corpus.jsonl, queries.jsonl and qrels/train.tsv, as BEIR's scifact has"
    parser.add_argument("--data", metavar="FOLDER", help=layout)
    option = partial(parser.add_argument, metavar="N")
    option("--steps", type=int, default=30, help="optimizer steps (%(default)s)")
    option("--batch", type=int, default=32, help="queries per step (%(default)s)")
    option("--learning-rate", type=float, default=2e-5, help="learning rate of AdamW (%(default)s)")
    option(
        "--temperature", type=float, default=0.05, help="temperature of the losses (%(default)s)"
    )
    option("--seed", type=int, default=0, help="seed of batches and dropout (%(default)s)")
    option("--threads", type=int, help="threads of torch and of tilefold (all cores)")
    args = parser.parse_args(words)
    if args.data is None:
        parser.error(f"--data FOLDER is needed: {layout}")
    if not min(args.steps, args.learning_rate, args.temperature) > 0:
        parser.error("--steps, --learning-rate and --temperature must be above 0")
    try:
        return 0 if compare(args) else 1
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
