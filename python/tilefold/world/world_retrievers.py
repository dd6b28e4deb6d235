"""Trains retrievers from a checkpoint on questions about the facts of a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import TrainingSet
from ..losses import ContrastiveLoss
from ..models import BiEncoder
from ..progress import show_progress
from ..train import ContrastiveObjective, Draw, DrawingPolicy, train_step
from ..train.objectives import BiEncoderObjective
from .facts import World
from .retrieval_data import training_set
from .world_models import MAX_LENGTH, kept_model, optimizer_step, optimizer_with_rates

BATCH_SIZE, LEARNING_RATE = 64, 3e-4


def fine_tuned(
    world: World,
    base: str | Path,
    facts: Sequence[int],
    *,
    paraphrases: Sequence[int] = (0, 1, 2),
    epochs: int = 8,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = LEARNING_RATE,
    layers: Sequence[int] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Path:
    """Trains a retriever from a checkpoint as DPR does: in-batch negatives, one hard negative.

    Args:
        world: the world of questions and passages.
        base: a checkpoint, such as of `pretrained`; the state of the first token is the embedding.
        facts: numbers of the facts to train on.
        paraphrases: which questions about each fact, from 0 to 3.
        epochs, batch_size, learning_rate: of AdamW, with linear decay after warm-up over a tenth of
            the steps.
        layers: blocks that are trained; embeddings and the other blocks stay as they are. By
            default everything is trained.
        seed: of batches and dropout.
        folder: where models are kept; `cache_folder()` by default.

    Returns:
        A folder for `BiEncoder.from_pretrained`.

    Raises:
        ValueError: no layers, or one that the base does not have.
    """
    if layers is not None and not len(layers):
        raise ValueError("fine_tuned: layers must have one or more, or be None for all, got none")
    options = {
        "base": base_model(base).query_encoder.fingerprint(),
        "facts": list(map(int, facts)),
        "paraphrases": list(map(int, paraphrases)),
        "epochs": epochs,
        "batch_size": batch_size,
        "rate": learning_rate,
        "seed": seed,
    }
    if layers is not None:
        options["layers"] = sorted(map(int, layers))
    return kept_model(
        world, "dpr", options, folder, lambda to: _fine_tune(world, base, options, to)
    )


def _fine_tune(world: World, base: str | Path, options: dict[str, Any], folder: Path) -> None:
    chosen = {name: options[name] for name in ("paraphrases", "seed")}
    data = training_set(world, options["facts"], **chosen)
    torch.manual_seed(options["seed"])
    model = base_model(base)
    if "layers" in options:
        _freeze_others(model, options["layers"])
    run_epochs(*retriever_training(model, data, options["seed"]), options)
    model.eval().save_pretrained(folder)


def retriever_training(
    model: BiEncoder, data: TrainingSet, seed: int
) -> tuple[ContrastiveObjective, Draw]:
    """Returns the objective and the draws of DPR: in-batch negatives, one hard negative.

    Args:
        model: to train.
        data: questions and passages.
        seed: of the draws.
    """
    return ContrastiveObjective(model, ContrastiveLoss(1.0)), Draw(data, group_size=2, seed=seed)


def run_epochs(
    objective: BiEncoderObjective, draw: DrawingPolicy, options: Mapping[str, Any]
) -> None:
    """Trains on all queries of a policy, in another order in each epoch.

    Args:
        objective: model and loss.
        draw: draws passages.
        options: "epochs", "batch_size", "rate" (of learning) and "seed" (of the order).
    """
    n, size = len(draw.data), options["batch_size"]
    rng = np.random.default_rng([options["seed"], 4])
    epochs = (rng.permutation(n) for _ in range(options["epochs"]))
    batches = [rows for epoch in epochs for rows in whole_batches(epoch, size)]
    run_batches(objective, draw, batches, options["rate"], label=f"fine-tune on {n:,} questions")


def run_batches(
    objective: BiEncoderObjective,
    draw: DrawingPolicy,
    batches: Sequence[NDArray[np.int64]],
    rate: float,
    *,
    label: str,
) -> None:
    """Trains on batches in their order.

    Args:
        objective: model and loss.
        draw: draws passages.
        batches: rows of queries of each step.
        rate: of learning.
        label: of the progress bar.
    """
    optimizer, rates = optimizer_with_rates(objective.parameters(), rate, len(batches))
    objective.train()
    with show_progress(label, len(batches)) as display:
        for step, rows in enumerate(batches):
            loss = train_step(objective, draw.batch(rows, step=step)).value
            torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
            optimizer_step(optimizer, rates)
            display.note(f"loss {float(loss.detach()):.2f}")
            display.advance()


def _freeze_others(model: BiEncoder, layers: Sequence[int]) -> None:
    """Freezes all weights but those of some blocks of BERT."""
    model.requires_grad_(False)
    for encoder in (model.query_encoder, model.document_encoder):
        bert: Any = encoder.model
        blocks = bert.encoder.layer
        if not all(0 <= layer < len(blocks) for layer in layers):
            raise ValueError(
                f"fine_tuned: layers must be 0 to {len(blocks) - 1}, got {list(layers)}"
            )
        for layer in layers:
            blocks[layer].requires_grad_(True)


def base_model(base: str | Path) -> BiEncoder:
    """Loads a base as a retriever that was not trained yet: the first token's state is the vector.

    Args:
        base: a checkpoint, such as of `pretrained`.
    """
    return BiEncoder.from_pretrained(base, pooling="cls", normalize=False, max_length=MAX_LENGTH)


def whole_batches(order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Splits rows into batches of one size; the remainder is left out in this epoch.

    Args:
        order: rows of an epoch.
        size: of a batch.
    """
    return np.split(order[: len(order) // size * size], len(order) // size)
