"""Builds a trainer from arguments: reads the data, loads the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from ..data import TrainingSet, read_collection, read_training
from ..data.self_retrieval import chosen_identity, relevant_documents
from ..evaluate import Measure
from ..models import BiEncoder, Lora, find_model
from ..models.checkpoints.model_names import existing
from ..ragged_lists import Integers
from .arguments import RetrieverTrainingArguments
from .configured import configured_policy
from .data_arguments import DataArguments
from .evaluators import HeldOutLoss
from .model_arguments import ModelArguments
from .model_settings import model_settings
from .policy_inputs import PolicyInputs, read_inputs
from .report_callback import ReportCallback
from .trainer import RetrieverTrainer
from .validation import Validation, as_collection, held_out_rows
from .yaml_arguments import Arguments

LOSS = "loss"  # of `dev_measures`: no measure of rankings


def prepare(arguments: Arguments) -> RetrieverTrainer:
    """Builds the trainer that the arguments describe.

    Raises:
        ValueError, OSError: files or models that cannot be used.
    """
    model, data, training = arguments
    _check_measures(data, training)
    for name in filter(None, (model.model_name_or_path, training.teacher_model)):
        existing(find_model(name))  # before the data are read
    settings = model_settings(model, data).values
    whole, held = _read(data, training)
    train_set = whole if held is None else whole.take(held.kept)
    held_out = None if held is None else whole.take(held.chosen)
    validation = _validation(data, training, held_out)
    training.remove_query = chosen_identity(
        training.remove_query, data.train_path, train_set, train_set.positives, texts=True
    )
    # Of all queries, as files may have rewrites of those held out, too.
    inputs = read_inputs(whole, training, settings["title_format"])
    bi_encoder = _load(model, settings)
    evaluators = []
    if held is not None and held_out is not None and LOSS in data.dev_measures:
        evaluators = [_loss(held_out, training, inputs.take(held.chosen))]
    return RetrieverTrainer(
        bi_encoder,
        training,
        train_set,
        validation=validation,
        evaluators=evaluators,
        inputs=inputs if held is None else inputs.take(held.kept),
        callbacks=_reports(arguments, settings),
    )


def _reports(arguments: Arguments, settings: Mapping[str, Any]) -> list[ReportCallback]:
    """Returns the callback that writes the report, if there is to be one."""
    model, data, training = arguments
    if training.report is None:
        return []
    title = f"Training of {model.model_name_or_path} on {data.train_path}"
    groups: dict[str, dict[str, Any]] = {}
    for name, group in (("Model", model), ("Data", data)):
        values = {key: settings.get(key, value) for key, value in asdict(group).items()}
        groups[name] = {key: value for key, value in values.items() if value is not None}
    return [ReportCallback(training.report, title=title, settings=groups)]


def _check_measures(data: DataArguments, training: RetrieverTrainingArguments) -> None:
    """Checks the names of measures, and that the best checkpoint is chosen by one of them."""
    names = [str(Measure.parse(name)) for name in _ranking_measures(data)]
    names += ["average_rank"] * bool(names) + [LOSS] * (LOSS in data.dev_measures)
    if LOSS in data.dev_measures and not data.dev_holdout:
        raise ValueError(
            "dev_measures: loss needs dev_holdout, as a collection has no hard negatives"
        )
    wanted = training.metric_for_best_model
    # transformers sets "loss" where no measure is given.
    if wanted == LOSS and LOSS not in names and training.load_best_model_at_end:
        training.metric_for_best_model = wanted = names[0]
        training.greater_is_better = True
    if wanted is not None and wanted.removeprefix("eval_") not in names:
        raise ValueError(
            f"metric_for_best_model: expected one of {', '.join(names)}, got {wanted!r}"
        )


def _ranking_measures(data: DataArguments) -> list[str]:
    return [name for name in data.dev_measures if name != LOSS]


class _HeldOut(NamedTuple):
    """Rows of the queries that are left to train on, and of those held out."""

    kept: Integers
    chosen: Integers


def _read(
    data: DataArguments, training: RetrieverTrainingArguments
) -> tuple[TrainingSet, _HeldOut | None]:
    """Reads the training file, and chooses the queries that are held out of it."""
    if data.dev_holdout and data.dev_path:
        raise ValueError("dev_holdout: give dev_path or dev_holdout, not both")
    if data.dev_holdout_last and not data.dev_holdout:
        raise ValueError("dev_holdout_last: has no effect without dev_holdout")
    whole = read_training(data.train_path, split=data.train_split)
    if not data.dev_holdout:
        return whole, None
    rows = held_out_rows(whole, data.dev_holdout, seed=training.seed, last=data.dev_holdout_last)
    return whole, _HeldOut(*rows)


def _validation(
    data: DataArguments, training: RetrieverTrainingArguments, held_out: TrainingSet | None
) -> Validation | None:
    """Reads the collection to validate on, or makes it of queries that are held out."""
    if held_out is None and not data.dev_path:
        return None
    if held_out is not None:
        collection = as_collection(held_out)
    else:
        collection = read_collection(str(data.dev_path), split=data.dev_split)
    if not _ranking_measures(data):
        return None
    rule = chosen_identity(
        training.remove_query,
        data.dev_path or data.train_path,
        collection,
        relevant_documents(collection.qrels),
        texts=False,
    )
    return Validation(collection, tuple(_ranking_measures(data)), training.encode_batch_size, rule)


def _loss(
    held_out: TrainingSet, training: RetrieverTrainingArguments, inputs: PolicyInputs
) -> HeldOutLoss:
    policy = configured_policy(held_out, training, inputs)
    return HeldOutLoss(policy, batch_size=training.eval_batch_size * training.world_size)


def _load(model: ModelArguments, settings: Mapping[str, Any]) -> BiEncoder:
    lora = None
    if model.lora:
        named = model.lora_target_modules
        lora = Lora(
            model.lora_r,
            model.lora_alpha,
            model.lora_dropout,
            named.split(",") if named and named != "all-linear" else named,
        )
    return BiEncoder.from_pretrained(
        find_model(model.model_name_or_path),
        tied=not model.untie_encoder,
        pooling=settings["pooling"],
        normalize=settings["normalize"],
        query_prefix=settings["query_prefix"],
        document_prefix=settings["passage_prefix"],
        query_max_length=model.query_max_len,
        document_max_length=model.passage_max_len,
        title_format=settings["title_format"],
        lora=lora,
    )
