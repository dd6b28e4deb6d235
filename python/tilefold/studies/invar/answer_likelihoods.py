"""Scores the passages of training questions by the likelihood of answers, once for a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of
from ..study import StepStore
from ..training_digest import digest_of_training
from .invar_subject import InvarSubject

if TYPE_CHECKING:
    import torch

    from ...data import TrainingSet


@dataclass(frozen=True)
class AnswerLikelihoods:
    """The teacher of alignment likelihood (A3): the language model without adapters.

    All variants and seeds have the same scores, as these depend on no training.

    Args:
        subject: names the model, and has the template of prompts.
        model_digest: of the model and its precision.
        steps: keeps the scores.
        dtype: precision of the model.
        batch_size: prompts in a forward pass.
        progress: whether to show progress on stderr.
    """

    subject: InvarSubject
    model_digest: Sequence[str]
    steps: StepStore
    dtype: torch.dtype
    batch_size: int
    progress: bool = False
    _found: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict, init=False)

    def scored(self, data: TrainingSet) -> TrainingSet:
        """Returns data with teacher scores of positives and negatives.

        They are computed unless an earlier training did, or an earlier run whose steps are kept:
        then no model is loaded.

        Args:
            data: training questions with answers, and with candidates as negatives.

        Raises:
            ValueError: a question without an answer; a prompt that is too long for the model.
        """
        answers = [list(own) for own in data.answers]
        template = self.subject.template
        depends = [*self.model_digest, template, *digest_of_training(data), answers]
        key = digest_of(depends)
        if key not in self._found:  # a store may keep nothing
            self._found[key] = self.steps.once(
                "likelihoods of answers", depends, lambda: self._computed(data)
            )
        found = self._found[key]
        return replace(data, positive_scores=found["positives"], negative_scores=found["negatives"])

    def _computed(self, data: TrainingSet) -> dict[str, NDArray[Any]]:
        from ...invar import likelihood_teacher
        from ...models import CausalLM

        found = likelihood_teacher(
            CausalLM.from_pretrained(self.subject.model, dtype=self.dtype),
            data,
            template=self.subject.template,
            batch_size=self.batch_size,
            progress="likelihoods of answers" if self.progress else False,
        )
        return {
            "positives": np.asarray(found.positive_scores),
            "negatives": np.asarray(found.negative_scores),
        }
