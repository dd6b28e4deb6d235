"""`transformers.Trainer` for the generator of a UnifiedLM: answers from retrieved passages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ...files.write_errors import write_errors
from ...models.passage_packing import Overflow
from ...train.checkpoints import (
    MODEL,
    WEIGHTS,
    begin_checkpoint,
    check_limit,
    check_resumable,
    check_whole,
    finish_checkpoint,
)
from ...train.trained_weights import read_weights, write_weights
from ..unified_lm import UnifiedLM
from .answer_loss import AnswerLoss, collated
from .example_prompts import example_prompts
from .generator_arguments import GeneratorTrainingArguments
from .reading_examples import ReadingExample
from .reading_template import ReadingTemplate, reading_template

GeneratorEvaluator = Callable[[UnifiedLM], Mapping[str, float]]

_BLOCK = 4096  # examples that are tokenized at a time


class GeneratorTrainer(Trainer):
    """Fine-tunes the adapter for generation on questions with passages: stage 2 of Invar-RAG.

    The loss is the mean over tokens of answers, of which the end-of-sequence token is the last;
    tokens of prompts have none. All other weights, among them the adapter for retrieval, are
    frozen: `train` compares their digest before and after. Checkpoints resume to the same bits on
    the CPU; each holds a folder ``model`` for `UnifiedLM.load`.

    Args:
        model: has an adapter for generation, which alone requires gradients from here on.
        args: arguments of the training.
        examples: to train on, of `reading_examples`.
        template: of prompts: "author", "popqa", a text with the fields {passages} and {question},
            or a `ReadingTemplate`.
        overflow: of examples that do not fit into max_length: "drop" leaves out passages, the last
            ones first and gold passages after all others, and warns with their number; "error".
        validation: examples whose loss is computed at each evaluation, as ``eval_loss``.
        evaluators: functions of the model in training that return values by name, such as exact
            match; each is logged as ``eval_<name>``. They also serve without a validation.
        **options: callbacks and others of `transformers.Trainer`.

    Raises:
        ValueError: no adapter for generation; no examples; one that is too long even without
            passages; the tokenizer has no end-of-sequence token; a limit of checkpoints that would
            remove a folder of somebody else.

    Warns:
        UserWarning: passages were left out.
    """

    args: GeneratorTrainingArguments  # narrows the type of transformers' attribute

    def __init__(
        self,
        model: UnifiedLM,
        args: GeneratorTrainingArguments,
        examples: Sequence[ReadingExample],
        *,
        template: ReadingTemplate | str = "author",
        overflow: Overflow = "drop",
        validation: Sequence[ReadingExample] | None = None,
        evaluators: Sequence[GeneratorEvaluator] = (),
        **options: Any,
    ) -> None:
        check_limit(args.output_dir, args.save_total_limit)
        for name, given in (("examples", examples), ("validation", validation)):
            if given is not None and not len(given):
                raise ValueError(f"GeneratorTrainer: {name} must have one or more, got none")
        model.train_only("generation")
        self.unified = model
        self.template = reading_template(template)
        self.evaluators = list(evaluators)
        self._validation = None
        if validation is not None:
            self._validation = example_prompts(
                model.generator, validation, self.template, overflow=overflow
            )
        super().__init__(
            AnswerLoss(model.generator),
            args,
            data_collator=partial(collated, padding=model.generator.tokenizer.pad_token_id),
            train_dataset=self._tokenized(examples, overflow),
            eval_dataset=(validation or None)
            if validation is not None
            else self.evaluators or None,
            **options,
        )

    def _tokenized(
        self, examples: Sequence[ReadingExample], overflow: Overflow
    ) -> list[dict[str, Any]]:
        generator = self.unified.generator
        prompts, answers, _ = example_prompts(generator, examples, self.template, overflow=overflow)
        found: list[dict[str, Any]] = []
        for begin in range(0, len(prompts), _BLOCK):
            end = begin + _BLOCK
            for one in generator.continuation_tokens(prompts[begin:end], answers[begin:end]):
                # Lists of Python would take nine times the memory.
                ids = np.array(one["input_ids"], np.int32)
                found.append({"input_ids": ids, "start": one["start"][0]})
        return found

    def train(self, *args: Any, **options: Any) -> Any:
        """Trains the adapter for generation, and checks that no other weight changed.

        Args:
            *args, **options: of `transformers.Trainer.train`, such as resume_from_checkpoint.

        Raises:
            RuntimeError: a weight that is frozen was changed, as by a callback.
        """
        before = self.unified.frozen_digest("generation")
        result = super().train(*args, **options)
        if self.unified.frozen_digest("generation") != before:
            raise RuntimeError(
                "GeneratorTrainer: weights outside the adapter for generation changed in training"
            )
        return result

    # ---- measures ----------------------------------------------------------------------------

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Computes and logs the loss of the validation, and the values of evaluators.

        The loss is the mean over all tokens of answers, which no batch size changes.
        """
        if self._validation is None and not self.evaluators:
            raise ValueError(
                "GeneratorTrainer.evaluate: there is neither a validation nor an evaluator"
            )
        found: dict[str, float] = {}
        if self._validation is not None:
            scores = self.unified.generator.log_likelihood(
                self._validation.prompts,
                self._validation.answers,
                append_eos=True,
                batch_size=self.args.eval_batch_size,
            )
            found["loss"] = -float(scores.sum.sum(dtype="float64")) / int(scores.tokens.sum())
        for evaluator in self.evaluators:
            values = evaluator(self.unified)
            twice = sorted(found.keys() & values.keys())
            if twice:
                raise ValueError(f"GeneratorTrainer.evaluate: two values are named {twice[0]!r}")
            found.update(values)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    # ---- checkpoints -------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        own, frozen = self._weights()
        with write_errors(folder):
            begin_checkpoint(folder)
            self.unified.save_pretrained(folder / MODEL)
            write_weights(own, frozen, folder / WEIGHTS)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        with write_errors(checkpoint):
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                finish_checkpoint(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        check_resumable(Path(resume_from_checkpoint))
        self._load_weights(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        self._load_weights(Path(str(self.state.best_model_checkpoint)))

    def _load_weights(self, folder: Path) -> None:
        check_whole(folder)
        own, frozen = self._weights()
        read_weights(own, frozen, folder / WEIGHTS, "the adapter for generation")

    def _weights(self) -> tuple[dict[str, torch.nn.Parameter], str]:
        return self.unified.weights_of("generation"), self.unified.frozen_digest("generation")
