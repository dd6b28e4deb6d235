"""Analyses beside the main table: deleted answers, passages read, adaptive retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .aar_result import UNADAPTED, DeletedAnswers, PassageSweep
from .aar_stages import AARStages

if TYPE_CHECKING:
    from ...aar import TargetLM
    from .aar_subject import TargetCorpus

DELETION_QUESTIONS = 500  # source questions at most


def deleted_answers(
    stages: AARStages, ranking: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[DeletedAnswers, ...]:
    """Measures what deleting answers from passages costs, of human judges and of the source LM.

    Args:
        stages: of the study.
        ranking, scores: of the source questions.

    Returns:
        For each target LM and source of passages; none where the source task has no answers.
    """
    from ...aar import PopqaTask, preferred_passages

    source, settings = stages.subject.source, stages.settings
    rows = np.flatnonzero([bool(own) for own in source.answers])[:DELETION_QUESTIONS]
    if not len(rows):
        return ()
    some = source.take(rows)
    task = PopqaTask.of_training_set(some)
    preferred = preferred_passages(
        ranking[rows], scores[rows], k=settings.top_k, groups=source.document_groups()
    )
    passages = {
        name: [[source.documents[row] for row in lists.of(i)] for i in range(len(some))]
        for name, lists in (("human judges", some.positives), ("source LM", preferred))
    }
    return tuple(
        _deleted(stages, name, target, label, task, own)
        for name, target in stages.subject.targets.items()
        for label, own in passages.items()
    )


def _deleted(
    stages: AARStages, name: str, target: TargetLM, label: str, task: Any, own: list[list[str]]
) -> DeletedAnswers:
    from ...aar import delete_from_passages
    from ...evaluate import bootstrap
    from .aar_subject import TargetCorpus

    without = delete_from_passages(own, task.accepted_answers())
    corpus = TargetCorpus(task, [], [])
    whole = stages.answers(target, corpus, own)
    deleted = stages.answers(target, corpus, without.passages)
    share = without.n_with_answer / without.n_passages
    return DeletedAnswers(
        target=name,
        source=label,
        with_answer=share,
        whole=bootstrap(whole),
        deleted=bootstrap(deleted),
        loss=bootstrap(whole - deleted),
        n=len(own),
    )


def passage_sweep(
    stages: AARStages, retrievers: Mapping[str, Sequence[Any]]
) -> tuple[PassageSweep, ...]:
    """Measures target LMs that read fewer or more passages, of the first seed's retrievers.

    Args:
        stages: of the study.
        retrievers: of each mode and seed.
    """
    from ...evaluate import bootstrap

    points = []
    models = {UNADAPTED: stages.subject.retriever}
    models |= {mode: some[0] for mode, some in list(retrievers.items())[-1:]}
    for task, corpus in stages.subject.tasks.items():
        for retrieval, model in models.items():
            passages = stages.retrieved(corpus, model, max(stages.settings.sweep, default=0))
            for n in stages.settings.sweep:
                some = [own[:n] for own in passages]
                for name, target in stages.subject.targets.items():
                    values = stages.answers(target, corpus, some, n_passages=n)
                    points.append(PassageSweep(task, name, retrieval, n, bootstrap(values)))
    return tuple(points)


def adaptive_values(
    stages: AARStages, corpus: TargetCorpus, target: TargetLM, values: Mapping[str, Any]
) -> NDArray[np.float64] | None:
    """Returns whether Adaptive Retrieval is right, with thresholds of the development questions.

    Args:
        stages: of the study.
        corpus: task and documents.
        target: the LM.
        values: of the test questions, closed book and with the un-adapted retriever, ``[1, n]``.

    Returns:
        ``[n]``; None where the task has no development questions, relations or popularity.
    """
    from ...aar import AnsweredQuestions, adaptive_retrieval
    from .aar_result import CLOSED_BOOK
    from .aar_subject import TargetCorpus

    if corpus.development is None or not _has_popularity(corpus.task, corpus.development):
        return None
    development = TargetCorpus(corpus.development, corpus.documents, corpus.titles)
    passages = stages.retrieved(development, stages.subject.retriever)
    own = {
        CLOSED_BOOK: stages.answers(target, development, None),
        UNADAPTED: stages.answers(target, development, passages),
    }
    test = {name: values[name][0] for name in own}

    def answered(task: Any, found: Mapping[str, NDArray[np.float64]]) -> AnsweredQuestions:
        return AnsweredQuestions(
            [question.id for question in task.questions],
            [question.relation for question in task.questions],
            [question.popularity for question in task.questions],
            found[CLOSED_BOOK],
            found[UNADAPTED],
        )

    found = adaptive_retrieval(answered(corpus.development, own), answered(corpus.task, test))
    return found.values


def _has_popularity(*tasks: Any) -> bool:
    return all(
        getattr(question, "popularity", None) is not None and question.relation is not None
        for task in tasks
        for question in task.questions
    )
