"""Runs the study of Invar-RAG: from coarse candidates to answers from retrieved passages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..question_groups import question_groups
from ..stage_clock import StageClock
from ..study import NoStepStore, Reporter, StepStore
from .coarse_candidates import coarse_candidates
from .invar_result import (
    BM25,
    COARSE,
    ORIGINAL,
    RERANKED,
    REWRITES,
    UNTRAINED,
    InvarResult,
    LossPoint,
    Measured,
    SweepPoint,
)
from .invar_settings import InvarSettings
from .invar_subject import InvarSubject
from .ranking_strips import ranking_strips
from .retriever_settings import FULL, Variant
from .stage_1 import Stage1
from .starting_model import model_fingerprint, starting_retriever, trained_retriever
from .system_comparisons import Values, answer_differences, retriever_differences, system_means
from .trained_generators import TrainedGenerators
from .trained_retrievers import TrainedRetrievers
from .view_rankings import (
    RECIPROCAL,
    VARIANCE,
    QuestionViews,
    ViewRankings,
    measure_rankings,
    measure_robustness,
    rank_by_words,
    rank_views,
)

if TYPE_CHECKING:
    from ...models import BiEncoder


def run_invar(
    settings: InvarSettings,
    *,
    steps: StepStore | None = None,
    progress: Reporter | None = None,
) -> InvarResult:
    """Trains a language model as an invariant retriever, then to answer from what it retrieves.

    Stage 1 trains an adapter by a contrastive loss, the alignment to a coarse encoder, and the
    invariance loss over rewrites and context windows; the variants leave a part out. Every one is
    measured on the questions of a test, on rewrites that no training has seen, and in other
    windows. Stage 2 trains another adapter to answer from the passages of the full retriever.

    Args:
        settings: models, data and training.
        steps: keeps every stage, so that a run that was stopped continues.
        progress: receives reports.

    Raises:
        OSError: no such file or model.
        ValueError: data that cannot be read, or that lack rewrites.

    Example:
        >>> result = run_invar(InvarSettings(world="tiny", seeds=[0]))  # doctest: +SKIP
        >>> result.comparisons[0].comparison.p  # doctest: +SKIP
        0.004
    """
    run = _Run(settings, steps or NoStepStore(), progress or Reporter())
    with run.clock.stage("models and data"):
        run.load()
    with run.clock.stage("coarse candidates"):
        options = {"batch_size": settings.batch_size, "progress": run.progress.bars}
        coarse = coarse_candidates(run.subject, settings, run.steps, **options)
    found = run.baselines()
    retrievers = TrainedRetrievers(
        run.subject, settings, coarse, run.model_digest, run.steps, run.progress
    )
    for variant in settings.variants:
        for seed in settings.seeds:
            run.add(found, variant, run.stage(variant, seed), retrievers)
    sweep = run.sweep(retrievers)
    generation = run.generation()
    with run.clock.stage("statistics"):
        retrieval, robustness = run.measured(found)
        comparisons = retriever_differences(found, settings.variants)
        gains = answer_differences(generation)
        strips = ranking_strips(run.subject, run.rankings, settings.examples, settings.cutoff)
    return InvarResult(
        settings,
        run.subject.title,
        retrieval,
        robustness,
        comparisons,
        system_means(generation, one_condition=True),
        gains,
        tuple(run.curves),
        strips,
        sweep,
        run.subject.counts,
        run.clock.times(),
        run.groups.description,
    )


@dataclass
class _Run:
    """State of a run: models, data, and what was found so far."""

    settings: InvarSettings
    steps: StepStore
    progress: Reporter
    clock: StageClock = field(default_factory=StageClock)
    curves: list[LossPoint] = field(default_factory=list)
    rankings: dict[str, ViewRankings] = field(default_factory=dict)  # of the first seed
    # Retrievers by variant and seed.
    folders: dict[tuple[str, int], Path] = field(default_factory=dict)

    def load(self) -> None:
        from ...retrieval.bm25 import Bm25

        Bm25([])  # raises where its package is missing, before models are trained
        settings = self.settings
        if settings.world is not None:
            from .invar_world import invar_world_subject

            self.subject: InvarSubject = invar_world_subject(
                settings, settings.world, self.progress
            )
        else:
            from .invar_files import invar_file_subject

            self.subject = invar_file_subject(settings, self.progress)
        self._check_answers()
        self.model_digest = model_fingerprint(self.subject, settings)
        self.views = QuestionViews(self.subject.test, self.subject.unseen, settings.windows)
        self.groups = question_groups(self.subject.test.positives)
        counts = ", ".join(f"{value:,} {name}" for name, value in self.subject.counts.items())
        self.progress.fact("data", f"{counts}, {len(self.subject.test.documents):,} documents")

    def baselines(self) -> dict[str, list[Values]]:
        """Measures BM25, retrievers that are not trained here, and the model before training."""
        from ...models.model_record import open_model

        found: dict[str, list[Values]] = {}
        with self.clock.stage("baselines"):
            self._measure(found, BM25, rank_by_words(self.views, steps=self.steps))
            # With alignment likelihood, the temperature is that of another teacher.
            is_teacher = self.settings.alignment != "likelihood"
            temperature = self.settings.coarse_temperature if is_teacher else None
            coarse = self._ranked(self.subject.coarse, temperature)
            self._measure(found, COARSE, coarse)
            for name, folder in self.subject.baselines.items():
                self._measure(found, name, self._ranked(open_model(folder), None))
            plain = starting_retriever(
                self.subject, self.settings, self.settings.seeds[0], adapter=False
            )
            self._measure(found, UNTRAINED, self._ranked(plain, self.settings.temperature))
        return found

    def stage(self, variant: Variant, seed: int) -> Stage1:
        """Returns the training of a variant."""
        settings = self.settings
        weights = settings.alignment_weight, settings.invariance_weight
        return Stage1(variant, seed, *weights, settings.n_views)

    def add(
        self,
        found: dict[str, list[Values]],
        name: str,
        stage: Stage1,
        retrievers: TrainedRetrievers,
    ) -> None:
        """Trains and measures a retriever."""
        with self.clock.stage("stage 1"):
            folder, points = retrievers.trained(stage)
        for point in points:
            losses = {key: value for key, value in point.items() if key != "step"}
            if name in self.settings.variants:
                self.curves.append(LossPoint(name, stage.seed, int(point["step"]), losses))
        if name == stage.variant:
            self.folders[stage.variant, stage.seed] = folder
        with self.clock.stage("rank"):
            model = trained_retriever(self.subject, self.settings, folder)
            depth = self.settings.rerank_depth if name == FULL else 0
            candidates = self.rankings[COARSE].ids[..., :depth] if depth else None
            ranked = self._ranked(model, self.settings.temperature, candidates)
            self._measure(found, name, ranked)
            if ranked.reranked is not None:
                self._measure(found, RERANKED, ViewRankings(ranked.reranked))

    def sweep(self, retrievers: TrainedRetrievers) -> tuple[SweepPoint, ...]:
        """Trains the full retriever with other weights and numbers of rewrites, first seed."""
        from ...evaluate import bootstrap

        settings = self.settings
        full = self.stage(FULL, settings.seeds[0])
        stages = {
            ("weight of the invariance loss", value): replace(full, invariance_weight=value)
            for value in sorted({*settings.sweep_weights, settings.invariance_weight})
            if settings.sweep_weights
        }
        stages |= {
            ("rewrites in a step", float(value)): replace(full, n_views=value)
            for value in sorted({*settings.sweep_views, settings.n_views})
            if settings.sweep_views
        }
        points = []
        for (name, value), stage in stages.items():
            found: dict[str, list[Values]] = {}
            self.add(found, f"{name} {value:g}", stage, retrievers)
            (values,) = next(iter(found.values()))
            for key in ((REWRITES, RECIPROCAL), (REWRITES, VARIANCE)):
                if key in values:
                    label = f"{key[1]}, {key[0]}"
                    points.append(SweepPoint(name, value, label, bootstrap(values[key])))
        return tuple(points)

    def generation(self) -> dict[str, list[Values]]:
        """Trains and measures generators for each seed; nothing where there are no answers."""
        variants = self.settings.generator_variants
        if not (variants and self.has_answers):
            return {}
        trained = TrainedGenerators(
            self.subject, self.settings, self.model_digest, self.steps, self.clock, self.progress
        )
        found: dict[str, list[Values]] = {}
        for variant, seed in itertools.product(variants, self.settings.seeds):
            values = self.groups.means(trained.values(self.folders[variant, seed], variant, seed))
            for system in dict.fromkeys(key[0] for key in values):
                own = {key: value for key, value in values.items() if key[0] == system}
                found.setdefault(system, []).append(own)
            exact = ", ".join(
                f"{system} {own.mean():.3f}"
                for (system, measure), own in values.items()
                if measure == "EM"
            )
            self.progress.fact("exact match", f"{variant}, seed {seed}: {exact}")
        return found

    def measured(
        self, found: Mapping[str, list[Values]]
    ) -> tuple[tuple[Measured, ...], tuple[Measured, ...]]:
        """Splits measures into those of retrieval and those of robustness."""
        rows = system_means(found)
        plain = set(measure_rankings(self.rankings[FULL], self.views))
        retrieval = tuple(row for row in rows if (row.condition, row.measure) in plain)
        return retrieval, tuple(row for row in rows if row not in retrieval)

    def _check_answers(self) -> None:
        """Looks whether stage 2, and likelihoods of answers, have the answers that they need."""
        train, test = (
            sum(not own for own in data.answers) for data in (self.subject.train, self.subject.test)
        )
        if train and self.settings.alignment == "likelihood":
            raise ValueError(
                f"InvarSettings: alignment: expected scores or representation, as {train:,} "
                "training questions have no answers, got 'likelihood'"
            )
        self.has_answers = train + test == 0
        if self.settings.generator_variants and not self.has_answers:
            self.progress.warn(
                f"Stage 2 is left out, as {train:,} training questions and {test:,} test questions "
                "have no answers."
            )

    def _options(self) -> dict[str, Any]:
        return {"batch_size": self.settings.batch_size, "progress": self.progress.bars}

    def _ranked(
        self,
        model: BiEncoder,
        temperature: float | None,
        candidates: NDArray[np.int64] | None = None,
    ) -> ViewRankings:
        return rank_views(
            model,
            self.views,
            temperature,
            candidates=candidates,
            steps=self.steps,
            **self._options(),
        )

    def _measure(self, found: dict[str, list[Values]], name: str, rankings: ViewRankings) -> None:
        values = measure_rankings(rankings, self.views)
        values |= measure_robustness(rankings, self.views, self.settings.cutoff)
        values = self.groups.means(values)
        found.setdefault(name, []).append(values)
        self.rankings.setdefault(name, rankings)
        shown = [f"{values[ORIGINAL, RECIPROCAL].mean():.3f}"]
        if (REWRITES, RECIPROCAL) in values:
            shown.append(f"{values[REWRITES, RECIPROCAL].mean():.3f} on unseen rewrites")
        self.progress.fact(RECIPROCAL, f"{name} {', '.join(shown)}")
