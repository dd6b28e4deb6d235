"""Stage 1: trains the language model as a retriever, with or without each part of the loss."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...files.atomic import replacing_text
from ...ragged_lists import Lists
from ..locked_training import locked_training
from ..study import Reporter
from .answer_likelihoods import AnswerLikelihoods
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .retriever_settings import Variant
from .starting_model import starting_retriever

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...models import BiEncoder
    from ...train import DrawingPolicy
    from ...train.objectives import BiEncoderObjective

_LOG = "losses.json"  # is written when the training is done
_LINES = 20  # of the log of a training
_TERMS = ("contrastive", "alignment", "invariance")


@dataclass(frozen=True)
class CoarseCandidates:
    """Embeddings of the coarse encoder, and its candidates.

    Args:
        queries, documents: embeddings ``[n, d]`` and ``[m, d]`` of the training set.
        ranking: ``[n, depth]`` documents of each query, best first.
    """

    queries: NDArray[np.float32]
    documents: NDArray[np.float32]
    ranking: NDArray[np.int64]


@dataclass(frozen=True)
class Stage1:
    """A training of stage 1.

    Args:
        variant: which parts it has.
        seed: of weights, batches and views.
        weight: of the invariance loss.
        n_views: rewrites of a query in a step.
    """

    variant: Variant
    seed: int
    weight: float
    n_views: int

    def has(self, part: str) -> bool:
        """Returns whether a part of the loss is in the training."""
        if part == "invariance":
            return self.variant not in ("no invariance", "augmentation") and self.weight > 0
        return self.variant != f"no {part}"


def train_retriever(
    subject: InvarSubject,
    settings: InvarSettings,
    coarse: CoarseCandidates,
    stage: Stage1,
    folder: Path,
    *,
    likelihoods: AnswerLikelihoods,
    progress: Reporter | None = None,
) -> tuple[Path, list[dict[str, float]]]:
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
    from ...train.checkpoints import MODEL

    log = folder / _LOG
    with locked_training(folder, progress):
        if not log.is_file():
            trainer = _trainer(subject, settings, coarse, stage, folder, likelihoods)
            losses = _trained(trainer, folder)
            with replacing_text(log) as file:
                json.dump(losses, file)
    found: list[dict[str, float]] = json.loads(log.read_text())
    return folder / MODEL, found


def _trained(trainer: Any, folder: Path) -> list[dict[str, float]]:
    """Trains from the last checkpoint on, saves the model, and returns losses by step."""
    from ...train.checkpoints import last_checkpoint

    resumed = last_checkpoint(folder)
    trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    trainer.save_model()
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

    model = starting_retriever(subject, settings, stage.seed, adapter=stage.has("lora"))
    data = _data(subject, settings, coarse, stage, likelihoods)
    batches = math.ceil(len(subject.train) / settings.train_batch_size)
    steps = batches * settings.epochs
    depth = min(settings.depth, len(data.documents))
    arguments = RetrieverTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.train_batch_size,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        warmup_steps=0.1,
        seed=stage.seed,
        save_strategy="steps",
        save_steps=max(1, steps // 4),
        save_total_limit=1,
        logging_steps=max(1, steps // _LINES),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,  # batches are numbers of rows
        encode_batch_size=settings.batch_size,
        refresh_steps=settings.refresh_steps,
        refresh_depth=depth,
        refresh_negatives=depth,
    )
    objective = _objective(model, settings, coarse, stage, steps)
    policy = _policy(data, subject, settings, coarse, stage)
    trainer = RetrieverTrainer(model, arguments, data, objective=objective, policy=policy)
    trainer.remove_callback(PrinterCallback)  # a study prints nothing
    return trainer


def _data(
    subject: InvarSubject,
    settings: InvarSettings,
    coarse: CoarseCandidates,
    stage: Stage1,
    likelihoods: AnswerLikelihoods,
) -> TrainingSet:
    """Returns the questions with coarse candidates as negatives; with rewrites to augment them."""
    data = subject.train
    negatives = [
        own[(own >= 0) & ~np.isin(own, data.positives.of(row))]
        for row, own in enumerate(coarse.ranking)
    ]
    data = data.with_negatives(Lists.pack(negatives))
    if stage.has("alignment") and settings.alignment == "likelihood":
        data = likelihoods.scored(data)
    if stage.variant != "augmentation":
        return data
    rows = [row for row, own in enumerate(subject.rewrites) for _ in range(1 + len(own))]
    texts = [
        text
        for query, own in zip(data.queries, subject.rewrites, strict=True)
        for text in (query, *own)
    ]
    names = [f"{data.query_ids[row]}-{place}" for place, row in enumerate(rows)]
    return replace(data.take(rows), queries=texts, query_ids=names)


def _policy(
    data: TrainingSet,
    subject: InvarSubject,
    settings: InvarSettings,
    coarse: CoarseCandidates,
    stage: Stage1,
) -> DrawingPolicy:
    from ...train import Draw, DrawTeacher, DrawViews, DrawWindows

    policy: DrawingPolicy = Draw(data, group_size=settings.group_negatives + 1, seed=stage.seed)
    if stage.has("alignment") and settings.alignment != "likelihood":
        queries = coarse.queries
        if len(data) > len(queries):  # rewrites have the embedding of their question
            counts = [1 + len(own) for own in subject.rewrites]
            queries = np.repeat(queries, counts, axis=0)
        policy = DrawTeacher(policy, queries, coarse.documents)
    if stage.has("invariance"):
        policy = DrawViews(policy, subject.rewrites, n_views=stage.n_views, seed=stage.seed)
        if settings.training_windows:
            policy = DrawWindows(
                policy, settings.training_windows, n_views=stage.n_views, seed=stage.seed
            )
    return policy


def _objective(
    model: BiEncoder,
    settings: InvarSettings,
    coarse: CoarseCandidates,
    stage: Stage1,
    steps: int,
) -> BiEncoderObjective:
    from ...losses import AlignmentLoss, ContrastiveLoss, InvarianceLoss
    from ...train import (
        ContrastiveObjective,
        DistillationObjective,
        InvarianceObjective,
        RepresentationMask,
        RepresentationObjective,
        Schedule,
        WeightedObjective,
    )

    parts: dict[str, Any] = {
        "contrastive": ContrastiveObjective(model, ContrastiveLoss(settings.temperature))
    }
    weights: dict[str, Any] = {}
    if stage.has("alignment") and settings.alignment_weight:
        weights["alignment"] = settings.alignment_weight
        if settings.alignment == "representation":
            parts["alignment"] = RepresentationObjective(
                model,
                coarse.queries.shape[1],
                form=settings.divergence,
                temperature=settings.representation_temperature,
                seed=stage.seed,
            )
        else:
            loss = AlignmentLoss(
                settings.temperature,
                divergence=settings.divergence,
                teacher_temperature=settings.coarse_temperature,
            )
            parts["alignment"] = DistillationObjective(model, loss)
    if stage.has("invariance"):
        delay = round(settings.warmup_share * steps)
        ramp = max(1, round(settings.ramp_share * steps))
        weights["invariance"] = Schedule(
            stage.weight, start=0.0, steps=ramp, shape="linear", delay=delay
        )
        mask: Any = None
        if settings.invariance_mask != "none":
            mask = RepresentationMask(model.dim, swap=settings.invariance_mask, seed=stage.seed)
        parts["invariance"] = InvarianceObjective(
            model,
            InvarianceLoss(settings.invariance, temperature=settings.temperature),
            mask=mask,
            **_patterns(settings),
        )
    return WeightedObjective(parts, weights)


def _patterns(settings: InvarSettings) -> dict[str, Any]:
    if settings.top_patterns == 0:
        return {}
    return {"top_patterns": settings.top_patterns, "beta": settings.beta}


def training_key(
    subject: InvarSubject, settings: InvarSettings, stage: Stage1, texts: Sequence[Any]
) -> list[Any]:
    """Returns everything that a training depends on.

    Args:
        subject: models and data.
        settings: of the study.
        stage: which training.
        texts: digests of models and data.
    """
    names = (
        "alignment",
        "divergence",
        "alignment_weight",
        "invariance",
        "warmup_share",
        "ramp_share",
        "training_windows",
        "top_patterns",
        "beta",
        "invariance_mask",
        "lora_rank",
        "lora_alpha",
        "lora_dropout",
        "lora_targets",
        "depth",
        "group_negatives",
        "refresh_steps",
        "epochs",
        "train_batch_size",
        "learning_rate",
        "temperature",
        "coarse_temperature",
        "representation_temperature",
        "query_max_length",
        "document_max_length",
    )
    chosen = {name: getattr(settings, name) for name in names}
    own = [stage.variant, stage.seed, stage.weight, stage.n_views]
    return [*texts, *subject.prefixes, chosen, *own]
