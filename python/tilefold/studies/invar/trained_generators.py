"""Generators over trained retrievers: their training, and the measures of their answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...files.done_once import digest_of_array
from ..stage_clock import StageClock
from ..study import Reporter, StepStore
from ..training_digest import digest_of_training
from .answer_measures import (
    MEASURES,
    SYSTEMS,
    AnswerMeasures,
    AnswerValues,
    FoundPassages,
)
from .generation_stage import train_generator
from .invar_result import STAGE_2
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .retriever_settings import FULL
from .starting_model import trained_retriever
from .system_comparisons import Values

if TYPE_CHECKING:
    from ...models import BiEncoder, CausalLM

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

        Answers before stage 2 are measured with the full retriever alone, and closed book, which
        depends on no training, for the first seed alone.

        Args:
            retriever: folder of its adapter.
            variant: of the retriever.
            seed: of the training.
        """
        from ...invar import UnifiedLM

        with self.clock.stage("stage 2"):
            model = trained_retriever(self.subject, self.settings, retriever)
            of_train, found = self._passages(model)
            folder = self._folder(model, of_train.ids, variant, seed)
            whole = train_generator(
                self.subject,
                self.settings,
                retriever,
                of_train.ids,
                seed,
                folder,
                progress=self.progress,
            )
        with self.clock.stage("answers"):
            generators = UnifiedLM.load(whole)
            values = self._before(generators.plain, found, seed) if variant == FULL else {}
            values |= self._after(generators.generator, found)
        order = list(itertools.product(SYSTEMS, MEASURES))
        return {
            (_system(system, variant), measure): values[system, measure]
            for system, measure in order
            if (system, measure) in values
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

    def _before(self, model: CausalLM, found: FoundPassages, seed: int) -> AnswerValues:
        """Measures answers of the model without adapters; closed book for the first seed alone."""
        measures, depends = self._measured_by(), [*self.model_digest, *self._prompts()]
        passages: list[Any] = [digest_of_array(found.ids), digest_of_array(found.scores)]
        passages += [self.settings.n_passages, self.settings.temperature]
        values = {}
        if seed == self.settings.seeds[0]:
            values = self._kept("closed book", depends, lambda: measures.closed_book(model))
        return values | self._kept(
            "answers before stage 2",
            [*depends, *passages],
            lambda: measures.before_stage_2(model, found),
        )

    def _after(self, model: CausalLM, found: FoundPassages) -> AnswerValues:
        measures = self._measured_by()
        depends = [model.fingerprint(), *self._prompts(), digest_of_array(found.ids)]
        return self._kept(
            "answers",
            [*depends, self.settings.n_passages],
            lambda: measures.after_stage_2(model, found),
        )

    def _measured_by(self) -> AnswerMeasures:
        return AnswerMeasures(self.subject, self.settings, self.progress.bars)

    def _prompts(self) -> list[Any]:
        """Returns what prompts without passages, and measures, depend on."""
        test, settings = self.subject.test, self.settings
        answers = [list(own) for own in test.answers]
        lengths = [settings.max_new_tokens, settings.max_length]
        return [self.subject.template, *digest_of_training(test), answers, *lengths]

    def _kept(
        self, name: str, depends: list[Any], make: Callable[[], AnswerValues]
    ) -> AnswerValues:
        """Measures answers unless an earlier run did."""
        found = self.steps.once(
            name, depends, lambda: {"\t".join(key): value for key, value in make().items()}
        )
        return {tuple(key.split("\t")): value for key, value in found.items()}  # type: ignore[misc]

    def _passages(self, model: BiEncoder) -> tuple[FoundPassages, FoundPassages]:
        """Returns the passages that prompts of training and of test questions have."""
        train, test = self.subject.train, self.subject.test
        options: Any = {"batch_size": self.settings.batch_size, "progress": self.progress.bars}
        n = self.settings.n_passages

        def make() -> dict[str, NDArray[Any]]:
            from ...retrieval.exact_search import search

            found = {}
            vectors = None
            for name, data in (("train", train), ("test", test)):
                alike = (data.documents, data.titles) == (train.documents, train.titles)
                if vectors is None or not alike:
                    vectors = model.encode_documents(data.documents, data.titles, **options)
                texts = model.query_texts(data.queries, data.prompts)
                best = search(model.encode_queries(texts, **options), vectors, min(n, len(vectors)))
                found[f"{name} ids"] = best.ids.astype(np.int64)
                found[f"{name} scores"] = best.scores
            return found

        towers = model.query_encoder.fingerprint(), model.document_encoder.fingerprint()
        digests = [*digest_of_training(train), *digest_of_training(test)]
        kept = self.steps.once("passages", [*towers, model.title_format, *digests, n], make)
        of_train, of_test = (
            FoundPassages(kept[f"{name} ids"], kept[f"{name} scores"]) for name in ("train", "test")
        )
        return of_train, of_test


def _system(name: str, variant: str) -> str:
    """Names a system after the variant of its retriever, if it is not the full one."""
    return name if variant == FULL else name.replace(STAGE_2, f"{STAGE_2}, {variant}")
