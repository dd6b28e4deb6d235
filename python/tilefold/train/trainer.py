"""`transformers.Trainer` for retrievers: its loop, checkpoints and logs around our losses.

A batch is row numbers until the step begins, so that hard negatives of a refresh are used at once
and an interrupted training, resumed, draws what it would have drawn.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from transformers import Trainer

from ..data import TrainingSet
from ..distributed import processes
from ..losses import ContrastiveLoss
from ..models import BiEncoder
from .arguments import RetrieverTrainingArguments
from .batches import Batch, Draw
from .checkpoints import MODEL, WEIGHTS, check_resumable, load_negatives, save_negatives
from .objective import Objective, cached_step
from .refresh import Refresh
from .validation import Validation


class RetrieverTrainer(Trainer):
    """Trains a bi-encoder on a `TrainingSet`.

    Checkpoints resume to the same bits on the CPU. Each holds a folder ``model`` for
    `BiEncoder.from_pretrained`. Over processes (``torchrun``), the batch is that of all of them,
    and its loss and gradients those of one process.

    The log has, besides what `transformers` logs, ``n_negatives`` (of a query, after masks, of this
    process) and, with refreshed negatives, ``negatives_age``: steps since they were mined.

    Args:
        model: what is trained.
        args: how.
        data: queries, passages, positives, hard negatives.
        validation: what `evaluate` measures; needed where `args` asks for evaluation.
        **options: callbacks and others of `transformers.Trainer`.

    Raises:
        ValueError: worker processes for the data (they would hold old negatives), no query.
    """

    def __init__(
        self,
        model: BiEncoder,
        args: RetrieverTrainingArguments,
        data: TrainingSet,
        *,
        validation: Validation | None = None,
        **options: Any,
    ) -> None:
        if args.dataloader_num_workers:
            raise ValueError(
                "dataloader_num_workers: expected 0, as texts are read in the step, got "
                f"{args.dataloader_num_workers}"
            )
        if not len(data):
            raise ValueError("RetrieverTrainer: the training set has no queries")
        together = torch.distributed.group.WORLD if processes.world() > 1 else None
        loss = ContrastiveLoss(
            args.temperature,
            learn_temperature=args.learn_temperature,
            symmetric=args.symmetric,
            process_group=together,
        )
        self.validation = validation
        self.refresh = Refresh(
            args.refresh_steps,
            args.refresh_at_start,
            args.refresh_depth,
            args.refresh_skip,
            args.refresh_negatives,
            args.refresh_relative_margin,
            args.encode_batch_size,
            args.seed,
        )
        self._mined_at: int | None = None
        self._counted: list[float] = []
        super().__init__(
            Objective(model, loss),
            args,
            data_collator=_rows,
            train_dataset=range(len(data)),
            eval_dataset=validation,
            **options,
        )
        self._train_on(data)

    args: RetrieverTrainingArguments  # rather than those of transformers alone

    @property
    def trained(self) -> Objective:
        """The model and its loss, unwrapped."""
        return self.model  # type: ignore[return-value]

    # ---- a step ------------------------------------------------------------------------------

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Adds the gradients of a batch; mines negatives before, where it is time to."""
        step = self.state.global_step
        if self.refresh.due(step) and self._mined_at != step:
            self._mine(step)
        batch = self.draw.batch(inputs["rows"].cpu().numpy(), step=step)
        self._counted.append(batch.negatives())
        model.train()
        if self.args.grad_cache:
            return self._cached(model, batch)
        with self.compute_loss_context_manager():
            queries, documents, _ = model(*self.trained.tokens(batch))
        loss = self.trained.loss_of(batch, queries, documents)
        loss = loss / self.current_gradient_accumulation_steps
        self.accelerator.backward(loss)
        return loss.detach()

    def _cached(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        """Gradients are exchanged here, once: DDP would count every chunk as a step."""
        weight = 1 / self.current_gradient_accumulation_steps
        sizes = self.args.gc_q_chunk_size, self.args.gc_p_chunk_size
        with self.accelerator.no_sync(model), self.compute_loss_context_manager():
            loss = cached_step(self.trained, model, batch, sizes, weight)
        if processes.world() > 1 and self.accelerator.sync_gradients:
            processes.average_gradients(self.trained.parameters())
        return loss

    def _train_on(self, data: TrainingSet) -> None:
        args = self.args
        self.draw = Draw(
            data,
            group_size=args.train_group_size,
            seed=args.seed,
            first_positive=args.positive_passage_no_shuffle,
            first_negatives=args.negative_passage_no_shuffle,
        )

    def _mine(self, step: int) -> None:
        data = self.draw.data
        negatives = self.refresh.run(self.trained.model, data, step=step)
        self._train_on(data.with_negatives(negatives))
        self._mined_at = step

    # ---- measures ----------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Measures of the validation, such as "eval_nDCG@10", logged and given back."""
        validation = self.validation if eval_dataset is None else eval_dataset
        if not isinstance(validation, Validation):
            raise ValueError(
                "RetrieverTrainer.evaluate: there is no Validation; give one to the trainer"
            )
        found = validation.run(self.trained.model)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what batches were like since the last time."""
        if "loss" in logs and self._counted:
            logs["n_negatives"] = round(math.fsum(self._counted) / len(self._counted), 2)
            self._counted.clear()
            if self._mined_at is not None:
                logs["negatives_age"] = self.state.global_step - self._mined_at
        super().log(logs, start_time)

    # ---- checkpoints -------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self.trained.model.save_pretrained(folder / MODEL)
        safetensors.torch.save_model(self.trained, str(folder / WEIGHTS))
        if self._mined_at is not None:
            save_negatives(folder, self.draw.data.negatives, self._mined_at)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        check_resumable(folder)
        safetensors.torch.load_model(self.trained, str(folder / WEIGHTS))
        mined = load_negatives(folder)
        if mined is not None:
            negatives, self._mined_at = mined
            self._train_on(self.draw.data.with_negatives(negatives))

    def _load_best_model(self) -> None:
        folder = Path(str(self.state.best_model_checkpoint))
        safetensors.torch.load_model(self.trained, str(folder / WEIGHTS))


def _rows(rows: list[int]) -> dict[str, Tensor]:
    return {"rows": torch.tensor(rows)}
