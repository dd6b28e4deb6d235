"""Stage 2: trains an adapter to answer from retrieved passages, and measures answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..locked_training import locked_training
from ..study import Reporter
from .invar_result import CLOSED_BOOK, ENSEMBLE, GOLD, STAGE_2, VANILLA
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .starting_model import adapter_size, precision

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...invar import UnifiedLM

# Names in reports, and those of `evaluate_predictions`.
MEASURES = {"EM": "EM", "F1": "F1", "contains": "PopQA-relaxed"}
SYSTEMS = (CLOSED_BOOK, VANILLA, ENSEMBLE, STAGE_2, GOLD)
_DONE = "done"  # is written when the training is done


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
    from ...train.checkpoints import MODEL, last_checkpoint

    with locked_training(folder, progress):
        if not (folder / _DONE).is_file():
            trainer = _trainer(subject, settings, retriever, ranking, seed, folder)
            resumed = last_checkpoint(folder)
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
            trainer.save_model()
            (folder / _DONE).touch()
    return folder / MODEL


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


def answer_measures(
    model: UnifiedLM,
    subject: InvarSubject,
    settings: InvarSettings,
    ranking: NDArray[np.int64],
    scores: NDArray[np.float32],
    *,
    baselines: bool = True,
    progress: bool,
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Measures the answers to the test questions before and after stage 2.

    Args:
        model: after stage 2.
        subject: models and data.
        settings: of the study.
        ranking, scores: ``[n, k]`` documents of each test question, by the retriever of the model.
        baselines: whether to measure answers before stage 2, too.
        progress: whether to show progress on stderr.

    Returns:
        By system and measure, float64 ``[n]``.
    """
    from ...invar.generation import AnswerGenerator, PassageEnsemble

    data = subject.test
    options: dict[str, Any] = {
        "template": subject.template,
        "n_passages": settings.n_passages,
        "max_new_tokens": settings.max_new_tokens,
        "batch_size": settings.batch_size,
    }
    before, after = (AnswerGenerator(one, **options) for one in (model.plain, model.generator))
    k = min(settings.n_passages, ranking.shape[1])
    found = [[data.documents[row] for row in own] for own in ranking[:, :k].tolist()]
    gold = [[data.documents[row] for row in data.positives.of(i)[:1]] for i in range(len(data))]
    shown = "answers" if progress else False
    answers: dict[str, list[str]] = {}
    if baselines:
        ensemble = PassageEnsemble(before, temperature=settings.temperature)
        weighted = ensemble.answer(data.queries, found, scores[:, :k].tolist(), progress=shown)
        answers[CLOSED_BOOK] = before.answer(data.queries, progress=shown)
        answers[VANILLA] = before.answer(data.queries, found, progress=shown)
        answers[ENSEMBLE] = list(weighted.answers)
    answers[STAGE_2] = after.answer(data.queries, found, progress=shown)
    answers[GOLD] = after.answer(data.queries, gold, progress=shown)
    return {
        (system, name): value
        for system, own in answers.items()
        for name, value in _measures(own, data).items()
    }


def _measures(answers: Sequence[str], data: TrainingSet) -> Mapping[str, NDArray[np.float64]]:
    from ...evaluate import evaluate_predictions

    accepted = [list(own) for own in data.answers]
    found = evaluate_predictions(answers, accepted, list(MEASURES.values()))
    return {name: found[key] for name, key in MEASURES.items()}
