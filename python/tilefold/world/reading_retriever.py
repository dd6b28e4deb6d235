"""Trains the retriever that is to be adapted: on human judgments, as DPR does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..losses import ContrastiveLoss
from ..models import BiEncoder, Encoder
from ..train import ContrastiveObjective, Draw
from .reader_models import word_tokenizer
from .reading_world import ReadingWorld, judged_training_set
from .world_models import kept_model
from .world_retrievers import run_epochs

# The version of the training code, as `RECIPE` of `world_models`.
RECIPE = 1
_LENGTH = 128  # tokens
TEMPERATURE = 0.05  # of cosines, in this training and for any that continues it


def judged_retriever(
    world: ReadingWorld,
    facts: Sequence[int],
    *,
    paraphrases: Sequence[int] = (0, 1, 2, 3),
    width: int = 128,
    layers: int = 2,
    epochs: int = 2,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Path:
    """Trains a retriever from random weights on the judged passages of some facts.

    Each question has one positive, the passage that a person judged, and hard negatives that state
    other facts. The retriever is a BERT with a token for every word, mean pooling and cosine.

    Args:
        world: the world of questions, passages and judgments.
        facts: numbers of the facts to train on.
        paraphrases: which questions about each fact; all by default.
        width, layers: of the BERT.
        epochs, batch_size, learning_rate: of AdamW, with linear decay after warm-up over a tenth of
            the steps.
        seed: of weights, batches and negatives.
        folder: where models are kept; `cache_folder()` by default.

    Returns:
        A folder for `BiEncoder.from_pretrained`.

    Raises:
        ValueError: no facts.
    """
    options = {
        "facts": list(map(int, facts)),
        "paraphrases": list(map(int, paraphrases)),
        "width": width,
        "layers": layers,
        "epochs": epochs,
        "batch_size": batch_size,
        "rate": learning_rate,
        "seed": seed,
        "recipe": RECIPE,
    }
    return kept_model(
        world, "judged-retriever", options, folder, lambda to: _train(world, options, to)
    )


def _train(world: ReadingWorld, options: dict[str, Any], folder: Path) -> None:
    data = judged_training_set(
        world, options["facts"], paraphrases=options["paraphrases"], seed=options["seed"]
    )
    torch.manual_seed(options["seed"])
    model = BiEncoder(_untrained(world, options["width"], options["layers"]))
    objective = ContrastiveObjective(model, ContrastiveLoss(TEMPERATURE))
    run_epochs(objective, Draw(data, group_size=3, seed=options["seed"]), options)
    model.eval().save_pretrained(folder)


def _untrained(world: ReadingWorld, width: int, layers: int) -> Encoder:
    import transformers

    tokenizer = word_tokenizer(world)
    config: Any = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * width,
        max_position_embeddings=_LENGTH,
        hidden_dropout_prob=0.0,  # a model of this size underfits with dropout
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    return Encoder(model, tokenizer, pooling="mean", normalize=True, max_length=_LENGTH)
