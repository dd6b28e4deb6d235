"""`transformers.Trainer` for retrievers: its loop, checkpoints and logs around `train_step`.

The data loader yields row numbers, and passages are drawn when the step begins. So hard negatives
of a refresh are used at once, and a resumed training draws what an uninterrupted one draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..data import TrainingSet
from ..distributed import processes
from ..files.write_errors import write_errors
from ..models import BiEncoder
from .arguments import RetrieverTrainingArguments
from .checkpoints import (
    MODEL,
    WEIGHTS,
    begin_checkpoint,
    check_limit,
    check_resumable,
    check_whole,
    finish_checkpoint,
    load_negatives,
    save_negatives,
)
from .configured import (
    OBJECTIVE_ARGUMENTS,
    POLICY_ARGUMENTS,
    check_defaults,
    check_epoch,
    check_teacher_scores,
    configured_objective,
    configured_policy,
)
from .drawing import DrawingPolicy
from .evaluators import Evaluator, add_values
from .gradient_step import train_step
from .objectives import BiEncoderObjective
from .policy_inputs import PolicyInputs, read_inputs
from .refresh import Refresh
from .report_callback import ReportCallback
from .trained_weights import TrainedWeights
from .validation import Validation
from .warmup import warn_of_long_warmup


class RetrieverTrainer(Trainer):
    """Trains a bi-encoder on a `TrainingSet`.

    Checkpoints resume to the same bits on the CPU. Each holds a folder ``model`` for
    `BiEncoder.from_pretrained`. Over processes (``torchrun``), the batch is that of all of them,
    and its loss and gradients those of one process.

    Besides what `transformers` logs, the log has ``n_negatives`` (the mean number of negatives of a
    query after masks, in this process), with refreshed negatives ``negatives_age`` (steps since
    they were mined), and with several objectives the loss and the weight of each (means since the
    last line, in this process).

    Args:
        model: the bi-encoder to train.
        args: arguments of the training.
        data: queries, passages, positives, hard negatives, and perhaps a teacher's scores.
        validation: collection and measures of `evaluate`; needed where `args` asks for evaluation.
        objective: of the same model, in place of the one that `args` describe.
        policy: draws batches of the same data, in place of the policy that `args` describe.
        evaluators: compute further values at each evaluation, such as the accuracy of a language
            model; they also serve without a validation.
        inputs: the rewrites and the embeddings that `args` name, where they were read before.
        **options: callbacks and others of `transformers.Trainer`.

    Raises:
        ValueError: worker processes for the data (they would hold old negatives); no query; teacher
            scores that distillation needs and the data lack; an objective of another model, a
            policy of other data, or with epochs of another length; arguments that either of them
            leaves without effect; a limit of checkpoints that would remove a folder of somebody
            else.

    Warns:
        UserWarning: the warm-up has at least as many steps as the training.
    """

    def __init__(
        self,
        model: BiEncoder,
        args: RetrieverTrainingArguments,
        data: TrainingSet,
        *,
        validation: Validation | None = None,
        objective: BiEncoderObjective | None = None,
        policy: DrawingPolicy | None = None,
        evaluators: Sequence[Evaluator] = (),
        inputs: PolicyInputs | None = None,
        **options: Any,
    ) -> None:
        _check(model, args, data, objective, policy)
        check_limit(args.output_dir, args.save_total_limit)
        everyone = torch.distributed.group.WORLD if processes.world() > 1 else None
        self.validation = validation
        self.evaluators = list(evaluators)
        self.refresh = Refresh(
            args.refresh_steps,
            args.refresh_at_start,
            args.refresh_depth,
            args.refresh_skip,
            args.refresh_negatives,
            args.refresh_relative_margin,
            args.encode_batch_size,
            args.seed,
            args.removal,
        )
        if inputs is None:
            inputs = read_inputs(data, args, model.title_format)
        self.inputs = inputs
        self.draw = configured_policy(data, args, inputs) if policy is None else policy
        self._mined_at: int | None = None
        self._logged: dict[str, list[Tensor | float]] = {}
        super().__init__(
            configured_objective(model, args, everyone, inputs) if objective is None else objective,
            args,
            data_collator=_rows,
            train_dataset=range(len(data)),
            eval_dataset=validation or self.evaluators or None,
            **options,
        )
        if args.report is not None and not self.reports:
            self.add_callback(ReportCallback(args.report))
        if self.lr_scheduler is None:  # that of the arguments is made when the training begins
            warn_of_long_warmup(len(data), args)

    args: RetrieverTrainingArguments  # narrows the type of transformers' attribute

    @property
    def training_objective(self) -> BiEncoderObjective:
        """The model and its loss, without the wrapper of DDP."""
        return self.model  # type: ignore[return-value]

    @property
    def reports(self) -> list[ReportCallback]:
        """Callbacks that write a report."""
        callbacks = self.callback_handler.callbacks
        return [each for each in callbacks if isinstance(each, ReportCallback)]

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Trains; see `transformers.Trainer.train`. Reports say what has ended it."""
        try:
            return super().train(*arguments, **options)
        except BaseException as error:
            for report in self.reports:
                report.write_interrupted(self.args, self.state, error)
            raise

    def get_train_dataloader(self) -> Any:
        """Returns the loader of rows; its epochs are those that a policy counts."""
        loader = super().get_train_dataloader()
        check_epoch(self.draw, len(loader), self.args)
        return loader

    # ---- a step ------------------------------------------------------------------------------

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Adds the gradients of a batch by `train_step`, after mining negatives if it is time."""
        step = self.state.global_step
        if self.refresh.due(step) and self._mined_at != step:
            self._mine(step)
        batch = self.draw.batch(inputs["rows"].cpu().numpy(), step=step)
        model.train()
        chunk_sizes = self.args.chunk_sizes
        loss = train_step(
            self.training_objective,
            batch,
            chunk_sizes=chunk_sizes,
            weight=1 / self.current_gradient_accumulation_steps,
            wrapped=model,
            # Without chunks the loop of transformers decides where DDP exchanges gradients.
            synchronize=chunk_sizes is None or self.accelerator.sync_gradients,
            autocast=self.compute_loss_context_manager,
            backward=self.accelerator.backward,
        )
        recorded: dict[str, Tensor | float] = {"n_negatives": batch.negatives(), **loss.terms}
        for name, value in recorded.items():
            self._logged.setdefault(name, []).append(value)
        return loss.value

    def _mine(self, step: int) -> None:
        data = self.draw.data
        negatives = self.refresh.run(self.training_objective.model, data, step=step)
        self.draw = self.draw.with_data(data.with_negatives(negatives))
        self._mined_at = step

    # ---- measures ----------------------------------------------------------------------------

    @property
    def can_evaluate(self) -> bool:
        """Whether there is something to compute: a validation, or evaluators."""
        return self.validation is not None or bool(self.evaluators)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Computes and logs the measures of the validation, such as "eval_nDCG@10".

        The values of evaluators are among them.
        """
        validation = self.validation if eval_dataset is None else eval_dataset
        known = isinstance(validation, Validation) or (validation is None and self.evaluators)
        if not known:
            raise ValueError(
                "RetrieverTrainer.evaluate: there is no Validation; give one to the trainer"
            )
        objective = self.training_objective
        found = {} if validation is None else validation.run(objective.model)
        add_values(found, self.evaluators, objective, step=self.state.global_step)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of what steps recorded since the last line."""
        if "loss" in logs and self._logged:
            for name, values in self._logged.items():
                mean = math.fsum(float(value) for value in values) / len(values)
                logs[name] = round(mean, 2) if name == "n_negatives" else mean
            self._logged.clear()
            if self._mined_at is not None:
                logs["negatives_age"] = self.state.global_step - self._mined_at
        super().log(logs, start_time)

    # ---- checkpoints -------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        with write_errors(folder):
            begin_checkpoint(folder)
            self.training_objective.model.save_pretrained(folder / MODEL)
            TrainedWeights(self.training_objective).write(folder / WEIGHTS)
            if self._mined_at is not None:
                save_negatives(folder, self.draw.data, self._mined_at)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with write_errors(checkpoint):
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                finish_checkpoint(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        check_resumable(folder)
        check_whole(folder)
        TrainedWeights(self.training_objective).read(folder / WEIGHTS)
        mined = load_negatives(folder, self.draw.data)
        if mined is not None:
            negatives, self._mined_at = mined
            self.draw = self.draw.with_data(self.draw.data.with_negatives(negatives))

    def _load_best_model(self) -> None:
        folder = Path(str(self.state.best_model_checkpoint))
        check_whole(folder)
        TrainedWeights(self.training_objective).read(folder / WEIGHTS)


def _check(
    model: BiEncoder,
    args: RetrieverTrainingArguments,
    data: TrainingSet,
    objective: BiEncoderObjective | None,
    policy: DrawingPolicy | None,
) -> None:
    if args.dataloader_num_workers:
        raise ValueError(
            "dataloader_num_workers: expected 0, as texts are read in the step, got "
            f"{args.dataloader_num_workers}"
        )
    if not len(data):
        raise ValueError("RetrieverTrainer: the training set has no queries")
    if not args.distillation_schedule.is_zero and args.teacher_model is None:
        check_teacher_scores(data)
    if objective is not None:
        check_defaults(args, OBJECTIVE_ARGUMENTS, "an objective")
        if objective.model is not model:
            raise ValueError("RetrieverTrainer: the objective must be of the model that is given")
    if policy is not None:
        check_defaults(args, POLICY_ARGUMENTS, "a policy")
        if policy.data is not data:
            raise ValueError("RetrieverTrainer: the policy must draw from the data that are given")


def _rows(rows: list[int]) -> dict[str, Tensor]:
    return {"rows": torch.tensor(rows)}
