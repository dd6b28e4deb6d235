"""Builds a trainer from arguments: reads the data, loads the model."""

from __future__ import annotations

from ..data import Collection, TrainingSet, read_collection, read_training
from ..data.self_retrieval import chosen_identity, relevant_documents
from ..evaluate import Measure
from ..models import BiEncoder, Lora, find_model
from ..models.checkpoints.model_names import existing
from .arguments import DataArguments, ModelArguments, RetrieverTrainingArguments
from .configured import configured_policy
from .evaluators import HeldOutLoss
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
    existing(find_model(model.model_name_or_path))  # before the data are read
    train_set, validation, held_out = _read(data, training)
    training.remove_query = chosen_identity(
        training.remove_query, data.train_path, train_set, train_set.positives, texts=True
    )
    bi_encoder = _load(model, data.title_format)
    evaluators = [] if held_out is None else [_loss(train_set, held_out, training)]
    return RetrieverTrainer(
        bi_encoder, training, train_set, validation=validation, evaluators=evaluators
    )


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


def _read(
    data: DataArguments, training: RetrieverTrainingArguments
) -> tuple[TrainingSet, Validation | None, TrainingSet | None]:
    """Reads what to train on, a validation, and queries that are held out for their loss."""
    if data.dev_holdout and data.dev_path:
        raise ValueError("dev_holdout: give dev_path or dev_holdout, not both")
    if data.dev_holdout_last and not data.dev_holdout:
        raise ValueError("dev_holdout_last: has no effect without dev_holdout")
    train_set = read_training(data.train_path, split=data.train_split)
    held_out = None
    if data.dev_holdout:
        rows = held_out_rows(
            train_set, data.dev_holdout, seed=training.seed, last=data.dev_holdout_last
        )
        train_set, held_out = (train_set.take(part) for part in rows)
        collection = as_collection(held_out)
    elif data.dev_path:
        collection = read_collection(data.dev_path, split=data.dev_split)
    else:
        return train_set, None, None
    validation = None
    if _ranking_measures(data):
        validation = _validation(data, training, collection)
    return train_set, validation, held_out if LOSS in data.dev_measures else None


def _validation(
    data: DataArguments, training: RetrieverTrainingArguments, collection: Collection
) -> Validation:
    rule = chosen_identity(
        training.remove_query,
        data.dev_path or data.train_path,
        collection,
        relevant_documents(collection.qrels),
        texts=False,
    )
    return Validation(collection, tuple(_ranking_measures(data)), training.encode_batch_size, rule)


def _loss(
    train_set: TrainingSet, held_out: TrainingSet, training: RetrieverTrainingArguments
) -> HeldOutLoss:
    policy = configured_policy(train_set, training).with_data(held_out)
    return HeldOutLoss(policy, batch_size=training.eval_batch_size * training.world_size)


def _load(model: ModelArguments, title_format: str) -> BiEncoder:
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
        pooling=model.pooling,
        normalize=model.normalize,
        query_prefix=model.query_prefix,
        document_prefix=model.passage_prefix,
        query_max_length=model.query_max_len,
        document_max_length=model.passage_max_len,
        title_format=title_format,
        lora=lora,
    )
