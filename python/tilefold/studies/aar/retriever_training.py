"""Trains a retriever on merged positives as AAR does, and resumes a training that was stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..resumable_training import Log, train_once
from ..study import Reporter
from .aar_settings import AARSettings

if TYPE_CHECKING:
    from ...aar import TargetLM
    from ...data import TrainingSet
    from ...models import BiEncoder
    from ...retrieval.running_search import SearchResult
    from ...train import Evaluator, RankingEvaluator

_EVALUATIONS = 4  # during a training, besides the one before it
_RANKING, _ACCURACY = "RR@10", "accuracy"
_MEASURES = (("reciprocal_rank", _RANKING), ("accuracy", _ACCURACY))  # ours, and in the log
NAN = float("nan")


def train_retriever(
    retriever: BiEncoder,
    data: TrainingSet,
    dev: TrainingSet | None,
    settings: AARSettings,
    seed: int,
    folder: Path,
    *,
    target: TargetLM | None = None,
    progress: Reporter | None = None,
) -> tuple[Path, Log]:
    """Trains a copy of a retriever with one softmax per positive and rotating hard negatives.

    Where another run trains in the folder, waits for it and takes its retriever.

    Args:
        retriever: before adaptation; its weights stay.
        data: positives and hard negatives.
        dev: questions to measure RR@10 on, by human judgments.
        settings: of the training.
        seed: of the order and of drawn passages.
        folder: of checkpoints; a training that is done there is not repeated.
        target: LM whose accuracy on the dev questions is measured, too.
        progress: receives a warning where another run is waited for.

    Returns:
        The folder of the trained retriever, and measures by step.
    """
    before: dict[str, float] = {}

    def make() -> Any:
        evaluators = []
        if dev is not None and target is not None:
            evaluators.append(_dev_accuracy(target, dev, settings, retriever))
        trainer = _trainer(retriever, data, dev, settings, seed, folder, evaluators)
        # The log of a training begins after its first step, and a checkpoint is loaded by train().
        if trainer.can_evaluate:
            before.update(trainer.evaluate())
        return trainer

    def measures(trainer: Any) -> Log:
        logged = [{"step": 0, **before}, *trainer.state.log_history]
        return [
            {"step": one["step"], **{name: one.get(f"eval_{key}", NAN) for name, key in _MEASURES}}
            for one in logged
            if any(f"eval_{key}" in one for _, key in _MEASURES)
        ]

    return train_once(folder, make, measures, name="evaluations.json", progress=progress)


def _trainer(
    retriever: BiEncoder,
    data: TrainingSet,
    dev: TrainingSet | None,
    settings: AARSettings,
    seed: int,
    folder: Path,
    evaluators: Sequence[Evaluator],
) -> Any:
    import copy
    import math

    from transformers import PrinterCallback

    from ...train import RetrieverTrainer, Validation
    from ...train.arguments import RetrieverTrainingArguments
    from ...train.validation import as_collection

    steps = math.ceil(len(data) / settings.train_batch_size) * settings.epochs
    every = max(1, steps // _EVALUATIONS)
    evaluated: Mapping[str, Any] = {} if dev is None else {"eval_strategy": "steps"}
    arguments = RetrieverTrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.train_batch_size,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=0.1,
        seed=seed,
        positives_per_query=0,
        train_group_size=settings.group_negatives + 1,
        negatives_rotation=True,
        temperature=settings.temperature,
        refresh_steps=settings.refresh_steps,
        refresh_negatives=settings.n_negatives,
        refresh_depth=settings.depth,
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=1,
        logging_steps=every,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,  # batches are numbers of rows
        encode_batch_size=settings.batch_size,
        **evaluated,
    )
    validation = None if dev is None else Validation(as_collection(dev), (_RANKING,))
    trainer = RetrieverTrainer(
        copy.deepcopy(retriever), arguments, data, validation=validation, evaluators=evaluators
    )
    trainer.remove_callback(PrinterCallback)  # a study prints nothing
    return trainer


def _dev_accuracy(
    target: TargetLM, dev: TrainingSet, settings: AARSettings, retriever: BiEncoder
) -> RankingEvaluator:
    """Measures a target LM that reads what a retriever in training finds for the dev questions."""
    from ...aar import PopqaTask, ranked_passages
    from ...train import RankingEvaluator

    task = PopqaTask.of_training_set(dev)
    n = min(settings.n_passages or task.default_passages(target), len(dev.documents))

    def accuracy(found: SearchResult) -> dict[str, float]:
        passages = ranked_passages(found.ids, dev.documents, n)
        return {_ACCURACY: task.run(target, passages, n).accuracy}

    return RankingEvaluator(
        retriever.query_texts(dev.queries, dev.prompts),
        dev.documents,
        accuracy,
        k=n,
        titles=dev.titles,
        batch_size=settings.batch_size,
    )
