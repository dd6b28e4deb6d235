"""Builds the objective and the drawing policy that arguments describe."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import TrainingSet
from ..losses import AlignmentLoss, ContrastiveLoss, InvarianceLoss
from ..models import BiEncoder
from ..ragged_lists import Lists
from .arguments import RetrieverTrainingArguments
from .document_views import DrawWindows
from .drawing import Draw, DrawingPolicy
from .objective_arguments import ObjectiveArguments
from .objectives import (
    BiEncoderObjective,
    ContrastiveObjective,
    DistillationObjective,
    InvarianceObjective,
    RepresentationMask,
    RepresentationObjective,
    WeightedObjective,
)
from .policy_arguments import PolicyArguments
from .policy_inputs import PolicyInputs, without_scores
from .query_views import DrawViews
from .rotating_negatives import DrawRotating
from .schedule import Schedule
from .several_positives import DrawSeveral
from .teacher_policy import DrawTeacher

# Arguments that describe the objective, or the drawing policy, and nothing else.
OBJECTIVE_ARGUMENTS = tuple(item.name for item in dataclasses.fields(ObjectiveArguments))
POLICY_ARGUMENTS = tuple(item.name for item in dataclasses.fields(PolicyArguments))


def configured_objective(
    model: BiEncoder,
    args: RetrieverTrainingArguments,
    process_group: torch.distributed.ProcessGroup | None = None,
    inputs: PolicyInputs | None = None,
) -> BiEncoderObjective:
    """Builds the objective: contrastive, or a weighted sum of that and other terms.

    Args:
        model: the bi-encoder to train.
        args: of the training.
        process_group: processes that batches are spread over.
        inputs: what the arguments name; its embeddings have the dimensions that are projected.
    """
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
    weights = {
        "contrastive": args.contrastive_schedule,
        "distillation": args.distillation_schedule,
        "representation": args.representation_schedule,
        "invariance": args.invariance_schedule,
    }
    used = {name: weight for name, weight in weights.items() if not weight.is_zero}
    if used == {"contrastive": Schedule(1.0)}:
        return contrastive
    objectives: dict[str, BiEncoderObjective] = {"contrastive": contrastive}
    if "distillation" in used:
        objectives["distillation"] = DistillationObjective(
            model,
            AlignmentLoss(
                args.temperature,
                teacher_temperature=args.teacher_temperature,
                divergence=args.distillation_divergence,
            ),
            process_group=process_group,
        )
    if "representation" in used:
        objectives["representation"] = _representation(model, args, process_group, inputs)
    if "invariance" in used:
        objectives["invariance"] = _invariance(model, args, process_group)
    return WeightedObjective({name: objectives[name] for name in used}, used)


def _representation(
    model: BiEncoder,
    args: RetrieverTrainingArguments,
    process_group: torch.distributed.ProcessGroup | None,
    inputs: PolicyInputs | None,
) -> RepresentationObjective:
    if inputs is None or inputs.teacher is None:
        raise ValueError("representation_weight: expected embeddings of teacher_model, got none")
    form: Any = args.representation_form
    return RepresentationObjective(
        model,
        inputs.teacher.queries.shape[1],
        form=form,
        temperature=None if form == "mse" else args.representation_temperature,
        seed=args.seed,
        process_group=process_group,
    )


def _invariance(
    model: BiEncoder,
    args: RetrieverTrainingArguments,
    process_group: torch.distributed.ProcessGroup | None,
) -> InvarianceObjective:
    if process_group is not None and args.invariance_candidates == "batch":
        raise ValueError(
            "invariance_weight: expected one process, as views are compared over the passages of "
            f"one, got {torch.distributed.get_world_size(process_group)}; with consistency, "
            "invariance_candidates own has no such limit"
        )
    candidates: Any = args.invariance_candidates
    mask, swap = None, args.invariance_mask
    if swap != "none":
        parts: Any = swap
        mask = RepresentationMask(
            model.dim, swap=parts, gate_temperature=args.gate_temperature, seed=args.seed
        )
    return InvarianceObjective(
        model,
        InvarianceLoss(args.invariance_form, temperature=args.temperature),
        candidates=candidates,
        top_patterns=args.invariance_patterns,
        beta=args.invariance_beta,
        mode=None if args.invariance_form == "consistency" else args.positives_mode,
        mask=mask,
        process_group=process_group,
    )


def configured_policy(
    data: TrainingSet, args: RetrieverTrainingArguments, inputs: PolicyInputs | None = None
) -> DrawingPolicy:
    """Builds the drawing policy: passages, then views and teacher scores where arguments have them.

    Args:
        data: queries, passages, and which belong together. With a teacher of its own, scores of the
            file take no part.
        args: of the training.
        inputs: what the arguments name, for the queries of the data.
    """
    inputs = inputs or PolicyInputs()
    if inputs.teacher is not None:
        data = without_scores(data)
    policy = _passages(data, args)
    if inputs.rewrites is not None:
        policy = DrawViews(policy, inputs.rewrites, n_views=args.n_query_views, seed=args.seed)
    if args.document_windows:
        policy = DrawWindows(
            policy, args.document_windows, n_views=args.n_document_views, seed=args.seed
        )
    if inputs.teacher is not None:
        candidates: Any = args.teacher_candidates
        policy = DrawTeacher(policy, *inputs.teacher, candidates=candidates)
    return policy


def _passages(data: TrainingSet, args: RetrieverTrainingArguments) -> DrawingPolicy:
    """Draws one positive of each query or several, and negatives, which may rotate."""
    if args.negatives_rotation:
        return DrawRotating(
            data,
            n_negatives=args.train_group_size - 1,
            steps_per_epoch=steps_per_epoch(len(data), args),
            seed=args.seed,
            max_positives=args.positives_per_query or None,
            first_positives=args.positive_passage_no_shuffle,
            remove_query=args.removal,
        )
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


def steps_per_epoch(n: int, args: RetrieverTrainingArguments) -> int:
    """Returns the number of optimizer steps in a pass over n queries.

    Each process has a batch of its own in a step, and a step sums the gradients of
    `gradient_accumulation_steps` of them; the last step of a pass may have fewer.
    """
    batches = n
    for size in (args.train_batch_size, args.world_size):
        batches = batches // size if args.dataloader_drop_last else -(-batches // size)
    return _steps(batches, args)


def check_epoch(policy: DrawingPolicy, batches: int, args: RetrieverTrainingArguments) -> None:
    """Requires that a policy which counts epochs counts those of the training.

    Args:
        policy: of the training.
        batches: number of batches of this process in a pass over the queries.
        args: of the training.

    Raises:
        ValueError: the policy has another number of steps per epoch.
    """
    while (inner := getattr(policy, "policy", None)) is not None:
        policy = inner
    if isinstance(policy, DrawRotating) and policy.steps_per_epoch != _steps(batches, args):
        raise ValueError(
            f"RetrieverTrainer: the policy has steps_per_epoch {policy.steps_per_epoch}, but an "
            f"epoch of this training has {_steps(batches, args)} steps"
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
    defaults = {item.name: _default(item) for item in dataclasses.fields(args)}
    for name in names:
        if getattr(args, name) != defaults[name]:
            raise ValueError(
                f"RetrieverTrainer: {name}={getattr(args, name)!r} has no effect where "
                f"{replacement} is given; set it there"
            )


def _default(item: dataclasses.Field[Any]) -> Any:
    made = item.default_factory
    return item.default if made is dataclasses.MISSING else made()


def _steps(batches: int, args: RetrieverTrainingArguments) -> int:
    return max(1, -(-batches // args.gradient_accumulation_steps))


def _missing(lists: Lists, scores: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """Returns places of listed passages without a finite score."""
    if scores is None:
        return np.arange(len(lists.indices))
    return np.flatnonzero(~np.isfinite(scores))
