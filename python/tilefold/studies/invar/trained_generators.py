"""Generators over trained retrievers: their training, and the measures of their answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of_array
from ..stage_clock import StageClock
from ..study import Reporter, StepStore
from ..training_digest import digest_of_training
from .answer_measures import MEASURES, SYSTEMS, answer_measures
from .generation_stage import train_generator
from .invar_result import STAGE_2
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .retriever_settings import FULL
from .starting_model import trained_retriever
from .system_comparisons import Values

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...invar import UnifiedLM
    from ...models import BiEncoder

_TRAINING = (  # settings that the training of a generator depends on
    "n_passages",
    "gold_share",
    "max_length",
    "retrieval_in_generation",
    "generator_epochs",
    "generator_batch_size",
    "generator_learning_rate",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "lora_targets",
)


@dataclass(frozen=True)
class TrainedGenerators:
    """Trains generators and measures their answers, unless an earlier run did.

    Args:
        subject: models and data.
        settings: of the study.
        model_digest: of the language model.
        steps: keeps rankings, trainings and measures.
        clock: of the stages.
        progress: receives reports.
    """

    subject: InvarSubject
    settings: InvarSettings
    model_digest: Sequence[str]
    steps: StepStore
    clock: StageClock
    progress: Reporter

    def values(self, retriever: Path, variant: str, seed: int) -> Values:
        """Returns the measures of answers over a retriever, by system.

        Answers before stage 2 are measured with the full retriever alone.

        Args:
            retriever: folder of its adapter.
            variant: of the retriever.
            seed: of the training.
        """
        from ...invar import UnifiedLM

        with self.clock.stage("stage 2"):
            model = trained_retriever(self.subject, self.settings, retriever)
            found = self._passages(model, self.subject.train)
            folder = self._folder(model, found["ids"], variant, seed)
            whole = train_generator(
                self.subject,
                self.settings,
                retriever,
                found["ids"],
                seed,
                folder,
                progress=self.progress,
            )
        with self.clock.stage("answers"):
            measures = self._measures(
                UnifiedLM.load(whole), self._passages(model, self.subject.test), variant == FULL
            )
        return {
            (_system(system, variant), measure): measures[f"{system}\t{measure}"]
            for system, measure in itertools.product(SYSTEMS, MEASURES)
            if f"{system}\t{measure}" in measures
        }

    def _folder(
        self, model: BiEncoder, ranking: NDArray[np.int64], variant: str, seed: int
    ) -> Path:
        train = self.subject.train
        depends = [
            *self.model_digest,
            model.query_encoder.fingerprint(),
            self.subject.template,
            *digest_of_training(train),
            [list(own) for own in train.answers],
            digest_of_array(ranking),
            {name: getattr(self.settings, name) for name in _TRAINING},
            seed,
        ]
        return self.steps.folder(f"generator {variant} {seed}", depends)

    def _measures(
        self, model: UnifiedLM, found: dict[str, NDArray[Any]], baselines: bool
    ) -> dict[str, NDArray[Any]]:
        subject, settings = self.subject, self.settings
        depends = [
            model.fingerprint(),
            subject.template,
            *digest_of_training(subject.test),
            [list(own) for own in subject.test.answers],
            digest_of_array(found["ids"]),
            settings.n_passages,
            settings.max_new_tokens,
            settings.temperature,
            baselines,
        ]

        def make() -> dict[str, NDArray[Any]]:
            values = answer_measures(
                model,
                subject,
                settings,
                found["ids"],
                found["scores"],
                baselines=baselines,
                progress=self.progress.bars,
            )
            return {"\t".join(name): value for name, value in values.items()}

        return self.steps.once("answers", depends, make)

    def _passages(self, model: BiEncoder, data: TrainingSet) -> dict[str, NDArray[Any]]:
        """Returns ids and scores of the passages that a prompt of each question has."""
        k = min(self.settings.n_passages, len(data.documents))
        towers = model.query_encoder.fingerprint(), model.document_encoder.fingerprint()
        options: Any = {"batch_size": self.settings.batch_size, "progress": self.progress.bars}

        def make() -> dict[str, NDArray[Any]]:
            from ...retrieval.exact_search import search

            vectors = model.encode_documents(data.documents, data.titles, **options)
            texts = model.query_texts(data.queries, data.prompts)
            found = search(model.encode_queries(texts, **options), vectors, k)
            return {"ids": found.ids.astype(np.int64), "scores": found.scores}

        depends = [*towers, model.title_format, *digest_of_training(data), k]
        return self.steps.once("passages", depends, make)


def _system(name: str, variant: str) -> str:
    """Names a system after the variant of its retriever, if it is not the full one."""
    return name if variant == FULL else name.replace(STAGE_2, f"{STAGE_2}, {variant}")
