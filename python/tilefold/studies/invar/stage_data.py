"""Questions of a training of stage 1, and how its batches are drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...ragged_lists import Lists
from .answer_likelihoods import AnswerLikelihoods
from .coarse_candidates import CoarseCandidates
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .stage_1 import Stage1

if TYPE_CHECKING:
    from ...data import TrainingSet
    from ...train import DrawingPolicy


def stage_data(
    subject: InvarSubject,
    settings: InvarSettings,
    coarse: CoarseCandidates,
    stage: Stage1,
    likelihoods: AnswerLikelihoods,
) -> TrainingSet:
    """Returns the questions with coarse candidates as negatives; with rewrites to augment them.

    Args:
        subject: questions and rewrites.
        settings: of the study.
        coarse: candidates of each question.
        stage: which training.
        likelihoods: the teacher of alignment likelihood.
    """
    data = subject.train
    negatives = [
        own[(own >= 0) & ~np.isin(own, data.positives.of(row))]
        for row, own in enumerate(coarse.ranking)
    ]
    data = data.with_negatives(Lists.pack(negatives))
    if stage.has_alignment and settings.alignment == "likelihood":
        data = likelihoods.scored(data)
    if stage.variant != "augmentation":
        return data
    rows = [row for row, own in enumerate(subject.rewrites) for _ in range(1 + len(own))]
    texts = [
        text
        for query, own in zip(data.queries, subject.rewrites, strict=True)
        for text in (query, *own)
    ]
    names = [f"{data.query_ids[row]}-{place}" for place, row in enumerate(rows)]
    return replace(data.take(rows), queries=texts, query_ids=names)


def stage_policy(
    data: TrainingSet,
    subject: InvarSubject,
    settings: InvarSettings,
    coarse: CoarseCandidates,
    stage: Stage1,
) -> DrawingPolicy:
    """Draws passages, and the teacher scores and views that the variant's losses need.

    Args:
        data: of `stage_data`.
        subject: rewrites.
        settings: of the study.
        coarse: embeddings of the teacher.
        stage: which training.
    """
    from ...train import Draw, DrawTeacher, DrawViews, DrawWindows

    policy: DrawingPolicy = Draw(data, group_size=settings.group_negatives + 1, seed=stage.seed)
    if stage.has_alignment and settings.alignment != "likelihood":
        queries = coarse.queries
        if len(data) > len(queries):  # rewrites have the embedding of their question
            counts = [1 + len(own) for own in subject.rewrites]
            queries = np.repeat(queries, counts, axis=0)
        policy = DrawTeacher(policy, queries, coarse.documents)
    if stage.has_invariance:
        policy = DrawViews(policy, subject.rewrites, n_views=stage.n_views, seed=stage.seed)
        if settings.training_windows:
            policy = DrawWindows(
                policy, settings.training_windows, n_views=stage.n_views, seed=stage.seed
            )
    return policy
