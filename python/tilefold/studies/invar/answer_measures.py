"""Measures the answers of a language model to the test questions, before and after stage 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .invar_result import CLOSED_BOOK, ENSEMBLE, GOLD, STAGE_2, VANILLA
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...invar.generation import AnswerGenerator
    from ...models import CausalLM

# Names in reports, and those of `evaluate_predictions`.
MEASURES = {"EM": "EM", "F1": "F1", "contains": "PopQA-relaxed"}
SYSTEMS = (CLOSED_BOOK, VANILLA, ENSEMBLE, STAGE_2, GOLD)
AnswerValues = dict[tuple[str, str], NDArray[np.float64]]  # system, measure -> [n]


@dataclass(frozen=True)
class FoundPassages:
    """Passages that a retriever found for n questions.

    Args:
        ids: ``[n, k]`` passages, best first.
        scores: ``[n, k]``.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class AnswerMeasures:
    """Answers test questions, and compares them with the answers of the data.

    Args:
        subject: test questions with answers, and the template of prompts.
        settings: of the study.
        progress: whether to show progress on stderr.
    """

    subject: InvarSubject
    settings: InvarSettings
    progress: bool

    def closed_book(self, model: CausalLM) -> AnswerValues:
        """Measures answers without passages.

        Args:
            model: before stage 2.
        """
        generator, shown = self._generator(model), self._shown
        return self._of({CLOSED_BOOK: generator.answer(self.subject.test.queries, progress=shown)})

    def before_stage_2(self, model: CausalLM, found: FoundPassages) -> AnswerValues:
        """Measures answers from retrieved passages: in one prompt, and as an ensemble.

        Args:
            model: before stage 2.
            found: passages of each test question.
        """
        from ...invar.generation import PassageEnsemble

        generator, queries = self._generator(model), self.subject.test.queries
        texts, shown = self._texts(found), self._shown
        scores = found.scores[:, : self.settings.n_passages].tolist()
        ensemble = PassageEnsemble(generator, temperature=self.settings.temperature)
        return self._of(
            {
                VANILLA: generator.answer(queries, texts, progress=shown),
                ENSEMBLE: ensemble.answer(queries, texts, scores, progress=shown).answers,
            }
        )

    def after_stage_2(self, model: CausalLM, found: FoundPassages) -> AnswerValues:
        """Measures answers from retrieved passages, and from a relevant one alone.

        Args:
            model: after stage 2.
            found: passages of each test question.
        """
        data, generator, shown = self.subject.test, self._generator(model), self._shown
        gold = [[data.documents[row] for row in data.positives.of(i)[:1]] for i in range(len(data))]
        return self._of(
            {
                STAGE_2: generator.answer(data.queries, self._texts(found), progress=shown),
                GOLD: generator.answer(data.queries, gold, progress=shown),
            }
        )

    @property
    def _shown(self) -> Any:
        return "answers" if self.progress else False

    def _generator(self, model: CausalLM) -> AnswerGenerator:
        from ...invar.generation import AnswerGenerator

        return AnswerGenerator(
            model,
            template=self.subject.template,
            n_passages=self.settings.n_passages,
            max_new_tokens=self.settings.max_new_tokens,
            batch_size=self.settings.batch_size,
        )

    def _texts(self, found: FoundPassages) -> list[list[str]]:
        ids = found.ids[:, : self.settings.n_passages].tolist()
        return [[self.subject.test.documents[row] for row in own] for own in ids]

    def _of(self, answers: Mapping[str, Sequence[str]]) -> AnswerValues:
        return {
            (system, name): values
            for system, own in answers.items()
            for name, values in _measures(own, self.subject.test).items()
        }


def _measures(answers: Sequence[str], data: TrainingSet) -> Mapping[str, NDArray[np.float64]]:
    from ...evaluate import evaluate_predictions

    accepted = [list(own) for own in data.answers]
    found = evaluate_predictions(answers, accepted, list(MEASURES.values()))
    return {name: found[key] for name, key in MEASURES.items()}
