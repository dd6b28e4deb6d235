"""Runs the study of AAR: from preferences of a source LM to the accuracy of target LMs."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..paired_comparison import compare_pairs
from ..study import NoStepStore, Reporter, StepStore
from .aar_analyses import DELETION_QUESTIONS, adaptive_values, deleted_answers, passage_sweep
from .aar_result import (
    ADAPTIVE,
    CLOSED_BOOK,
    GOLD,
    UNADAPTED,
    AARResult,
    Overlap,
    PassageList,
    QuestionExample,
    StageTime,
    TargetAccuracy,
    TargetGain,
    TrainingCounts,
    TrainingPoint,
)
from .aar_settings import AARSettings
from .aar_stages import AARStages
from .aar_subject import AARSubject

_OVERLAP_QUESTIONS = 500  # source questions that other LMs annotate for overlaps

Values = Mapping[str, NDArray[np.float64]]  # retrieval -> [seeds, questions]


class _Clock:
    """Measures the wall time of stages; one that runs again adds to its time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - begin
            self._seconds[name] = self._seconds.get(name, 0.0) + passed

    def times(self) -> tuple[StageTime, ...]:
        return tuple(StageTime(name, seconds) for name, seconds in self._seconds.items())


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
    steps, progress, clock = steps or NoStepStore(), progress or Reporter(), _Clock()
    with clock.stage("models and data"):
        subject = _load_subject(settings, progress)
    stages = AARStages(settings, subject, steps, progress)
    source = subject.source
    progress.fact("source", f"{len(source):,} questions on {len(source.documents):,} documents")
    with clock.stage("retrieve source passages"):
        depth = min(settings.depth, len(source.documents))
        ranking = stages.ranking(
            subject.retriever, source.queries, source.documents, source.titles, depth
        )
    with clock.stage("preferences"):
        scores = stages.preferences(subject.signal, source, ranking)
        overlaps = _overlaps(stages, ranking, scores)
    for row in overlaps:
        progress.fact("overlap", f"{row.first} and {row.second} {row.overlap.mean:.2f}")
    retrievers, counts, curves = _adapt(stages, ranking, scores, clock)
    accuracies, gains = [], []
    for name in subject.tasks:
        values = _evaluate(stages, name, retrievers, clock)
        accuracies += _accuracies(name, values)
        gains += _gains(name, values)
    with clock.stage("analyses"):
        deletions = deleted_answers(stages, ranking, scores)
        sweep = passage_sweep(stages, retrievers)
    return AARResult(
        settings,
        subject.title,
        tuple(accuracies),
        _corrected(gains),
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


def _load_subject(settings: AARSettings, progress: Reporter) -> AARSubject:
    """Loads models and data; models of a world are trained, unless they were before."""
    if settings.world is not None:
        from .aar_world import world_subject

        return world_subject(settings, settings.world, progress)
    from .aar_files import file_subject

    return file_subject(settings, progress)


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
    stages: AARStages, ranking: NDArray[np.int64], scores: NDArray[np.float32], clock: _Clock
) -> tuple[dict[str, list[Any]], list[TrainingCounts], list[TrainingPoint]]:
    """Trains a retriever for each mode and seed."""
    from ...models import BiEncoder

    retrievers: dict[str, list[Any]] = {}
    counts, curves = [], []
    for mode in stages.settings.modes:
        for seed in stages.settings.seeds:
            with clock.stage("positives and negatives"):
                data, dropped = stages.training_set(mode, ranking, scores, seed)
            if seed == stages.settings.seeds[0]:
                counts.append(_count(mode, stages.subject, data, dropped))
            with clock.stage("training"):
                folder, points = stages.adapted(mode, data, seed)
            retrievers.setdefault(mode, []).append(BiEncoder.from_pretrained(folder))
            curves += [
                TrainingPoint(mode, seed, int(one["step"]), one["reciprocal_rank"], one["accuracy"])
                for one in points
            ]
            last = points[-1] if points else {}
            text = ", ".join(f"{k} {v:.3f}" for k, v in last.items() if k != "step" and v == v)
            stages.progress.fact("trained", f"{mode}, seed {seed}: {text or 'done'}")
    return retrievers, counts, curves


