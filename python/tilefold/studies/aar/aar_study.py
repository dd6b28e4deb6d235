"""Runs the study of AAR: from preferences of a source LM to the accuracy of target LMs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..stage_clock import StageClock
from ..study import NoStepStore, Reporter, StepStore
from .aar_analyses import DELETION_QUESTIONS, deleted_answers, passage_sweep
from .aar_result import (
    AARResult,
    Overlap,
    PassageList,
    QuestionExample,
    TrainingCounts,
    TrainingPoint,
)
from .aar_settings import AARSettings
from .aar_stages import AARStages, check_answers
from .aar_subject import AARSubject
from .target_evaluation import (
    evaluate_targets,
    paired_values,
    target_accuracies,
    target_gains,
)

if TYPE_CHECKING:
    from ...aar import PreferenceData

_OVERLAP_QUESTIONS = 500  # source questions that other LMs annotate for overlaps


def run_aar(
    settings: AARSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> AARResult:
    """Adapts a retriever to the preferences of a source LM, and measures target LMs that read it.

    The stages are those of Yu et al. (ACL 2023): retrieve passages for the source questions, score
    them with the source LM (eq. 4), merge positives (eq. 5), draw negatives (eq. 6), train (eq. 7),
    retrieve for the target tasks, and answer.

    Args:
        settings: models, data and training.
        steps: keeps every stage, so that a run that was stopped continues.
        progress: receives reports.

    Raises:
        OSError: no such file or model.
        ValueError: data that cannot be read, or no question that can be trained on.

    Example:
        >>> result = run_aar(AARSettings(world="tiny", seeds=[0]))  # doctest: +SKIP
        >>> result.gains[0].comparison.difference  # doctest: +SKIP
        Interval(mean=0.1, low=0.05, high=0.15)
    """
    steps, progress, clock = steps or NoStepStore(), progress or Reporter(), StageClock()
    with clock.stage("models and data"):
        subject = _load_subject(settings, steps, progress)
    stages = AARStages(settings, subject, steps, progress)
    source = subject.source
    check_answers(subject.signal, source)
    progress.fact("source", f"{len(source):,} questions on {len(source.documents):,} documents")
    with clock.stage("retrieve source passages"):
        depth = min(settings.depth, len(source.documents))
        queries = subject.retriever.query_texts(source.queries, source.prompts)
        ranking = stages.ranking(subject.retriever, queries, source.documents, source.titles, depth)
    with clock.stage("preferences"):
        scores = stages.preferences(subject.signal, source, ranking)
        overlaps = _overlaps(stages, ranking, scores)
    for row in overlaps:
        progress.fact("overlap", f"{row.first} and {row.second} {row.overlap.mean:.2f}")
    retrievers, counts, curves = _adapt(stages, ranking, scores, clock)
    accuracies, gains = [], []
    for name in subject.tasks:
        values = evaluate_targets(stages, name, retrievers, clock)
        accuracies += target_accuracies(name, values)
        gains += paired_values(name, values)
    with clock.stage("analyses"):
        deletions = deleted_answers(stages, ranking, scores)
        sweep = passage_sweep(stages, retrievers)
    return AARResult(
        settings,
        subject.title,
        tuple(accuracies),
        target_gains(gains),
        tuple(overlaps),
        tuple(curves),
        tuple(counts),
        deletions,
        sweep,
        _examples(stages, ranking, scores, retrievers),
        _flops(stages),
        clock.times(),
        {"overlap_questions": _OVERLAP_QUESTIONS, "deletion_questions": DELETION_QUESTIONS},
    )


def _load_subject(settings: AARSettings, steps: StepStore, progress: Reporter) -> AARSubject:
    """Loads models and data; models of a world are trained, unless they were before."""
    if settings.world is not None:
        from .aar_world import world_subject

        return world_subject(settings, settings.world, progress)
    from .aar_files import file_subject

    return file_subject(settings, steps, progress)


# ---- preferences ---------------------------------------------------------------------------------


def _overlaps(
    stages: AARStages, ranking: NDArray[np.int64], scores: NDArray[np.float32]
) -> list[Overlap]:
    """Compares the positives of people, of the source LM and of other LMs, on some questions."""
    from ...aar import overlap_matrix, preferred_passages

    source, subject = stages.subject.source, stages.subject
    rows = np.arange(len(source))
    if len(rows) > _OVERLAP_QUESTIONS:
        drawn = np.random.default_rng(stages.settings.seeds[0]).permutation(rows)
        rows = np.sort(drawn[:_OVERLAP_QUESTIONS])
    some, groups = source.take(rows), source.document_groups()
    annotated = {"source LM": scores[rows]}
    for name, signal in subject.annotators.items():
        annotated[name] = stages.preferences(signal, some, ranking[rows])
    annotators = {"human": some.positives}
    for name, own in annotated.items():
        annotators[name] = preferred_passages(
            ranking[rows], own, k=stages.settings.top_k, groups=groups
        )
    found = overlap_matrix(annotators, groups=groups)
    return [
        Overlap(
            one,
            other,
            found.between(one, other),
            int(found.n_queries[found.names.index(one), found.names.index(other)]),
        )
        for one, other in itertools.combinations(found.names, 2)
    ]


# ---- training ------------------------------------------------------------------------------------


def _adapt(
    stages: AARStages, ranking: NDArray[np.int64], scores: NDArray[np.float32], clock: StageClock
) -> tuple[dict[str, list[Any]], list[TrainingCounts], list[TrainingPoint]]:
    """Trains a retriever for each mode and seed."""
    from ...models import BiEncoder

    retrievers: dict[str, list[Any]] = {}
    counts, curves = [], []
    for mode in stages.settings.modes:
        for seed in stages.settings.seeds:
            with clock.stage("positives and negatives"):
                made = stages.training_set(mode, ranking, scores, seed)
            if seed == stages.settings.seeds[0]:
                counts.append(_count(mode, made))
            with clock.stage("training"):
                folder, points = stages.adapted(mode, made.queries.data, seed)
            retrievers.setdefault(mode, []).append(BiEncoder.from_pretrained(folder))
            curves += [
                TrainingPoint(mode, seed, int(one["step"]), one["reciprocal_rank"], one["accuracy"])
                for one in points
            ]
            last = points[-1] if points else {}
            text = ", ".join(f"{k} {v:.3f}" for k, v in last.items() if k != "step" and v == v)
            stages.progress.fact("trained", f"{mode}, seed {seed}: {text or 'done'}")
    return retrievers, counts, curves


def _count(mode: str, made: PreferenceData) -> TrainingCounts:
    """Counts questions and positives of a training set, and the share that the LM alone chose."""
    from ...aar import Origin

    chosen, merged = made
    kept = np.isin(merged.positives.owners(), chosen.rows)
    by_lm = (merged.origins[kept] & Origin.HUMAN) == 0
    n = len(chosen.data)
    return TrainingCounts(
        mode, n, float(kept.sum() / n), float(by_lm.mean()), sum(chosen.dropped.values())
    )


# ---- report --------------------------------------------------------------------------------------


def _examples(
    stages: AARStages,
    ranking: NDArray[np.int64],
    scores: NDArray[np.float32],
    retrievers: Mapping[str, Sequence[Any]],
) -> tuple[QuestionExample, ...]:
    """Draws source questions, and lists their passages by judges, the LM and both retrievers."""
    from ...aar import preferred_passages

    source, settings = stages.subject.source, stages.settings
    rng = np.random.default_rng(settings.seeds[0])
    rows = np.sort(rng.permutation(len(source))[: settings.examples])
    if not len(rows):
        return ()
    some = source.take(rows)
    width = min(settings.top_k + 1, len(source.documents))
    preferred = preferred_passages(
        ranking[rows], scores[rows], k=settings.top_k, groups=source.document_groups()
    )
    mode, adapted = list(retrievers.items())[-1]
    queries = adapted[0].query_texts(some.queries, some.prompts)
    after = stages.ranking(adapted[0], queries, source.documents, source.titles, width)
    return tuple(
        QuestionExample(
            some.queries[row],
            some.answers[row],
            (
                PassageList("human judges", _texts(source, some.positives.of(row))),
                PassageList("source LM", _texts(source, preferred.of(row))),
                PassageList("retriever before", _texts(source, ranking[rows[row], :width])),
                PassageList(f"retriever after ({mode})", _texts(source, after[row])),
            ),
        )
        for row in range(len(some))
    )


def _texts(source: Any, rows: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(
        f"{source.titles[row]}: {source.documents[row]}"
        if source.titles[row]
        else source.documents[row]
        for row in rows.tolist()
        if row >= 0
    )


def _flops(stages: AARStages) -> dict[str, float]:
    """Returns the mean FLOPs of a question of the first task: query, and answer of each LM."""
    from ...aar import GENERATED_TOKENS
    from .target_costs import answer_cost, retrieval_cost

    corpus = next(iter(stages.subject.tasks.values()))
    passages = stages.retrieved(corpus, stages.subject.retriever)
    prompts = corpus.task.prompts()
    found = {"retriever, a query": retrieval_cost(stages.subject.retriever, corpus.task.queries())}
    for name, target in stages.subject.targets.items():
        n = stages.n_read(corpus, target)
        found[f"{name}, an answer"] = answer_cost(target, prompts, [own[:n] for own in passages])
        if stages.settings.genread:
            asked = corpus.task.document_prompts()
            none: list[list[str]] = [[] for _ in asked]
            cost = answer_cost(target, asked, none, new_tokens=GENERATED_TOKENS)
            found[f"{name}, a document of {GENERATED_TOKENS} tokens"] = cost
    return {label: value for label, value in found.items() if value == value}
