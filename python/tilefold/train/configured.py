"""Builds the objective and the drawing policy that arguments describe."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import TrainingSet
from ..losses import AlignmentLoss, ContrastiveLoss
from ..models import BiEncoder
from ..ragged_lists import Lists
from .arguments import RetrieverTrainingArguments
from .drawing import Draw, DrawingPolicy
from .objectives import (
    BiEncoderObjective,
    ContrastiveObjective,
    DistillationObjective,
    WeightedObjective,
)
from .schedule import Schedule
from .several_positives import DrawSeveral

# Arguments that describe the objective, or the drawing policy, and nothing else.
OBJECTIVE_ARGUMENTS = (
    "temperature",
    "learn_temperature",
    "symmetric",
    "positives_mode",
    "contrastive_weight",
    "distillation_weight",
    "teacher_temperature",
)
POLICY_ARGUMENTS = (
    "train_group_size",
    "positives_per_query",
    "positive_passage_no_shuffle",
    "negative_passage_no_shuffle",
)


def configured_objective(
    model: BiEncoder,
    args: RetrieverTrainingArguments,
    process_group: torch.distributed.ProcessGroup | None = None,
) -> BiEncoderObjective:
    """Builds the objective: contrastive, distillation, or a weighted sum of both."""
    contrastive = ContrastiveObjective(
        model,
        ContrastiveLoss(
            args.temperature,
            learn_temperature=args.learn_temperature,
            symmetric=args.symmetric,
            mode=args.positives_mode,
            process_group=process_group,
        ),
    )
    weights = {"contrastive": args.contrastive_schedule, "distillation": args.distillation_schedule}
    if weights["distillation"].is_zero and weights["contrastive"] == Schedule(1.0):
        return contrastive
    distillation = DistillationObjective(
        model,
        AlignmentLoss(args.temperature, teacher_temperature=args.teacher_temperature),
        process_group=process_group,
    )
    objectives = {"contrastive": contrastive, "distillation": distillation}
    used = [name for name, weight in weights.items() if not weight.is_zero]
    return WeightedObjective(
        {name: objectives[name] for name in used}, {name: weights[name] for name in used}
    )


def configured_policy(data: TrainingSet, args: RetrieverTrainingArguments) -> DrawingPolicy:
    """Builds the drawing policy: one positive of each query, or several."""
    if args.positives_per_query == 1:
        return Draw(
            data,
            group_size=args.train_group_size,
            seed=args.seed,
            first_positive=args.positive_passage_no_shuffle,
            first_negatives=args.negative_passage_no_shuffle,
            remove_query=args.removal,
        )
    return DrawSeveral(
        data,
        max_positives=args.positives_per_query or None,
        n_negatives=args.train_group_size - 1,
        seed=args.seed,
        first_positives=args.positive_passage_no_shuffle,
        first_negatives=args.negative_passage_no_shuffle,
        remove_query=args.removal,
    )


def check_teacher_scores(data: TrainingSet) -> None:
    """Requires a teacher's score for every listed passage of every query.

    Raises:
        ValueError: the data have no scores, or a passage lacks one.
    """
    sides = (
        ("positive", data.positives, data.positive_scores),
        ("negative", data.negatives, data.negative_scores),
    )
    if all(scores is None for _, _, scores in sides):
        raise ValueError(
            "distillation_weight: the training set has no teacher scores; FlagEmbedding files have "
            "them as pos_scores and neg_scores, Tevatron files as the score of a passage"
        )
    for name, lists, scores in sides:
        missing = _missing(lists, scores)
        if len(missing):
            query = int(lists.owners()[missing[0]])
            document = data.document_ids[int(lists.indices[missing[0]])]
            raise ValueError(
                f"distillation_weight: expected a finite teacher score for every passage, but "
                f"{len(missing)} of {len(lists.indices)} {name}s have none; the first is document "
                f"{document!r} of query {data.query_ids[query]!r}"
            )


def check_defaults(
    args: RetrieverTrainingArguments, names: tuple[str, ...], replacement: str
) -> None:
    """Requires that arguments which an explicit object replaces have their default values.

    Raises:
        ValueError: one has another value, which would have no effect.
    """
    defaults = {item.name: item.default for item in dataclasses.fields(args)}
    for name in names:
        if getattr(args, name) != defaults[name]:
            raise ValueError(
                f"RetrieverTrainer: {name}={getattr(args, name)!r} has no effect where "
                f"{replacement} is given; set it there"
            )


def _missing(lists: Lists, scores: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """Returns places of listed passages without a finite score."""
    if scores is None:
        return np.arange(len(lists.indices))
    return np.flatnonzero(~np.isfinite(scores))