def _count(mode: str, subject: AARSubject, data: Any, dropped: int) -> TrainingCounts:
    total = len(data.positives.indices)
    rows = {name: row for row, name in enumerate(subject.source.query_ids)}
    human = [set(subject.source.positives.of(rows[name]).tolist()) for name in data.query_ids]
    groups = subject.source.document_groups()
    ours = sum(
        len({int(groups[d]) for d in own} & {int(groups[d]) for d in data.positives.of(row)})
        for row, own in enumerate(human)
    )
    return TrainingCounts(mode, len(data), total / len(data), 1 - ours / total, dropped)


# ---- target LMs ----------------------------------------------------------------------------------


def _evaluate(
    stages: AARStages, name: str, retrievers: Mapping[str, Sequence[Any]], clock: _Clock
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Returns for each target LM and retrieval whether answers are right: ``[seeds, n]``."""
    corpus = stages.subject.tasks[name]
    passages: dict[str, list[list[list[str]] | None]] = {CLOSED_BOOK: [None]}
    with clock.stage("retrieve for tasks"):
        models = {UNADAPTED: [stages.subject.retriever], **retrievers}
        for retrieval, some in models.items():
            passages[retrieval] = [stages.retrieved(corpus, model) for model in some]
    if corpus.gold is not None:
        passages[GOLD] = [corpus.gold]
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for label, target in stages.subject.targets.items():
        with clock.stage(f"answers of {label}"):
            found[label] = {
                retrieval: np.stack([stages.answers(target, corpus, own) for own in lists])
                for retrieval, lists in passages.items()
            }
            adaptive = adaptive_values(stages, corpus, target, found[label])
            if adaptive is not None:
                found[label][ADAPTIVE] = adaptive[None]
        means = ", ".join(f"{key} {value.mean():.3f}" for key, value in found[label].items())
        stages.progress.fact("accuracy", f"{label} on {name}: {means}")
    return found


def _accuracies(name: str, found: Mapping[str, Values]) -> list[TargetAccuracy]:
    from ...evaluate import bootstrap

    return [
        TargetAccuracy(
            name,
            target,
            retrieval,
            bootstrap(values.mean(0)),
            tuple(values.mean(1).tolist()),
            values.shape[1],
        )
        for target, own in found.items()
        for retrieval, values in own.items()
    ]


def _gains(name: str, found: Mapping[str, Values]) -> list[tuple[tuple[str, str, str], Any]]:
    """Returns accuracies of adapted retrievers and of the un-adapted one, averaged over seeds."""
    fixed = (CLOSED_BOOK, UNADAPTED, ADAPTIVE, GOLD)
    return [
        ((name, target, retrieval), (values.mean(0), own[UNADAPTED].mean(0)))
        for target, own in found.items()
        for retrieval, values in own.items()
        if retrieval not in fixed
    ]


def _corrected(gains: Sequence[tuple[tuple[str, str, str], Any]]) -> tuple[TargetGain, ...]:
    """Compares all pairs together, as their p values are corrected over all of them."""
    compared = compare_pairs({"\t".join(key): pair for key, pair in gains})
    return tuple(TargetGain(*key, one) for (key, _), one in zip(gains, compared, strict=True))


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
    after = stages.ranking(adapted[0], some.queries, source.documents, source.titles, width)
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
    from .target_costs import answer_costs, retrieval_cost

    corpus = next(iter(stages.subject.tasks.values()))
    passages = stages.retrieved(corpus, stages.subject.retriever)
    answers = answer_costs(stages.subject.targets, corpus.task.prompts(), passages)
    found = {"retriever, a query": retrieval_cost(stages.subject.retriever, corpus.task.queries())}
    found |= {f"{target}, an answer": value for target, value in answers.items()}
    return {label: value for label, value in found.items() if value == value}
