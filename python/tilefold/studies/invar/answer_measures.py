"""Measures the answers of a language model to the test questions, before and after stage 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .invar_result import CLOSED_BOOK, ENSEMBLE, GOLD, STAGE_2, VANILLA
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...invar import UnifiedLM

# Names in reports, and those of `evaluate_predictions`.
MEASURES = {"EM": "EM", "F1": "F1", "contains": "PopQA-relaxed"}
SYSTEMS = (CLOSED_BOOK, VANILLA, ENSEMBLE, STAGE_2, GOLD)


def answer_measures(
    model: UnifiedLM,
    subject: InvarSubject,
    settings: InvarSettings,
    ranking: NDArray[np.int64],
    scores: NDArray[np.float32],
    *,
    baselines: bool = True,
    progress: bool,
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Measures the answers to the test questions before and after stage 2.

    Args:
        model: after stage 2.
        subject: models and data.
        settings: of the study.
        ranking, scores: ``[n, k]`` documents of each test question, by the retriever of the model.
        baselines: whether to measure answers before stage 2, too.
        progress: whether to show progress on stderr.

    Returns:
        By system and measure, float64 ``[n]``.
    """
    from ...invar.generation import AnswerGenerator, PassageEnsemble

    data = subject.test
    options: dict[str, Any] = {
        "template": subject.template,
        "n_passages": settings.n_passages,
        "max_new_tokens": settings.max_new_tokens,
        "batch_size": settings.batch_size,
    }
    before, after = (AnswerGenerator(one, **options) for one in (model.plain, model.generator))
    k = min(settings.n_passages, ranking.shape[1])
    found = [[data.documents[row] for row in own] for own in ranking[:, :k].tolist()]
    gold = [[data.documents[row] for row in data.positives.of(i)[:1]] for i in range(len(data))]
    shown = "answers" if progress else False
    answers: dict[str, list[str]] = {}
    if baselines:
        ensemble = PassageEnsemble(before, temperature=settings.temperature)
        weighted = ensemble.answer(data.queries, found, scores[:, :k].tolist(), progress=shown)
        answers[CLOSED_BOOK] = before.answer(data.queries, progress=shown)
        answers[VANILLA] = before.answer(data.queries, found, progress=shown)
        answers[ENSEMBLE] = list(weighted.answers)
    answers[STAGE_2] = after.answer(data.queries, found, progress=shown)
    answers[GOLD] = after.answer(data.queries, gold, progress=shown)
    return {
        (system, name): value
        for system, own in answers.items()
        for name, value in _measures(own, data).items()
    }


def _measures(answers: Sequence[str], data: TrainingSet) -> Mapping[str, NDArray[np.float64]]:
    from ...evaluate import evaluate_predictions

    accepted = [list(own) for own in data.answers]
    found = evaluate_predictions(answers, accepted, list(MEASURES.values()))
    return {name: found[key] for name, key in MEASURES.items()}
