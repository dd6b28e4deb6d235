"""Stage 2: trains an adapter to answer from retrieved passages."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..resumable_training import Log, train_once
from ..study import Reporter
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .starting_model import adapter_size, precision


def train_generator(
    subject: InvarSubject,
    settings: InvarSettings,
    retriever: Path,
    ranking: NDArray[np.int64],
    seed: int,
    folder: Path,
    *,
    progress: Reporter | None = None,
) -> Path:
    """Trains the adapter for generation over a frozen retriever, unless it was done before.

    Where another run trains in the folder, waits for it and takes its generator.

    Args:
        subject: models and data.
        settings: of the study.
        retriever: folder of the trained adapter for retrieval.
        ranking: ``[n, depth]`` documents of each training question by that retriever.
        seed: of weights and examples.
        folder: of checkpoints.
        progress: receives a warning where another run is waited for.

    Returns:
        The folder of the whole model, for `UnifiedLM.load`.
    """

    def make() -> Any:
        return _trainer(subject, settings, retriever, ranking, seed, folder)

    model, _ = train_once(folder, make, _losses, name="losses.json", progress=progress)
    return model


def _losses(trainer: Any) -> Log:
    """Returns losses by step."""
    lines = (entry for entry in trainer.state.log_history if "loss" in entry)
    return [{"step": entry["step"], "loss": entry["loss"]} for entry in lines]


def _trainer(
    subject: InvarSubject,
    settings: InvarSettings,
    retriever: Path,
    ranking: NDArray[np.int64],
    seed: int,
    folder: Path,
) -> Any:
    import torch
    from transformers import PrinterCallback

    from ...invar import UnifiedLM
    from ...invar.generation import (
        GeneratorTrainer,
        GeneratorTrainingArguments,
        GoldShares,
        reading_examples,
    )

    torch.manual_seed(seed)
    model = UnifiedLM.from_pretrained(
        subject.model,
        retrieval=str(retriever),
        generation=adapter_size(settings),
        retrieval_in_generation=settings.retrieval_in_generation,
        dtype=precision(settings),
        max_length=settings.max_length,
    )
    examples = reading_examples(
        subject.train,
        ranking,
        n_passages=min(settings.n_passages, ranking.shape[1]),
        shares=GoldShares(inserted=settings.gold_share),
        seed=seed,
    )
    steps = math.ceil(len(examples) / settings.generator_batch_size) * settings.generator_epochs
    arguments = GeneratorTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.generator_batch_size,
        gradient_accumulation_steps=1,
        num_train_epochs=settings.generator_epochs,
        learning_rate=settings.generator_learning_rate,
        warmup_steps=0.1,
        seed=seed,
        save_strategy="steps",
        save_steps=max(1, steps // 4),
        save_total_limit=1,
        logging_steps=max(1, steps // 4),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = GeneratorTrainer(model, arguments, examples, template=subject.template)
    trainer.remove_callback(PrinterCallback)  # a study prints nothing
    return trainer
