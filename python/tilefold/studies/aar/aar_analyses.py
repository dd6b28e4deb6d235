"""Baselines and analyses: GenRead, Adaptive Retrieval, deleted answers, numbers of passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .aar_result import CLOSED_BOOK, GENREAD, UNADAPTED, DeletedAnswers, PassageSweep
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


def genread_values(
    stages: AARStages, corpus: TargetCorpus, target: TargetLM
) -> NDArray[np.float64]:
    """Returns whether a target LM is right that reads a document which it wrote itself.

    Args:
        stages: of the study.
        corpus: its task.
        target: the LM.

    Returns:
        ``[n]``.
    """
    return stages.answers(target, corpus, stages.documents(target, corpus), n_passages=1)


def adaptive_values(
    stages: AARStages, corpus: TargetCorpus, target: TargetLM, values: Mapping[str, Any]
) -> NDArray[np.float64] | None:
    """Returns whether Adaptive Retrieval is right, with thresholds of the development questions.

    Questions about popular subjects are answered with GenRead, as in the paper, if the settings
    have it, and else closed book.

    Args:
        stages: of the study.
        corpus: task and documents.
        target: the LM.
        values: of the test questions by retrieval, ``[1, n]``: `UNADAPTED`, and `GENREAD` or
            `CLOSED_BOOK`.

    Returns:
        ``[n]``; None where the task has no development questions, relations or popularity.
    """
    from ...aar import AnsweredQuestions, adaptive_retrieval
    from .aar_subject import TargetCorpus

    if corpus.development is None or not _has_popularity(corpus.task, corpus.development):
        return None
    development = TargetCorpus(corpus.development, corpus.documents, corpus.titles)
    passages = stages.retrieved(development, stages.subject.retriever)
    retrieval = stages.answers(target, development, passages)
    if stages.settings.genread:
        known, parametric = GENREAD, genread_values(stages, development, target)
    else:
        known, parametric = CLOSED_BOOK, stages.answers(target, development, None)

    def answered(
        task: Any, parametric: NDArray[np.float64], retrieval: NDArray[np.float64]
    ) -> AnsweredQuestions:
        return AnsweredQuestions(
            [question.id for question in task.questions],
            [question.relation for question in task.questions],
            [question.popularity for question in task.questions],
            parametric,
            retrieval,
        )

    found = adaptive_retrieval(
        answered(corpus.development, parametric, retrieval),
        answered(corpus.task, values[known][0], values[UNADAPTED][0]),
    )
    return found.values


def _has_popularity(*tasks: Any) -> bool:
    return all(
        getattr(question, "popularity", None) is not None and question.relation is not None
        for task in tasks
        for question in task.questions
    )
