"""Retrievers of stage 1: their trainings, each done once, and the losses of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...files.done_once import digest_of_array
from ..resumable_training import Log
from ..study import Reporter, StepStore
from ..training_digest import digest_of_training
from .answer_likelihoods import AnswerLikelihoods
from .coarse_candidates import CoarseCandidates
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .retrieval_stage import train_retriever
from .stage_1 import Stage1, training_key
from .starting_model import precision


@dataclass(frozen=True)
class TrainedRetrievers:
    """Trains retrievers, unless an earlier run did.

    Args:
        subject: models and data.
        settings: of the study.
        coarse: embeddings and candidates of the training questions.
        model_digest: of the language model.
        steps: keeps trainings, and likelihoods of answers.
        progress: receives reports.
    """

    subject: InvarSubject
    settings: InvarSettings
    coarse: CoarseCandidates
    model_digest: Sequence[str]
    steps: StepStore
    progress: Reporter

    def trained(self, stage: Stage1) -> tuple[Path, Log]:
        """Returns the folder of a retriever, and its losses by step.

        Args:
            stage: which training.
        """
        depends = training_key(self.subject, self.settings, stage, self._digests)
        return train_retriever(
            self.subject,
            self.settings,
            self.coarse,
            stage,
            self.steps.folder(f"retriever {stage.variant} {stage.seed}", depends),
            likelihoods=self._likelihoods,
            progress=self.progress,
        )

    @cached_property
    def _likelihoods(self) -> AnswerLikelihoods:
        settings = self.settings
        options: Any = {"batch_size": settings.batch_size, "progress": self.progress.bars}
        return AnswerLikelihoods(
            self.subject, self.model_digest, self.steps, precision(settings), **options
        )

    @cached_property
    def _digests(self) -> list[Any]:
        train = self.subject.train
        digests: list[Any] = [
            *self.model_digest,
            *digest_of_training(train),
            [list(own) for own in self.subject.rewrites],
            digest_of_array(np.asarray(self.coarse.queries)),
            digest_of_array(np.asarray(self.coarse.documents)),
        ]
        if self.settings.alignment == "likelihood":
            digests += [self.subject.template, [list(own) for own in train.answers]]
        return digests
