"""Stage 1: trains the language model as a retriever, with or without each part of the loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..resumable_training import Log, train_once
from ..study import Reporter
from .answer_likelihoods import AnswerLikelihoods
from .coarse_candidates import CoarseCandidates
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .stage_1 import Stage1
from .stage_data import stage_data, stage_policy
from .stage_objective import stage_objective
from .starting_model import starting_retriever

_LINES = 20  # of the log of a training
_TERMS = ("contrastive", "alignment", "invariance")


def train_retriever(
    subject: InvarSubject,
    settings: InvarSettings,
    coarse: CoarseCandidates,
    stage: Stage1,
    folder: Path,
    *,
    likelihoods: AnswerLikelihoods,
    progress: Reporter | None = None,
) -> tuple[Path, Log]:
    """Trains a retriever, or continues a training that was stopped.

    Where another run trains in the folder, waits for it and takes its retriever.

    Args:
        subject: models and data.
        settings: of the study.
        coarse: embeddings and candidates of the training questions.
        stage: which training.
        folder: of checkpoints; a training that is done there is not repeated.
        likelihoods: the teacher of alignment likelihood.
        progress: receives a warning where another run is waited for.

    Returns:
        The folder of the retriever, and losses by step.
    """

    def make() -> Any:
        return _trainer(subject, settings, coarse, stage, folder, likelihoods)

    return train_once(folder, make, _losses, name="losses.json", progress=progress)


def _losses(trainer: Any) -> Log:
    """Returns losses by step."""
    return [
        {"step": entry["step"], **{name: entry[name] for name in _TERMS if name in entry}}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


def _trainer(
    subject: InvarSubject,
    settings: InvarSettings,
    coarse: CoarseCandidates,
    stage: Stage1,
    folder: Path,
    likelihoods: AnswerLikelihoods,
) -> Any:
    from transformers import PrinterCallback

    from ...train import RetrieverTrainer
    from ...train.arguments import RetrieverTrainingArguments

    model = starting_retriever(subject, settings, stage.seed, adapter=stage.has_adapter)
    data = stage_data(subject, settings, coarse, stage, likelihoods)
    batches = math.ceil(len(subject.train) / settings.train_batch_size)
    steps = batches * settings.epochs
    # Lines of the log are means since the last one: a training resumes where a line ends.
    logging_steps = max(1, steps // _LINES)
    depth = min(settings.depth, len(data.documents))
    arguments = RetrieverTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.train_batch_size,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        warmup_steps=0.1,
        seed=stage.seed,
        save_strategy="steps",
        save_steps=logging_steps * max(1, steps // 4 // logging_steps),
        save_total_limit=1,
        logging_steps=logging_steps,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,  # batches are numbers of rows
        encode_batch_size=settings.batch_size,
        refresh_steps=settings.refresh_steps,
        refresh_depth=depth,
        refresh_negatives=depth,
    )
    objective = stage_objective(model, settings, coarse, stage, steps)
    policy = stage_policy(data, subject, settings, coarse, stage)
    trainer = RetrieverTrainer(model, arguments, data, objective=objective, policy=policy)
    trainer.remove_callback(PrinterCallback)  # a study prints nothing
    return trainer
