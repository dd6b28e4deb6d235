"""Warns of a warm-up that is as long as the training, which then never has its learning rate."""

from __future__ import annotations

import math
import warnings

from transformers.trainer_utils import SchedulerType

from .arguments import RetrieverTrainingArguments
from .configured import steps_per_epoch

_WITHOUT = (SchedulerType.CONSTANT, SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY)


def warn_of_long_warmup(n: int, args: RetrieverTrainingArguments) -> None:
    """Warns if `warmup_steps`, as a number of steps, is no less than the steps of the training.

    Args:
        n: number of training queries.
        args: of the training.
    """
    steps = args.max_steps
    if steps <= 0:
        steps = math.ceil(args.num_train_epochs * steps_per_epoch(n, args))
    warmup = int(args.warmup_steps)  # 0 of a share
    if warmup < max(1, steps) or args.lr_scheduler_type in _WITHOUT:
        return
    remedy = "0.1 for a share" if steps > 1 else "0 for none"
    warnings.warn(
        f"RetrieverTrainer: warmup_steps is {warmup:,} and the training has "
        f"{steps:,} {'step' if steps == 1 else 'steps'}, so the learning rate never reaches "
        f"{args.learning_rate:g}; give warmup_steps: {remedy}",
        stacklevel=3,
    )
